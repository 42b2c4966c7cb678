#include "mmap/safetensors_index.h"

#include <algorithm>
#include <unordered_map>

#include "mmap/format_error.h"
#include "mmap/json_reader.h"
#include "mmap/safetensors_reader.h"

namespace stoker {
namespace {

// Shards lie beside their index. Refusing every separator shuts out absolute paths and "..", and no
// publisher uses subdirectories.
std::string WhyBadFileName(std::string_view name) {
  if (name.empty()) return "names no file";
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos ||
      name == "." || name == "..") {
    return "names \"" + Printable(name) + "\", which is not a plain file name in this directory";
  }
  if (!name.ends_with(".safetensors")) {
    return "names \"" + Printable(name) + "\", which is not a .safetensors file";
  }
  return "";
}

void ReadWeightMap(JsonReader& reader, const std::string& file, SafetensorsIndex& index) {
  std::unordered_map<std::string, uint32_t> ids;
  std::string tensor;
  for (reader.BeginObject(); reader.NextKey(tensor);) {
    const std::string field = "weight_map \"" + Printable(tensor) + "\"";
    if (reader.Peek() != JsonReader::Kind::kString) {
      throw FormatError(file, field, "is not a file name");
    }
    const std::string name = reader.String();
    if (const std::string reason = WhyBadFileName(name); !reason.empty()) {
      throw FormatError(file, field, reason);
    }
    const auto [it, is_new] = ids.emplace(name, static_cast<uint32_t>(index.files.size()));
    if (is_new) {
      if (index.files.size() == kMaxShards) {
        throw FormatError(file, field, "more than " + std::to_string(kMaxShards) + " files");
      }
      index.files.push_back(name);
    }
    if (index.entries.size() == kMaxSafetensorsTensors) {
      throw FormatError(file, field, "too many tensors");
    }
    index.entries.push_back({tensor, it->second});
  }
}

}  // namespace

SafetensorsIndex ParseSafetensorsIndex(std::string_view text, const std::string& file) {
  SafetensorsIndex index;
  JsonReader reader(text, file, "index");
  bool has_map = false;
  std::string key;
  for (reader.BeginObject(); reader.NextKey(key);) {
    if (key != "weight_map") {
      reader.Skip();
      continue;
    }
    if (has_map) throw FormatError(file, "weight_map", "duplicate key");
    has_map = true;
    ReadWeightMap(reader, file, index);
  }
  reader.End();
  if (!has_map) throw FormatError(file, "weight_map", "missing");
  if (index.entries.empty()) throw FormatError(file, "weight_map", "names no tensor");

  std::sort(index.entries.begin(), index.entries.end(),
            [](const auto& a, const auto& b) { return a.tensor < b.tensor; });
  for (size_t i = 1; i < index.entries.size(); ++i) {
    if (index.entries[i].tensor == index.entries[i - 1].tensor) {
      throw FormatError(file, "weight_map \"" + Printable(index.entries[i].tensor) + "\"",
                        "duplicate key");
    }
  }
  return index;
}

}  // namespace stoker
