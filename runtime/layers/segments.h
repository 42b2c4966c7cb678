#pragma once

// Which tokens of which sequences lie in the rows of a forward pass, and how long inputs are cut:
// into chunks that go through the layers, and those into pieces that go through attention. Pure.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/sequence_state.h"

namespace stoker {

// Consecutive tokens of one run: rows [first_row, first_row + n_tokens) of a chunk or piece, at
// positions [position, position + n_tokens) of the sequence.
struct Segment {
  int64_t run = 0;
  int64_t first_token = 0;  // index into the run's ids
  int64_t first_row = 0;
  int64_t n_tokens = 0;
  int64_t position = 0;
  SequenceState* state = nullptr;
};

// The next token to be taken from a list of segments.
struct SegmentCursor {
  size_t segment = 0;
  int64_t token = 0;
};

// How many of the `left` tokens of a sequence from `position` on go where there is room for so
// many: all, or up to the end of a block of lightning attention if one is in reach, so that bits do
// not depend on where a sequence is cut.
int64_t TokensThatFit(int64_t position, int64_t left, int64_t room);

// Takes up to `room` tokens of `from`, appends them to `out` with rows from 0 on, and moves the
// cursor behind them. Returns the rows taken; 0: the list is at its end.
int64_t TakeRows(std::span<const Segment> from, int64_t room, SegmentCursor& cursor,
                 std::vector<Segment>& out);

}  // namespace stoker
