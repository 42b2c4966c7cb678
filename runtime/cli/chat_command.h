#pragma once

// `stoker chat`: a conversation in the terminal. Declared here for main.cc's table.

#include <CLI/CLI.hpp>
#include <functional>

namespace stoker {

std::function<int()> DeclareChat(CLI::App& app);

}  // namespace stoker
