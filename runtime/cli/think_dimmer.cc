#include "runtime/cli/think_dimmer.h"

#include <algorithm>

namespace stoker {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";
constexpr std::string_view kDim = "\x1b[2m", kNormal = "\x1b[22m";

// Length of the longest end of `text` that begins `tag`.
size_t PartialTag(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == tag.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

std::string ThinkDimmer::Push(std::string_view piece) {
  if (!enabled_) return std::string(piece);
  held_ += piece;
  std::string out;
  while (true) {
    const std::string_view tag = dimmed_ ? kClose : kOpen;
    const size_t at = held_.find(tag);
    if (at == std::string::npos) {
      const size_t keep = PartialTag(held_, tag);
      out.append(held_, 0, held_.size() - keep);
      held_.erase(0, held_.size() - keep);
      return out;
    }
    // The tags themselves are faint too.
    const size_t end = dimmed_ ? at + tag.size() : at;
    out.append(held_, 0, end);
    out += dimmed_ ? kNormal : kDim;
    if (!dimmed_) out += tag;
    held_.erase(0, at + tag.size());
    dimmed_ = !dimmed_;
  }
}

std::string ThinkDimmer::Finish() {
  std::string out = std::move(held_);
  held_.clear();
  if (dimmed_) out += kNormal;
  dimmed_ = false;
  return out;
}

}  // namespace stoker
