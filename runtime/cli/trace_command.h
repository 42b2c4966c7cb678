#pragma once

// `stoker trace export|synth|info`: routing traces in other people's formats, made-up ones, and
// what is in one.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareTrace(CLI::App& app);

}  // namespace stoker
