#pragma once

// A small model file of the right form and random bytes, for tests of everything between the file
// and the kernels: extents are unaligned, the down matrices of odd layers have another type (as in
// mixed quantisations), and the file ends in the middle of a sector. Its weights mean nothing.

#include <cstdint>
#include <filesystem>

namespace stoker::testing {

struct ExpertModelShape {
  int64_t n_layers = 4;
  int64_t n_experts = 8;
  int64_t hidden = 64;
  int64_t expert_hidden = 96;
  int64_t vocab = 101;
  uint64_t seed = 1;
};

void WriteExpertModel(const std::filesystem::path& path, const ExpertModelShape& shape);

}  // namespace stoker::testing
