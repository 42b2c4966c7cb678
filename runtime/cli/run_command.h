#pragma once

// `stoker run`: one prompt in, one answer on stdout. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareRun(CLI::App& app);

}  // namespace stoker
