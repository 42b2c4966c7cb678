// What happens where io_uring is forbidden. Each case runs in a child process that gives up its
// right to io_uring first, by a seccomp filter or by its locked-memory limit.

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <system_error>

#include "experts/pager.h"
#include "numa/bytes.h"
#include "numa/node_buffer.h"
#include "tests/support/catch.h"
#include "tests/support/file_tree.h"

namespace stoker {
namespace {

// Makes io_uring_setup fail with `error` in this process, for good.
bool ForbidIoUring(int error) {
  const auto action = static_cast<uint32_t>(SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA));
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof(code) / sizeof(code[0]), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class CountingSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  int lines = 0;
  std::string text;

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    ++lines;
    text.assign(message.payload.data(), message.payload.size());
  }
  void flush_() override {}
};

constexpr int kGood = 0;
constexpr int kSkip = 4;

// kGood, or the number of the expectation that failed.
int CheckFallback(const PagerFile& file, const std::string& content, int error) {
  const auto sink = std::make_shared<CountingSink>();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
  const std::unique_ptr<Pager> pager = MakePager(IoBackend::kAuto, {&file, 1});
  if (pager->backend() != IoBackend::kPread) return 10;
  if (sink->lines != 1) return 11;
  if (sink->text.find(std::strerror(error)) == std::string::npos) return 12;

  const NodeBuffer buffer = NodeBuffer::Allocate(2 * kMiB, "test");
  const ReadRequest request{0, 3, content.size() - 3, buffer.data(), 0};
  pager->Submit({&request, 1});
  ReadCompletion completion;
  if (pager->Reap({&completion, 1}, true) != 1) return 13;
  if (completion.status != ReadStatus::kOk) return 14;
  if (std::memcmp(buffer.data() + 3, content.data() + 3, content.size() - 3) != 0) return 15;

  try {
    MakePager(IoBackend::kUring, {&file, 1});
    return 16;
  } catch (const std::system_error& refused) {
    if (refused.code().value() != error) return 17;
    if (std::string(refused.what()).find("--io auto") == std::string::npos) return 18;
  }
  return kGood;
}

template <typename Body>
int RunInChild(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::cerr << error.what() << "\n";
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

struct TestFile {
  TestFile() : content(1000000, 'w') {
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 251);
    tree.Write("/weights.bin", content);
    file = {tree.root() + "/weights.bin", content.size(), -1, {}};
  }
  FileTree tree;
  std::string content;
  PagerFile file;
};

TEST_CASE("io_uring forbidden by seccomp: auto reads with pread, forced fails") {
  TestFile test;
  for (const int error : {EPERM, ENOSYS}) {
    CAPTURE(error);
    const int code = RunInChild([&] {
      return ForbidIoUring(error) ? CheckFallback(test.file, test.content, error) : kSkip;
    });
    if (code == kSkip) std::cout << "skipped: seccomp filters are not possible here\n";
    if (code != kSkip) CHECK(code == kGood);
  }
}

TEST_CASE("no locked memory as an ordinary user: auto reads with pread, forced fails") {
  if (::getuid() != 0) {
    std::cout << "skipped: needs root to become another user\n";
    return;
  }
  TestFile test;
  std::filesystem::permissions(test.tree.root(), std::filesystem::perms::others_all,
                               std::filesystem::perm_options::add);
  const int code = RunInChild([&] {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) return kSkip;
    constexpr uid_t kNobody = 65534;
    if (::setresgid(kNobody, kNobody, kNobody) != 0) return kSkip;
    if (::setresuid(kNobody, kNobody, kNobody) != 0) return kSkip;
    return CheckFallback(test.file, test.content, ENOMEM);
  });
  if (code == kSkip) std::cout << "skipped: cannot give up locked memory here\n";
  if (code != kSkip) CHECK(code == kGood);
}

}  // namespace
}  // namespace stoker
