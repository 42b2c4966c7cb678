#pragma once

// Reads the header of one safetensors file: names, types, shapes and where the bytes lie, checked
// against the size of the file. Never touches tensor data. The rules are those of the reference
// implementation (no holes, no overlap, no trailing bytes) plus unique names. Pure; thread-safe.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "mmap/dtype.h"

namespace stoker {

struct SafetensorsInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;  // slowest first; empty for a scalar
  uint64_t offset = 0;         // from the start of the file
  uint64_t bytes = 0;
};

// The reference implementation's limit on the header.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;
inline constexpr uint64_t kMaxSafetensorsTensors = 1u << 20;
inline constexpr int kMaxSafetensorsDims = 8;

// Parses a whole file's bytes; `file` names it in errors. Tensors come in the order of the header.
// Throws FormatError naming file, tensor and reason.
std::deque<SafetensorsInfo> ParseSafetensors(std::span<const std::byte> bytes,
                                             const std::string& file);

}  // namespace stoker
