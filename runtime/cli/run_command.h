#pragma once

// `stoker run`: one prompt in, one answer on stdout. Declared here for main.cc's table.

#include <CLI/CLI.hpp>
#include <functional>

namespace stoker {

std::function<int()> DeclareRun(CLI::App& app);

}  // namespace stoker
