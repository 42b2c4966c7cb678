#include "runtime/cli/output_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "experts/pager.h"
#include "mmap/atomic_file.h"
#include "mmap/format_error.h"
#include "mmap/weight_store.h"
#include "runtime/cli/command_line.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

// All that opening a model reads, and the mirrors' copies.
std::vector<fs::path> ModelFiles(const WeightStore& store,
                                 const std::vector<fs::path>& mirror_dirs) {
  std::vector<fs::path> files;
  for (const PagerFile& file : PagerFiles(store, mirror_dirs)) {
    files.push_back(file.path);
    files.insert(files.end(), file.mirrors.begin(), file.mirrors.end());
  }
  if (store.gguf_metadata() == nullptr) {
    for (const char* name : {"config.json", "model.safetensors.index.json", "tokenizer.json",
                             "tokenizer_config.json"}) {
      files.push_back(store.directory() / name);
    }
  }
  return files;
}

void RequireNotOfModel(const NamedFile& output, const std::vector<fs::path>& model) {
  const bool is_of_model = std::any_of(model.begin(), model.end(), [&](const fs::path& file) {
    std::error_code no_such_file;
    return fs::equivalent(output.path, file, no_such_file);
  });
  if (is_of_model) {
    throw UsageError(fmt::format("{} {} is a file of the model; name another", output.flag,
                                 PrintablePath(output.path.native())));
  }
}

// Where a file would be made: its links followed, whether or not they lead anywhere yet.
fs::path Destination(const fs::path& path) {
  std::error_code error;
  const fs::path target = fs::absolute(AtomicFile::Target(path), error);
  const fs::path resolved = fs::weakly_canonical(target, error);
  return error ? target.lexically_normal() : resolved;
}

// Whether two names stand for one file, or would when it is made. A device is none: it can take
// what several write.
bool SameFile(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  const fs::file_status of_a = fs::status(a, ignored), of_b = fs::status(b, ignored);
  if (fs::is_regular_file(of_a) && fs::is_regular_file(of_b)) {
    return fs::equivalent(a, b, ignored);
  }
  return !fs::exists(of_a) && !fs::exists(of_b) && Destination(a) == Destination(b);
}

void RequireDistinct(const NamedFile& first, const NamedFile& second) {
  if (SameFile(first.path, second.path)) {
    throw UsageError(fmt::format("{} and {} would both write {}; name another file for one of them",
                                 first.flag, second.flag, PrintablePath(second.path.native())));
  }
}

void RequireKept(const NamedFile& input, const NamedFile& output) {
  if (input.path.empty() || input.path == "-") return;
  if (SameFile(input.path, output.path)) {
    throw UsageError(fmt::format("{} would replace {}, which {} reads; name another file",
                                 output.flag, PrintablePath(output.path.native()), input.flag));
  }
}

}  // namespace

void CheckOutputs(const EngineOptions& engine, const std::vector<NamedFile>& outputs,
                  const std::vector<NamedFile>& inputs) {
  std::vector<NamedFile> all = outputs;
  if (!engine.trace_path.empty()) all.push_back({"--trace", engine.trace_path});
  for (size_t i = 0; i < all.size(); ++i) {
    for (const NamedFile& input : inputs) RequireKept(input, all[i]);
    for (size_t j = 0; j < i; ++j) RequireDistinct(all[j], all[i]);
  }
  std::vector<fs::path> model;
  for (const NamedFile& output : all) {
    std::error_code absent;
    if (!fs::is_regular_file(output.path, absent)) continue;
    // Read here, beside the engine's own reading, only where there is something to lose.
    if (model.empty()) {
      model = ModelFiles(*WeightStore::Open(engine.model_path), engine.mirror_dirs);
    }
    RequireNotOfModel(output, model);
  }
  // The engine opens the trace itself, and not as these are.
  for (const NamedFile& output : outputs) AtomicFile::RequireWritable(output.path);
}

void CheckOutput(const Engine& engine, const NamedFile& output) {
  const EngineOptions& options = engine.options();
  if (!options.trace_path.empty()) RequireDistinct({"--trace", options.trace_path}, output);
  RequireNotOfModel(output, ModelFiles(engine.store(), options.mirror_dirs));
}

}  // namespace stoker
