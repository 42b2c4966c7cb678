#pragma once

// `stoker chat`: a conversation in the terminal. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareChat(CLI::App& app);

}  // namespace stoker
