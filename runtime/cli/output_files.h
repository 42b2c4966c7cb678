#pragma once

// Whether the files that a command is to write can be written, and may be: asked before a model is
// loaded, which may take minutes. Main thread only.

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace stoker {

struct OutputFile {
  std::string flag;  // that names it: "-o"
  std::filesystem::path path;
};

// Throws UsageError where an output, or the trace of `engine`, is one of the model's files or a
// mirror's copy of one, whatever name or link leads there; std::system_error naming the file where
// an output cannot be written. Changes nothing.
void CheckOutputs(const EngineOptions& engine, const std::vector<OutputFile>& outputs);

}  // namespace stoker
