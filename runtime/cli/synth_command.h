#pragma once

// `stoker synth`: a model file of M1's shape with random weights, to measure a machine before
// downloading the real one. Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclareSynth(CLI::App& app);

}  // namespace stoker
