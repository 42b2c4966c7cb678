#pragma once

// `stoker bench`: prefill and decode speed in llama-bench's terms, beside the machine's read
// ceiling measured in the same process. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareBench(CLI::App& app);

}  // namespace stoker
