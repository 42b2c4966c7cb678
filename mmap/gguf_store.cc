// Opens a GGUF model: one file, or the parts of a split set found through the name of any of them.

#include <charconv>
#include <string>
#include <utility>

#include "mmap/config_reader.h"
#include "mmap/format_error.h"
#include "mmap/store_contents.h"

namespace stoker {
namespace {

// llama.cpp numbers parts with five digits; nobody ships this many.
constexpr int64_t kMaxParts = 4096;

std::string FiveDigits(int64_t n) {
  const std::string digits = std::to_string(n);
  return digits.size() < 5 ? std::string(5 - digits.size(), '0') + digits : digits;
}

// "PREFIX-00002-of-00005.gguf": where a part stands in its set.
struct PartName {
  std::string prefix;
  int64_t number = 0;  // from 1
  int64_t count = 0;

  std::string Name(int64_t part_number) const {
    return prefix + "-" + FiveDigits(part_number) + "-of-" + FiveDigits(count) + ".gguf";
  }
};

std::optional<int64_t> ParseFiveDigits(std::string_view digits) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 1) {
    return std::nullopt;
  }
  return value;
}

std::optional<PartName> ParsePartName(const std::string& name) {
  constexpr size_t kSuffix = std::string_view("-00001-of-00002.gguf").size();
  if (name.size() <= kSuffix) return std::nullopt;
  const std::string_view suffix = std::string_view(name).substr(name.size() - kSuffix);
  if (suffix[0] != '-' || suffix.substr(6, 4) != "-of-" || suffix.substr(15) != ".gguf") {
    return std::nullopt;
  }
  const std::optional<int64_t> number = ParseFiveDigits(suffix.substr(1, 5));
  const std::optional<int64_t> count = ParseFiveDigits(suffix.substr(10, 5));
  if (!number || !count || *number > *count) return std::nullopt;
  return PartName{name.substr(0, name.size() - kSuffix), *number, *count};
}

int64_t SplitCount(const GgufMetadata& metadata) {
  return metadata.FindInt("split.count", 0, kMaxParts).value_or(0);
}

void OpenPart(const std::filesystem::path& path, StoreContents& contents,
              std::vector<GgufFile>& parts) {
  FileMapping mapping = FileMapping::Open(path);
  parts.push_back(ParseGguf(mapping.bytes(), path.native()));
  contents.files.push_back({path, mapping.size()});
  contents.mappings.push_back(std::move(mapping));
}

// Checks that a part says of itself what its name says.
void CheckSplitKeys(const GgufMetadata& metadata, int64_t number, int64_t count) {
  if (metadata.Int("split.count", 1, kMaxParts) != count) {
    throw FormatError(metadata.file(), "metadata key \"split.count\"",
                      "differs from the " + std::to_string(count) + " parts of its name");
  }
  if (metadata.Int("split.no", 0, kMaxParts) != number - 1) {
    throw FormatError(metadata.file(), "metadata key \"split.no\"",
                      "differs from " + std::to_string(number - 1) +
                          ", which its name says (counted from 0)");
  }
}

void OpenSplit(const std::filesystem::path& path, int64_t count, StoreContents& contents,
               std::vector<GgufFile>& parts) {
  const std::optional<PartName> name = ParsePartName(path.filename().native());
  if (!name) {
    throw FormatError(path.native(), "file name",
                      "one part of a split set of " + std::to_string(count) +
                          " must be named NAME-00001-of-" + FiveDigits(count) + ".gguf");
  }
  // The part that was opened first only served to learn of the set; its own turn comes below.
  parts.clear();
  contents.files.clear();
  contents.mappings.clear();
  if (name->count != count) {
    throw FormatError(path.native(), "metadata key \"split.count\"",
                      "is " + std::to_string(count) + ", the file name says " +
                          std::to_string(name->count));
  }
  for (int64_t number = 1; number <= count; ++number) {
    const std::filesystem::path part = path.parent_path() / name->Name(number);
    std::error_code ignored;
    if (!std::filesystem::exists(part, ignored)) {
      throw FormatError(part.native(), "split part",
                        "part " + std::to_string(number) + " of " + std::to_string(count) +
                            " is missing; download it beside the others");
    }
    OpenPart(part, contents, parts);
    CheckSplitKeys(parts.back().metadata, number, count);
  }
}

}  // namespace

void BindGguf(const std::vector<GgufFile>& parts, StoreContents& contents) {
  const GgufMetadata& metadata = parts[0].metadata;
  uint64_t n_tensors = 0;
  std::optional<int64_t> embedding_rows;
  for (const GgufFile& part : parts) {
    n_tensors += part.tensors.size();
    for (const GgufTensorInfo& tensor : part.tensors) {
      if (tensor.name == "token_embd.weight") embedding_rows = tensor.ne[1];
    }
  }
  const std::optional<int64_t> declared = metadata.FindInt("split.tensors.count", 0);
  if (parts.size() > 1 && declared && static_cast<uint64_t>(*declared) != n_tensors) {
    throw FormatError(metadata.file(), "metadata key \"split.tensors.count\"",
                      "is " + std::to_string(*declared) + ", the parts hold " +
                          std::to_string(n_tensors) + " tensors");
  }

  contents.format = "GGUF v3";
  contents.config = ConfigFromGguf(metadata, embedding_rows);
  StoreBuilder builder(contents, StoreLayout::kGguf, metadata.file());
  for (size_t file = 0; file < parts.size(); ++file) {
    for (const GgufTensorInfo& info : parts[file].tensors) {
      FoundTensor found;
      found.name = info.name;
      found.type = info.type;
      for (int d = info.n_dims - 1; d >= 0; --d) {
        found.shape.push_back(info.ne[static_cast<size_t>(d)]);
      }
      found.extent = {static_cast<uint32_t>(file), info.offset, info.bytes};
      builder.Add(found);
    }
  }
  builder.Finish();
}

StoreContents OpenGguf(const std::filesystem::path& path) {
  StoreContents contents;
  contents.directory = path.parent_path();
  std::vector<GgufFile> parts;
  OpenPart(path, contents, parts);
  const int64_t count = SplitCount(parts[0].metadata);
  if (count > 1) OpenSplit(path, count, contents, parts);
  BindGguf(parts, contents);
  contents.gguf_metadata = std::move(parts[0].metadata);
  return contents;
}

}  // namespace stoker
