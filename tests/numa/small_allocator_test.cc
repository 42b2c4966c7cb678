#include "numa/small_allocator.h"

#include <memory>
#include <string>
#include <thread>

#include "tests/support/catch.h"

namespace stoker {
namespace {

// Compiled twice: once with mimalloc linked, once without.
#if defined(EXPECT_MIMALLOC)
TEST_CASE("mimalloc serves malloc when linked") {
  const SmallAllocator allocator = SmallAllocator::Detect();
  CHECK(allocator.is_mimalloc);
  CHECK(allocator.mimalloc_version >= 200);
  CHECK(allocator.Describe().starts_with("mimalloc "));
}
#else
TEST_CASE("without it the system's malloc is reported") {
  const SmallAllocator allocator = SmallAllocator::Detect();
  CHECK_FALSE(allocator.is_mimalloc);
  CHECK(allocator.Describe() == "system malloc");
}
#endif

TEST_CASE("versions read as people write them") {
  CHECK(SmallAllocator{true, 209}.Describe() == "mimalloc 2.0.9");
  CHECK(SmallAllocator{true, 224}.Describe() == "mimalloc 2.2.4");
  CHECK(SmallAllocator{true, 30200}.Describe() == "mimalloc 3.2.0");
}

TEST_CASE("memory may be freed by another thread than took it") {
  for (int i = 0; i < 100; ++i) {
    auto text = std::make_unique<std::string>(1000, 'x');
    std::thread([text = std::move(text)]() mutable { text.reset(); }).join();
  }
}

}  // namespace
}  // namespace stoker
