#pragma once

// `stoker sim`: replays a routing trace through cache policies. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareSim(CLI::App& app);

}  // namespace stoker
