#pragma once

// Writes one small safetensors file at once: names, types, shapes, bytes. For results (logits and
// the like), not for models. The file appears under its name only when it is complete. Stateless.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mmap/dtype.h"

namespace stoker {

// A tensor to write; borrows its bytes.
struct TensorToWrite {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;  // slowest first; empty for a scalar
  std::span<const std::byte> bytes;
};

// Tensors are laid out largest element first and then in the given order, as the reference
// implementation does, so that each is aligned to its element. `metadata` becomes __metadata__.
// Names must be distinct and bytes fit type and shape: anything else is a bug. Throws
// std::system_error naming the path when it cannot be written.
void WriteSafetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace stoker
