#include "runtime/layers/segments.h"

#include "runtime/layers/lightning_attention.h"

namespace stoker {

int64_t TokensThatFit(int64_t position, int64_t left, int64_t room) {
  if (left <= room) return left;
  const int64_t beyond = (position + room) % kLightningBlock;
  return beyond < room ? room - beyond : room;
}

int64_t TakeRows(std::span<const Segment> from, int64_t room, SegmentCursor& cursor,
                 std::vector<Segment>& out) {
  int64_t rows = 0;
  while (cursor.segment < from.size() && rows < room) {
    Segment part = from[cursor.segment];
    const int64_t left = part.n_tokens - cursor.token;
    part.first_token += cursor.token;
    part.position += cursor.token;
    part.first_row = rows;
    part.n_tokens = TokensThatFit(part.position, left, room - rows);
    if (part.n_tokens > 0) out.push_back(part);
    rows += part.n_tokens;
    cursor.token += part.n_tokens;
    if (part.n_tokens < left) break;
    ++cursor.segment;
    cursor.token = 0;
  }
  return rows;
}

}  // namespace stoker
