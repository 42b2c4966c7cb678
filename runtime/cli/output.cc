#include "runtime/cli/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "mmap/atomic_file.h"
#include "numa/bytes.h"
#include "numa/unique_fd.h"
#include "runtime/cli/interrupt.h"

namespace stoker {
namespace {

[[noreturn]] void ThrowErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// After EAGAIN: the streams are not ours alone, and another program may have made them
// non-blocking. -1: without limit.
void WaitFor(int fd, short events, int milliseconds) {
  struct pollfd stream = {fd, events, 0};
  ::poll(&stream, 1, milliseconds);
}

}  // namespace

void TextOutput::Write(std::string_view text) {
  if (closed_ || text.empty()) return;
  last_ = text.back();
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EPIPE) {
      closed_ = true;
      return;
    } else if (errno == EAGAIN) {
      WaitFor(STDOUT_FILENO, POLLOUT, -1);
    } else if (errno != EINTR) {
      throw StdoutError(errno, std::generic_category(), "cannot write to stdout");
    }
  }
}

void ReserveStandardDescriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    // Read-only for all three: open takes the lowest free number, which is fd.
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
      [[maybe_unused]] const int opened = ::open("/dev/null", O_RDONLY);
    }
  }
}

std::string ForTerminal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      out += "\uFFFD";
    } else if (byte == 0xC2 && next >= 0x80 && next <= 0x9F) {
      out += "\uFFFD";
      ++i;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

bool StdoutIsTerminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool StderrIsTerminal() { return ::isatty(STDERR_FILENO) == 1; }

void PrintNote(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fputc('\n', stderr);
  std::fflush(stderr);
}

void WriteFileAtomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.Write(content);
  file.Commit();
}

std::string ReadTextFile(const std::string& path, size_t max_bytes) {
  const bool is_stdin = path == "-";
  UniqueFd opened;
  if (!is_stdin) {
    opened = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened.valid()) ThrowErrno("cannot open " + path);
  }
  const int fd = is_stdin ? STDIN_FILENO : opened.get();
  std::string text;
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got == 0) return text;
    if (got < 0) {
      // Not for longer: a signal that came just before would not end the wait.
      if (errno == EAGAIN) {
        WaitFor(fd, POLLIN, 100);
      } else if (errno != EINTR) {
        ThrowErrno("cannot read " + (is_stdin ? "stdin" : path));
      }
      ThrowIfInterrupted();
      continue;
    }
    if (text.size() + static_cast<size_t>(got) > max_bytes) {
      throw std::runtime_error(fmt::format("{} is longer than {}, the most this command takes",
                                           is_stdin ? "stdin" : path, FormatBytes(max_bytes)));
    }
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace stoker
