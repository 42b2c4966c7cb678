#pragma once

// `stoker probe`: what the machine offers and what holds it back. Declared here for main.cc's
// table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareProbe(CLI::App& app);

}  // namespace stoker
