#pragma once

// `stoker sim`: replays a routing trace through cache policies. Declared here for main.cc's table.

#include <CLI/CLI.hpp>
#include <functional>

namespace stoker {

std::function<int()> DeclareSim(CLI::App& app);

}  // namespace stoker
