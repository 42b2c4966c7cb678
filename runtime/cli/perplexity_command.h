#pragma once

// `stoker perplexity`: how well a model predicts a text, and how far it is from another one.
// Declared here for main.cc's table.

#include <functional>

namespace CLI {
class App;
}

namespace stoker {

std::function<int()> DeclarePerplexity(CLI::App& app);

}  // namespace stoker
