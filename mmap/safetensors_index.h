#pragma once

// model.safetensors.index.json: which file of the directory holds which tensor. Parsed without a
// tree; file names are checked to be plain names beside the index. Pure; thread-safe.

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace stoker {

struct SafetensorsIndex {
  struct Entry {
    std::string tensor;
    uint32_t file = 0;  // index into files
  };
  std::vector<std::string> files;  // distinct, in order of first mention
  std::deque<Entry> entries;       // sorted by tensor name, unique
};

inline constexpr size_t kMaxShards = 4096;  // M1 has 413

// Throws FormatError naming the file, the tensor and the reason.
SafetensorsIndex ParseSafetensorsIndex(std::string_view text, const std::string& file);

}  // namespace stoker
