#include "experts/read_queue.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kPiece = 64 * 1024;

// A queue of one file on one device, and one request of `bytes` at `offset`.
PagerOptions Options(uint32_t max_requests) {
  return {.piece_bytes = kPiece, .waiting_depth = 2, .max_requests = max_requests};
}

struct Fixture {
  explicit Fixture(uint64_t offset, uint64_t bytes) : queue({{{0, 0}}}, kAlignment, Options(4), 4) {
    queue.Push({0, offset, bytes, Destination(), 77});
  }
  static std::byte* Destination() { return reinterpret_cast<std::byte*>(uintptr_t{1} << 20); }
  ReadCompletion Completion() {
    ReadCompletion completion;
    REQUIRE(queue.PopCompletion(&completion));
    return completion;
  }
  ReadQueue queue;
};

TEST_CASE("a request is cut into aligned pieces that cover it once") {
  const uint64_t offset = 3 * kAlignment + 5;
  const uint64_t bytes = 3 * kPiece;
  Fixture f(offset, bytes);
  std::vector<ReadPiece*> pieces;
  while (ReadPiece* piece = f.queue.Take(0)) pieces.push_back(piece);
  REQUIRE(pieces.size() == 4);
  uint64_t at = 3 * kAlignment;
  uint64_t required = 0;
  for (const ReadPiece* piece : pieces) {
    CHECK(piece->offset == at);
    CHECK(piece->length % kAlignment == 0);
    CHECK(piece->destination == f.Destination() + (at - 3 * kAlignment));
    at += piece->length;
    required += piece->required;
  }
  CHECK(at >= offset + bytes);
  CHECK(at < offset + bytes + kAlignment);
  CHECK(required == bytes + 5);  // from the first aligned byte on
  for (ReadPiece* piece : pieces) {
    CHECK(f.queue.pending() == 1);
    CHECK_FALSE(f.queue.has_completion());
    CHECK(f.queue.Advance(*piece, static_cast<int64_t>(piece->required)) ==
          ReadQueue::Step::kFinished);
  }
  CHECK(f.Completion().status == ReadStatus::kOk);
  CHECK(f.queue.pending() == 0);
}

TEST_CASE("a short read goes on from the aligned place below its end") {
  Fixture f(0, kPiece);
  ReadPiece* piece = f.queue.Take(0);
  CHECK(f.queue.Advance(*piece, 10000) == ReadQueue::Step::kAgain);
  CHECK(piece->next_offset() == 8192);
  CHECK(piece->next_destination() == f.Destination() + 8192);
  CHECK(piece->next_length() == kPiece - 8192);
  CHECK(f.queue.Advance(*piece, 511) == ReadQueue::Step::kLater);
  CHECK(piece->next_offset() == 8192);
  CHECK(f.queue.Advance(*piece, static_cast<int64_t>(kPiece - 8192)) ==
        ReadQueue::Step::kFinished);
  CHECK(f.Completion().status == ReadStatus::kOk);
  CHECK(f.queue.stats().short_reads == 2);
}

TEST_CASE("bytes beyond the extent need not arrive") {
  Fixture f(0, 4097);
  ReadPiece* piece = f.queue.Take(0);
  CHECK(piece->length == 8192);
  CHECK(f.queue.Advance(*piece, 4096) == ReadQueue::Step::kAgain);
  CHECK(f.queue.Advance(*piece, 1) == ReadQueue::Step::kFinished);
  CHECK(f.Completion().status == ReadStatus::kOk);
}

// Answers `result` until the piece gives up; returns the number of attempts.
int Exhaust(Fixture& f, int64_t result) {
  ReadPiece* piece = f.queue.Take(0);
  for (int attempts = 1; attempts < 1000; ++attempts) {
    if (f.queue.Advance(*piece, result) == ReadQueue::Step::kFinished) return attempts;
    CHECK(piece->backoff.count() > 0);
    CHECK(piece->backoff <= std::chrono::milliseconds(110));
  }
  return 1000;
}

TEST_CASE("attempts without progress are bounded and named") {
  Fixture f(100, 5000);
  SECTION("nothing arrives") {
    CHECK(Exhaust(f, 0) == 4);
    const ReadCompletion completion = f.Completion();
    CHECK(completion.status == ReadStatus::kShrank);
    CHECK(completion.offset == 100);
    CHECK(completion.tag == 77);
  }
  SECTION("less than a sector, for ever") {
    CHECK(Exhaust(f, 511) == 16);
    CHECK(f.Completion().status == ReadStatus::kShrank);
  }
  SECTION("a starved device") {
    CHECK(Exhaust(f, -EAGAIN) == 60);
    const ReadCompletion completion = f.Completion();
    CHECK(completion.status == ReadStatus::kError);
    CHECK(completion.error == EAGAIN);
  }
  SECTION("a bad sector") {
    CHECK(Exhaust(f, -EIO) == 3);
    CHECK(f.Completion().error == EIO);
  }
  SECTION("an error that retrying cannot mend") {
    CHECK(Exhaust(f, -EINVAL) == 1);
    CHECK(f.Completion().error == EINVAL);
  }
  CHECK(f.queue.pending() == 0);
  CHECK(f.queue.stats().failed == 1);
}

TEST_CASE("attempts of different kinds are counted apart") {
  Fixture f(0, kPiece);
  ReadPiece* piece = f.queue.Take(0);
  for (const int64_t result : {0L, -1L * EAGAIN, 511L, -1L * EIO, 0L, -1L * EIO, 0L, 1L}) {
    CHECK(f.queue.Advance(*piece, result) == ReadQueue::Step::kLater);
  }
  CHECK(f.queue.Advance(*piece, kPiece) == ReadQueue::Step::kFinished);
  CHECK(f.Completion().status == ReadStatus::kOk);
}

TEST_CASE("progress resets the count of attempts") {
  Fixture f(0, kPiece);
  ReadPiece* piece = f.queue.Take(0);
  for (uint64_t done = 0; done + kAlignment < kPiece; done += kAlignment) {
    CHECK(f.queue.Advance(*piece, -EIO) == ReadQueue::Step::kLater);
    CHECK(f.queue.Advance(*piece, -EIO) == ReadQueue::Step::kLater);
    CHECK(f.queue.Advance(*piece, kAlignment) == ReadQueue::Step::kAgain);
  }
  CHECK(f.queue.Advance(*piece, kAlignment) == ReadQueue::Step::kFinished);
  CHECK(f.Completion().status == ReadStatus::kOk);
}

TEST_CASE("a failed request completes only when none of its pieces is in flight") {
  Fixture f(0, 4 * kPiece);
  ReadPiece* first = f.queue.Take(0);
  ReadPiece* second = f.queue.Take(0);
  CHECK(f.queue.Advance(*first, -EINVAL) == ReadQueue::Step::kFinished);
  CHECK_FALSE(f.queue.has_completion());
  CHECK(f.queue.Take(0) == nullptr);  // the rest is not worth reading
  CHECK(f.queue.Advance(*second, 4096) == ReadQueue::Step::kFinished);
  CHECK(f.Completion().error == EINVAL);
}

TEST_CASE("cancelling forgets what has not started and waits for the rest") {
  Fixture f(0, 4 * kPiece);
  f.queue.Push({0, 0, kPiece, f.Destination(), 78});
  ReadPiece* first = f.queue.Take(0);
  f.queue.Cancel();
  CHECK(f.queue.Take(0) == nullptr);
  ReadCompletion completion = f.Completion();
  CHECK(completion.tag == 78);
  CHECK(completion.status == ReadStatus::kCancelled);
  CHECK_FALSE(f.queue.has_completion());
  CHECK(f.queue.Advance(*first, kPiece) == ReadQueue::Step::kFinished);
  CHECK(f.Completion().status == ReadStatus::kCancelled);
  CHECK(f.queue.stats().failed == 0);
}

TEST_CASE("files are read from their own device, mirrors from any") {
  ReadQueue queue({{{0, 0}}, {{1, 1}}, {{2, 0}, {3, 1}}}, kAlignment, Options(8), 8);
  queue.Push({0, 0, kPiece, Fixture::Destination(), 0});
  queue.Push({1, 0, kPiece, Fixture::Destination(), 1});
  queue.Push({2, 0, 2 * kPiece, Fixture::Destination(), 2});
  CHECK(queue.n_devices() == 2);
  CHECK(queue.Take(1)->handle == 1);
  CHECK(queue.Take(0)->handle == 0);
  CHECK(queue.Take(1)->handle == 3);
  CHECK(queue.Take(0)->handle == 2);
  CHECK(queue.Take(0) == nullptr);
}

TEST_CASE("what one copy fails at goes on from the next, and fails when all have") {
  ReadQueue queue({{{0, 0}, {1, 1}, {2, 2}}}, kAlignment, Options(8), 8);
  queue.Push({0, 0, kPiece, Fixture::Destination(), 5});
  ReadPiece* const piece = queue.Take(1);
  REQUIRE(piece != nullptr);
  CHECK(queue.Advance(*piece, kAlignment) == ReadQueue::Step::kAgain);
  CHECK(queue.Advance(*piece, -ENODEV) == ReadQueue::Step::kElsewhere);
  CHECK(piece->handle == 2);
  CHECK(piece->next_offset() == kAlignment);  // what has arrived stays
  CHECK(queue.Advance(*piece, -ENODEV) == ReadQueue::Step::kElsewhere);
  CHECK(piece->handle == 0);
  CHECK(queue.stats().failovers == 2);
  CHECK(queue.Advance(*piece, -ENODEV) == ReadQueue::Step::kFinished);
  ReadCompletion completion;
  REQUIRE(queue.PopCompletion(&completion));
  CHECK(completion.status == ReadStatus::kError);
  CHECK(completion.error == ENODEV);
  CHECK(queue.stats().failed == 1);
}

TEST_CASE("time counts as reading while anything is in flight") {
  ReadQueue queue({{{0, 0}}}, kAlignment, Options(8), 8);
  queue.Push({0, 0, 2 * kPiece, Fixture::Destination(), 10});
  ReadPiece* first = queue.Take(0);
  ReadPiece* second = queue.Take(0);
  REQUIRE(second != nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  queue.Advance(*first, kPiece);
  CHECK(queue.stats().reading_ns == 0);  // not over yet
  queue.Advance(*second, kPiece);
  const uint64_t reading = queue.stats().reading_ns;
  CHECK(reading >= 2'000'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK(queue.stats().reading_ns == reading);
}

TEST_CASE("likely pieces wait for an idle device, and are not counted") {
  ReadQueue queue({{{0, 0}}}, kAlignment, Options(8), 8);
  queue.Push({0, 0, 4 * kPiece, Fixture::Destination(), 10, ReadUrgency::kLikely});
  queue.Push({0, 0, kPiece, Fixture::Destination(), 20});
  ReadPiece* demanded = queue.Take(0);
  REQUIRE(demanded != nullptr);
  CHECK_FALSE(demanded->speculative);
  CHECK(queue.Take(0) == nullptr);
  queue.Advance(*demanded, kPiece);
  for (int i = 0; i < 4; ++i) {
    ReadPiece* piece = queue.Take(0);
    REQUIRE(piece != nullptr);
    CHECK(piece->speculative);
  }
  CHECK(queue.Take(0) == nullptr);
}

TEST_CASE("speculative pieces wait for an idle device, a few at a time, and can be promoted") {
  ReadQueue queue({{{0, 0}}}, kAlignment, Options(8), 8);
  queue.Push({0, 0, 4 * kPiece, Fixture::Destination(), 10, ReadUrgency::kGuessed});
  queue.Push({0, 0, kPiece, Fixture::Destination(), 20});
  ReadPiece* demanded = queue.Take(0);
  REQUIRE(demanded != nullptr);
  CHECK_FALSE(demanded->speculative);
  CHECK(queue.Take(0) == nullptr);  // the device is busy
  queue.Advance(*demanded, kPiece);
  ReadPiece* first = queue.Take(0);
  REQUIRE(first != nullptr);
  CHECK(first->speculative);
  REQUIRE(queue.Take(0) != nullptr);
  CHECK(queue.Take(0) == nullptr);  // two are the limit
  SECTION("demand does not wait for them") {
    queue.Push({0, 0, kPiece, Fixture::Destination(), 21});
    ReadPiece* next = queue.Take(0);
    REQUIRE(next != nullptr);
    CHECK_FALSE(next->speculative);
  }
  SECTION("promoted, the rest comes as demanded") {
    queue.Promote({10, 1});
    ReadPiece* third = queue.Take(0);
    REQUIRE(third != nullptr);
    CHECK_FALSE(third->speculative);
    CHECK(third->offset == 2 * kPiece);
    CHECK(queue.Take(0) != nullptr);
    CHECK(queue.Take(0) == nullptr);
  }
  SECTION("dropped, the rest never comes, and what is in flight is said") {
    CHECK(queue.Drop({11, 5}) == 0);
    CHECK(queue.Drop({10, 1}) == 2 * kPiece);
    CHECK(queue.Take(0) == nullptr);
    queue.Advance(*first, kPiece);
    queue.Advance(queue.piece(first->index == 0 ? 1 : 0), kPiece);
    ReadCompletion completion;
    REQUIRE(queue.PopCompletion(&completion));
    REQUIRE(queue.PopCompletion(&completion));
    CHECK(completion.tag == 10);
    CHECK(completion.status == ReadStatus::kCancelled);
    CHECK(completion.bytes == 2 * kPiece);
  }
}

}  // namespace
}  // namespace stoker
