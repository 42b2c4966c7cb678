#pragma once

// How many tokens of a prompt are computed at once, where nobody says. In a longer chunk every
// expert gets more tokens, so that its weights are unpacked and, in paged mode, read for more of
// them; its scratch leaves less for the cache of experts. What either comes to is estimated from
// what was measured on this machine. Pure.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "mmap/weight_store.h"
#include "runtime/matmul/tuning.h"

namespace stoker {

// The lengths there are to choose from; the first is what nobody has to choose.
inline constexpr int64_t kChunkLengths[] = {512, 1024, 2048, 4096};

struct PromptRates {
  ProductRates products;  // of one worker
  int n_workers = 1;
  std::function<double()> disk_bytes_per_second;  // asked where experts are read
};

struct ChunkCost {
  int64_t tokens = 0;  // of the chunk
  // Per token of a prompt, and what reading experts adds to a decoded token.
  double prompt_seconds = 0.0;
  double decode_seconds = 0.0;
};

// With room for `n_slots` experts; nullopt: for all.
ChunkCost EstimateChunk(const WeightStore& store, const PromptRates& rates, int64_t tokens,
                        std::optional<uint32_t> n_slots);

// The tokens of one of `costs`, which are not empty and rise: from the first on, a longer chunk is
// taken if prompts gain by it, and more, at eight of their tokens for a decoded one, than
// decoding loses.
int64_t ChooseChunk(std::span<const ChunkCost> costs);

}  // namespace stoker
