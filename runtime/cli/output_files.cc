#include "runtime/cli/output_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <system_error>

#include "experts/pager.h"
#include "mmap/atomic_file.h"
#include "mmap/format_error.h"
#include "mmap/weight_store.h"
#include "runtime/cli/command_line.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> ModelFiles(const EngineOptions& engine) {
  const std::unique_ptr<WeightStore> store = WeightStore::Open(engine.model_path);
  std::vector<fs::path> files;
  for (const PagerFile& file : PagerFiles(*store, engine.mirror_dirs)) {
    files.push_back(file.path);
    files.insert(files.end(), file.mirrors.begin(), file.mirrors.end());
  }
  if (store->gguf_metadata() == nullptr) {
    for (const char* name : {"config.json", "tokenizer.json", "model.safetensors.index.json"}) {
      files.push_back(store->directory() / name);
    }
  }
  return files;
}

}  // namespace

void CheckOutputs(const EngineOptions& engine, const std::vector<OutputFile>& outputs) {
  std::vector<OutputFile> all = outputs;
  if (!engine.trace_path.empty()) all.push_back({"--trace", engine.trace_path});
  std::vector<fs::path> model;
  for (const OutputFile& output : all) {
    std::error_code absent;
    if (!fs::is_regular_file(output.path, absent)) continue;
    // Read here, beside the engine's own reading, only where there is something to lose.
    if (model.empty()) model = ModelFiles(engine);
    const bool is_of_model = std::any_of(model.begin(), model.end(), [&](const fs::path& file) {
      std::error_code no_such_file;
      return fs::equivalent(output.path, file, no_such_file);
    });
    if (is_of_model) {
      throw UsageError(fmt::format("{} {} is a file of the model; name another", output.flag,
                                   PrintablePath(output.path.native())));
    }
  }
  // The engine opens the trace itself, and not as these are.
  for (const OutputFile& output : outputs) AtomicFile::RequireWritable(output.path);
}

}  // namespace stoker
