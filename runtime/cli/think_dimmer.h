#pragma once

// Shows the model's thinking in a fainter shade on a terminal: wraps what stands between <think>
// and
// </think> in ANSI codes while the text streams by in pieces of any size. One per answer; not
// thread-safe. It changes nothing but colour.

#include <string>
#include <string_view>

namespace stoker {

class ThinkDimmer {
 public:
  // enabled false: text passes through unchanged.
  explicit ThinkDimmer(bool enabled) : enabled_(enabled) {}

  // The text to print for this piece. Holds back at most an unfinished tag.
  std::string Push(std::string_view piece);
  // What was held back, and the end of the shade.
  std::string Finish();

 private:
  bool enabled_;
  bool dimmed_ = false;
  std::string held_;
};

}  // namespace stoker
