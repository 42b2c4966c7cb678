#pragma once

// `stoker inspect`: what is in a model's files and what it needs, without loading it. Declared here
// for main.cc's table.

#include <CLI/CLI.hpp>
#include <functional>

namespace stoker {

std::function<int()> DeclareInspect(CLI::App& app);

}  // namespace stoker
