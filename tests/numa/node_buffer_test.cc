#include "numa/node_buffer.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "numa/bytes.h"
#include "numa/thread_team.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

bool IsZero(const NodeBuffer& buffer) {
  return std::all_of(buffer.span().begin(), buffer.span().end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

TEST_CASE("memory is zero, of the size asked for, aligned to its page") {
  for (const size_t bytes :
       {size_t{1}, size_t{4097}, size_t{kMiB}, size_t{kMiB + 1}, size_t{5 * kMiB + 7}}) {
    CAPTURE(bytes);
    NodeBuffer buffer = NodeBuffer::Allocate(bytes, "test buffer");
    REQUIRE(buffer.data() != nullptr);
    CHECK(buffer.size() == bytes);
    const uintptr_t page = bytes > kMiB ? 2 * kMiB : 4 * kKiB;
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % page == 0);
    CHECK(IsZero(buffer));
    std::memset(buffer.data(), 0x5a, buffer.size());
  }
}

TEST_CASE("an empty buffer is no mapping") {
  const NodeBuffer buffer = NodeBuffer::Allocate(0, "nothing");
  CHECK(buffer.data() == nullptr);
  CHECK(buffer.span().empty());
}

TEST_CASE("moving hands the memory over") {
  NodeBuffer first = NodeBuffer::Allocate(100, "first");
  std::byte* const data = first.data();
  NodeBuffer second = std::move(first);
  CHECK(second.data() == data);
  CHECK(first.data() == nullptr);  // NOLINT(bugprone-use-after-move)
  NodeBuffer third = NodeBuffer::Allocate(3 * kMiB, "third");
  third = std::move(second);
  CHECK(third.data() == data);
  CHECK(third.size() == 100);
  NodeBuffer& self = third;
  third = std::move(self);
  CHECK(third.data() == data);
}

TEST_CASE("binding to an existing node works or degrades; a missing node is an error") {
  NodeBuffer buffer = NodeBuffer::Allocate(4 * kMiB, "bound buffer", 0);
  CHECK(IsZero(buffer));
  CHECK_THROWS_AS(NodeBuffer::Allocate(4 * kMiB, "lost buffer", 1023), std::system_error);
}

TEST_CASE("what cannot be had names the buffer and the size") {
  try {
    NodeBuffer::Allocate(size_t{1} << 50, "expert slots");
    FAIL("a pebibyte was granted");
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()).find("expert slots") != std::string::npos);
    CHECK(std::string(error.what()).find("1.00 PiB") != std::string::npos);
    CHECK(error.code().value() == ENOMEM);
  }
  CHECK_THROWS_AS(NodeBuffer::Allocate(std::numeric_limits<size_t>::max() - 5, "all"),
                  std::system_error);
}

TEST_CASE("first touch keeps the contents") {
  ThreadTeam team(0);
  NodeBuffer buffer = NodeBuffer::Allocate(7 * kMiB + 123, "touched buffer");
  for (size_t i = 0; i < buffer.size(); i += 999)
    buffer.data()[i] = static_cast<std::byte>(i % 251);
  FirstTouch(team, buffer);
  for (size_t i = 0; i < buffer.size(); i += 999) {
    REQUIRE(buffer.data()[i] == static_cast<std::byte>(i % 251));
  }
}

}  // namespace
}  // namespace stoker
