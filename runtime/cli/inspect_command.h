#pragma once

// `stoker inspect`: what is in a model's files and what it needs, without loading it. Declared here
// for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareInspect(CLI::App& app);

}  // namespace stoker
