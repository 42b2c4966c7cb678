#include "runtime/layers/segments.h"

#include <vector>

#include "tests/support/catch.h"

namespace stoker {
namespace {

struct Cut {
  int64_t run, first_token, first_row, n_tokens, position;
  bool operator==(const Cut&) const = default;
};

// All cuts of a list into at most `room` rows each.
std::vector<std::vector<Cut>> CutAll(const std::vector<Segment>& from, int64_t room) {
  std::vector<std::vector<Cut>> all;
  SegmentCursor cursor;
  while (true) {
    std::vector<Segment> part;
    const int64_t rows = TakeRows(from, room, cursor, part);
    if (rows == 0) break;
    all.emplace_back();
    int64_t sum = 0;
    for (const Segment& s : part) {
      all.back().push_back({s.run, s.first_token, s.first_row, s.n_tokens, s.position});
      sum += s.n_tokens;
    }
    REQUIRE(sum == rows);
    REQUIRE(rows <= room);
  }
  return all;
}

TEST_CASE("segments are cut where blocks of lightning attention end") {
  const std::vector<Segment> one = {{.run = 0, .n_tokens = 300, .position = 10}};
  CHECK(CutAll(one, 128) == std::vector<std::vector<Cut>>{{{0, 0, 0, 118, 10}},
                                                          {{0, 118, 0, 128, 128}},
                                                          {{0, 246, 0, 54, 256}}});
}

TEST_CASE("where no block ends within reach a cut takes all there is room for") {
  const std::vector<Segment> one = {{.run = 0, .n_tokens = 50, .position = 65}};
  CHECK(CutAll(one, 20) == std::vector<std::vector<Cut>>{
                               {{0, 0, 0, 20, 65}}, {{0, 20, 0, 20, 85}}, {{0, 40, 0, 10, 105}}});
}

TEST_CASE("several runs share a cut, empty ones take no part, and a cut of a cut goes on from it") {
  const std::vector<Segment> runs = {{.run = 0, .n_tokens = 3, .position = 7},
                                     {.run = 1, .n_tokens = 0, .position = 5},
                                     {.run = 2, .n_tokens = 200, .position = 0}};
  CHECK(CutAll(runs, 100) == std::vector<std::vector<Cut>>{
                                 {{0, 0, 0, 3, 7}, {2, 0, 3, 64, 0}},
                                 {{2, 64, 0, 64, 64}},
                                 {{2, 128, 0, 72, 128}}});
  std::vector<Segment> chunk;
  SegmentCursor cursor;
  REQUIRE(TakeRows(runs, 200, cursor, chunk) == 195);
  CHECK(CutAll(chunk, 64) == std::vector<std::vector<Cut>>{{{0, 0, 0, 3, 7}, {2, 0, 3, 61, 0}},
                                                           {{2, 61, 0, 3, 61}},
                                                           {{2, 64, 0, 64, 64}},
                                                           {{2, 128, 0, 64, 128}}});
}

}  // namespace
}  // namespace stoker
