// Opens a directory with config.json and safetensors: one file or the shards of an index.

#include <algorithm>
#include <utility>

#include "mmap/config_reader.h"
#include "mmap/file_mapping.h"
#include "mmap/format_error.h"
#include "mmap/model_directory.h"
#include "mmap/safetensors_index.h"
#include "mmap/safetensors_reader.h"
#include "mmap/store_contents.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfigName = "config.json";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";
// M1's own are 2 KB and 1.2 MB. The parsed config may take tens of bytes for each of its text.
constexpr uint64_t kMaxConfigBytes = 1u << 20;
constexpr uint64_t kMaxIndexBytes = 1u << 28;

void OpenShard(const fs::path& directory, const std::string& name, StoreContents& contents) {
  FileMapping mapping = FileMapping::Open(ResolveInside(directory, name));
  contents.files.push_back({directory / name, mapping.size()});
  contents.mappings.push_back(std::move(mapping));
}

// Older conversions of rotary models also save this table, which is computed here; and activations
// are quantised by their own size, not by fixed scales.
bool IsIgnored(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".input_scale") ||
         name.ends_with(".input_zero_point");
}

// Which entries of the index were met in the files.
struct IndexCheck {
  const SafetensorsIndex& index;
  std::vector<bool> seen = std::vector<bool>(index.entries.size());

  // False when the index does not place this tensor in this file.
  bool Mark(const std::string& tensor, uint32_t file) {
    const auto it = std::lower_bound(
        index.entries.begin(), index.entries.end(), tensor,
        [](const auto& entry, const std::string& name) { return entry.tensor < name; });
    if (it == index.entries.end() || it->tensor != tensor || it->file != file) return false;
    seen[static_cast<size_t>(it - index.entries.begin())] = true;
    return true;
  }
};

void AddShard(uint32_t file, IndexCheck* check, const StoreContents& contents,
              StoreBuilder& builder) {
  const std::string& path = contents.files[file].path.native();
  const std::deque<SafetensorsInfo> infos =
      ParseSafetensors(contents.mappings[file].bytes(), path);
  for (const SafetensorsInfo& info : infos) {
    if (check != nullptr && !check->Mark(info.name, file)) {
      throw FormatError(path, "tensor \"" + Printable(info.name) + "\"",
                        "is in this file, but the index does not say so");
    }
    if (IsIgnored(info.name)) continue;
    builder.Add({info.name, info.type, info.shape, {file, info.offset, info.bytes}});
  }
}

// Names the first tensor that the index places in a file which has none of that name.
void DemandAllSeen(const IndexCheck& check, const std::string& index_path) {
  for (size_t i = 0; i < check.seen.size(); ++i) {
    if (check.seen[i]) continue;
    const SafetensorsIndex::Entry& entry = check.index.entries[i];
    throw FormatError(index_path, "weight_map \"" + Printable(entry.tensor) + "\"",
                      "names \"" + Printable(check.index.files[entry.file]) +
                          "\", which has no such tensor");
  }
}

}  // namespace

StoreContents OpenSafetensors(const std::filesystem::path& directory) {
  if (!HasFile(directory, kConfigName)) {
    throw FormatError((directory / kConfigName).native(), "config", "no such file");
  }
  StoreContents contents;
  contents.format = "safetensors";
  contents.directory = directory;
  const std::string config_path = (directory / kConfigName).native();
  {
    const FileMapping config = MapTextFile(directory, kConfigName, kMaxConfigBytes);
    contents.config = ConfigFromJson(TextOf(config), config_path);
  }
  contents.config.name = fs::canonical(directory).filename().native();

  const std::string index_path = (directory / kIndexName).native();
  std::optional<SafetensorsIndex> index;
  if (HasFile(directory, kIndexName)) {
    const FileMapping text = MapTextFile(directory, kIndexName, kMaxIndexBytes);
    index = ParseSafetensorsIndex(TextOf(text), index_path);
    for (const std::string& name : index->files) OpenShard(directory, name, contents);
  } else if (HasFile(directory, kSingleName)) {
    OpenShard(directory, std::string(kSingleName), contents);
  } else {
    throw FormatError(index_path, "index", "no such file, and no " + std::string(kSingleName));
  }

  StoreBuilder builder(contents, StoreLayout::kSafetensors, index ? index_path : config_path);
  std::optional<IndexCheck> check;
  if (index) check.emplace(IndexCheck{*index});
  for (uint32_t file = 0; file < contents.files.size(); ++file) {
    AddShard(file, check ? &*check : nullptr, contents, builder);
  }
  if (check) DemandAllSeen(*check, index_path);
  builder.Finish();
  return contents;
}

}  // namespace stoker
