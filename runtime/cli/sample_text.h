#pragma once

// A few pages of ordinary text, written for this program: the default prompt of `stoker bench`,
// because random tokens distort the routing of experts, and the text from which `stoker synth`
// learns its merges. A constant; thread-safe.

#include <string_view>

namespace stoker {

// About six kilobytes of UTF-8: English prose, some figures, code and Chinese.
std::string_view SampleText();

}  // namespace stoker
