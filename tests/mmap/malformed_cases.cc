#include "tests/mmap/malformed_cases.h"

#include <stdexcept>
#include <utility>

#include "mmap/weight_store.h"

namespace stoker::test {

MalformedCase BytesCase(std::string name, std::string bytes, std::string field,
                        std::string reason) {
  return {std::move(name),
          [bytes = std::move(bytes)](const std::filesystem::path& directory) {
            WriteFile(directory / "model.gguf", bytes);
            return directory / "model.gguf";
          },
          "model.gguf", std::move(field), std::move(reason)};
}

MalformedCase GgufCase(std::string name, std::function<void(RawGguf&)> change, std::string field,
                       std::string reason) {
  RawGguf file = TinyGguf();
  change(file);
  return BytesCase(std::move(name), file.Build(), std::move(field), std::move(reason));
}

MalformedCase CheckpointCase(std::string name, std::function<void(RawCheckpoint&)> change,
                             std::string file, std::string field, std::string reason) {
  return {std::move(name),
          [change = std::move(change)](const std::filesystem::path& directory) {
            RawCheckpoint checkpoint = TinyCheckpoint();
            change(checkpoint);
            checkpoint.Write(directory);
            return directory;
          },
          std::move(file), std::move(field), std::move(reason)};
}

std::vector<MalformedCase> AllMalformedCases() {
  std::vector<MalformedCase> all;
  const auto add = [&](const std::string& group, std::vector<MalformedCase> cases) {
    for (MalformedCase& test : cases) {
      test.name = group + ": " + test.name;
      all.push_back(std::move(test));
    }
  };
  add("gguf", GgufSyntaxCases());
  add("gguf model", GgufModelCases());
  add("safetensors", SafetensorsCases());
  add("index", IndexCases());
  add("config", ConfigJsonCases());
  return all;
}

ChildResult OpenInChild(const std::filesystem::path& path) {
  return RunInChild([&]() -> std::string {
    try {
      WeightStore::Open(path);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  });
}

uint64_t AllowedPeakBytes(const std::filesystem::path& directory) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_symlink() && entry.is_regular_file()) bytes += entry.file_size();
  }
  return (uint64_t{64} << 20) + 8 * bytes;
}

}  // namespace stoker::test
