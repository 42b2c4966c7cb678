#pragma once

// `stoker logits`: raw logits, and on request what every layer made, into a safetensors file, for
// comparing engines. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareLogits(CLI::App& app);

}  // namespace stoker
