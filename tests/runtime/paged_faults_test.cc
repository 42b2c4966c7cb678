// A whole engine over a disk that fails: 16 decoded tokens, with an error on the n-th read for
// every n, short reads of every awkward length, a read that hangs for seconds, a file that is cut
// short while the engine runs. Transient faults change no bit; the others are one clear error, and
// no hang.

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "experts/pread_pager.h"
#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/fake_pager.h"
#include "tests/support/run_model.h"
#include "tests/support/synth_model.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using testing::FakeDevice;
using testing::FakePager;

constexpr int kTokens = 16;

const std::filesystem::path& Model() {
  static const test::TempDir dir;
  static const std::filesystem::path path = [] {
    testing::WriteModel(dir / "model.gguf", testing::SmallShape(), "q8_0");
    return dir / "model.gguf";
  }();
  return path;
}

EngineOptions Options(const std::filesystem::path& path, PagerFactory make_pager) {
  EngineOptions options;
  options.model_path = path;
  options.n_threads = 1;
  options.pin_threads = false;
  options.n_ctx = 32;
  options.chunk_tokens = 8;
  options.mode = MemoryMode::kPaged;
  options.need_tokenizer = false;
  options.cache_slots = 5;
  options.make_pager = std::move(make_pager);
  return options;
}

// Decodes fixed tokens one at a time; returns the logits of all.
std::vector<float> Decode(Engine& engine, int first = 0, int last = kTokens) {
  SequenceState state = engine.model().NewState(32);
  std::vector<float> logits;
  for (int i = first; i < last; ++i) {
    const int32_t id = 7 + 13 * i;
    const std::vector<float> row = testing::Run(engine, state, {&id, 1}).logits;
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

std::vector<float> DecodeOnce(const EngineOptions& options) {
  return Decode(*Engine::Open(options));
}

const std::vector<float>& Expected() {
  static const std::vector<float> logits = [] {
    EngineOptions options = Options(Model(), {});
    options.mode = MemoryMode::kResident;
    return DecodeOnce(options);
  }();
  return logits;
}

// I/Os of all pagers of an engine.
struct SharedDie {
  uint64_t io_count = 0;
};

class CountingPager final : public Pager {
 public:
  CountingPager(std::span<const PagerFile> files, const FakeDevice& device,
                const PagerOptions& options, SharedDie& die)
      : inner_(files, device, options), die_(die) {}
  ~CountingPager() override { die_.io_count += inner_.io_count(); }
  IoBackend backend() const override { return IoBackend::kPread; }
  uint64_t alignment() const override { return inner_.alignment(); }
  std::string Describe() const override { return "fake"; }
  void Submit(std::span<const ReadRequest> requests) override { inner_.Submit(requests); }
  size_t Reap(std::span<ReadCompletion> out, bool wait) override { return inner_.Reap(out, wait); }
  size_t pending() const override { return inner_.pending(); }
  void CancelQueued() override { inner_.CancelQueued(); }
  void Promote(TagRange tags) override { inner_.Promote(tags); }
  uint64_t Drop(TagRange tags) override { return inner_.Drop(tags); }
  PagerStats stats() const override { return inner_.stats(); }

 private:
  FakePager inner_;
  SharedDie& die_;
};

PagerFactory Faulty(const FakeDevice& device, SharedDie& die) {
  return [device, &die](IoBackend, std::span<const PagerFile> files, const PagerOptions& options) {
    return std::make_unique<CountingPager>(files, device, options, die);
  };
}

TEST_CASE("an error on the n-th read, for every n: once changes nothing, for good is one error") {
  SharedDie die;
  REQUIRE(DecodeOnce(Options(Model(), Faulty({}, die))) == Expected());
  const uint64_t n_reads = die.io_count;
  REQUIRE(n_reads > 60);
  uint64_t failed = 0;
  for (uint64_t n = 1; n <= n_reads; ++n) {
    CAPTURE(n, n_reads);
    REQUIRE(DecodeOnce(Options(Model(), Faulty({.fail_from = n}, die))) == Expected());
    try {
      const FakeDevice for_good{.fail_from = n, .fail_count = UINT64_MAX};
      const std::vector<float> logits = DecodeOnce(Options(Model(), Faulty(for_good, die)));
      REQUIRE(logits == Expected());
    } catch (const std::runtime_error& error) {
      const std::string message = error.what();
      REQUIRE_THAT(message, test::HasText("model.gguf: ") && test::HasText("read at offset ") &&
                                test::HasText("Input/output error"));
      ++failed;
    }
  }
  // Each pager has a count of its own, so late ones of the sum meet no fault.
  CHECK(failed > n_reads / 2);
}

TEST_CASE("short reads of every awkward length, and errors that pass, change no bit") {
  SharedDie die;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    FakeDevice device;
    device.seed = seed;
    device.short_rate = 0.5;
    device.transient_rate = 0.1;
    device.empty_rate = 0.01;
    CHECK(DecodeOnce(Options(Model(), Faulty(device, die))) == Expected());
  }
}

TEST_CASE("with several nodes a token waits for the parts of all") {
  SharedDie die;
  for (const char* nodes : {"virtual:2", "virtual:3,1"}) {
    for (const bool eager : {false, true}) {
      CAPTURE(nodes, eager);
      EngineOptions options = Options(Model(), Faulty({.eager = eager, .depth = 2}, die));
      options.n_threads = 2;
      options.numa = ParseNumaChoice(nodes);
      CHECK(DecodeOnce(options) == Expected());
    }
  }
}

TEST_CASE("a read that hangs for five seconds is waited for") {
  std::atomic<int> countdown{40};
  const PagerFactory factory = [&](IoBackend, std::span<const PagerFile> files,
                                   const PagerOptions& options) -> std::unique_ptr<Pager> {
    return std::make_unique<PreadPager>(
        OpenFiles::Open(files, false), options,
        [&](int fd, void* buffer, size_t bytes, off_t offset) {
          if (--countdown == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5050));
          return ::pread(fd, buffer, bytes, offset);
        });
  };
  const auto start = std::chrono::steady_clock::now();
  CHECK(DecodeOnce(Options(Model(), factory)) == Expected());
  CHECK(std::chrono::steady_clock::now() - start > std::chrono::seconds(5));
}

TEST_CASE("a file cut short under the running engine is an error that says so") {
  for (const IoBackend io : {IoBackend::kUring, IoBackend::kPread, IoBackend::kMapped}) {
    CAPTURE(IoBackendName(io));
    const test::TempDir dir;
    std::filesystem::copy_file(Model(), dir / "model.gguf");
    EngineOptions options = Options(dir / "model.gguf", {});
    options.io = io;
    std::unique_ptr<Engine> engine;
    try {
      engine = Engine::Open(options);
    } catch (const std::exception& error) {
      WARN("skipped: " << error.what());
      continue;
    }
    CHECK(Decode(*engine, 0, 4).size() == 4U * 512U);
    std::filesystem::resize_file(dir / "model.gguf",
                                 std::filesystem::file_size(dir / "model.gguf") / 8);
    CHECK_THROWS_WITH(Decode(*engine), test::HasText("truncated since it was opened"));
  }
}

}  // namespace
}  // namespace stoker
