#pragma once

// Reads a safetensors file of expected values for tests: small, whole in memory, F32 and I32 only.
// On purpose not the reader under test. Throws std::runtime_error for anything unexpected.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace stoker::testing {

struct GoldenArray {
  std::vector<int64_t> shape;
  std::vector<float> f32;    // filled for F32
  std::vector<int32_t> i32;  // filled for I32
};

GoldenArray ReadGolden(const std::filesystem::path& file, const std::string& name);

// STOKER_GOLDEN_DIR, or an empty path when the reference models are not on this machine.
std::filesystem::path GoldenDirectory();

}  // namespace stoker::testing
