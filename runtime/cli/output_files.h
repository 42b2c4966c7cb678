#pragma once

// Whether the files that a command is to write can be written, and may be: asked before a model is
// loaded, which may take minutes. Main thread only.

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace stoker {

// A file that a command reads or writes.
struct NamedFile {
  std::string flag;  // that names it: "-o"
  std::filesystem::path path;
};

// Throws UsageError where an output, or the trace of `engine`, is one of the model's files or a
// mirror's copy of one, one of `inputs`, or another output, whatever name or link leads there;
// std::system_error naming the file where an output cannot be written. Devices and pipes may take
// several outputs. An input without a path is none, and so is "-", stdin. Changes nothing.
void CheckOutputs(const EngineOptions& engine, const std::vector<NamedFile>& outputs,
                  const std::vector<NamedFile>& inputs = {});

// For an output that is named while `engine` runs: throws UsageError where it is one of the model's
// files, a mirror's copy of one, or the engine's trace; std::runtime_error where a mirror's copies
// are not what they were. Whether it can be written shows when it is.
void CheckOutput(const Engine& engine, const NamedFile& output);

}  // namespace stoker
