#pragma once

// Models with random weights, for tests of whole engines.

#include <filesystem>
#include <string_view>

#include "runtime/cli/synth_writer.h"
#include "tests/support/catch.h"

namespace stoker::testing {

inline void WriteModel(const std::filesystem::path& path, const SynthShape& shape,
                       std::string_view mix) {
  SynthRequest request;
  request.path = path;
  request.shape = shape;
  request.mix = FindTypeMix(mix);
  REQUIRE(WriteSynthModel(request).complete);
}

// Two layers of eight experts of 64 columns.
inline SynthShape SmallShape() {
  SynthShape shape;
  shape.n_layers = 2;
  shape.hidden_size = 64;
  shape.n_heads = 4;
  shape.n_kv_heads = 2;
  shape.head_dim = 16;
  shape.rotary_dim = 8;
  shape.expert_hidden_size = 64;
  shape.n_experts = 8;
  shape.vocab_size = 512;
  shape.context_length = 4096;
  return shape;
}

}  // namespace stoker::testing
