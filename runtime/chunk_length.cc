#include "runtime/chunk_length.h"

#include <algorithm>

#include "numa/check.h"

namespace stoker {
namespace {

// Tokens of a prompt for one that is decoded: a long question and its answer.
constexpr double kPromptTokens = 8.0;
// A gain that pays for the longer wait until a prompt can be interrupted.
constexpr double kLeastGain = 0.03;
// Of reading and computing, the part of the shorter one that does not hide behind the longer
// (measured: the layers' attention finds the slots full).
constexpr double kExposed = 0.5;

double Operations(DType type, const FileExtent& extent) {
  const auto blocks = static_cast<double>(extent.bytes) / Info(type).block_bytes;
  return 2.0 * blocks * Info(type).block_elements;
}

bool IsAttention(const StoredTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.name.starts_with("blk.") &&
         tensor.name.find(".attn_") != std::string::npos;
}

double ComputeSeconds(const WeightStore& store, const PromptRates& rates, int64_t tokens) {
  const ModelConfig& config = store.config();
  const auto share = static_cast<double>(config.n_experts_per_token) /
                     static_cast<double>(config.n_experts);
  const double expert_tokens = static_cast<double>(tokens) * share;
  double seconds = 0.0;
  for (const StoredTensor& tensor : store.tensors()) {
    if (!IsAttention(tensor)) continue;
    seconds += Operations(tensor.type, tensor.extent) * static_cast<double>(tokens) /
               rates.products.At(tensor.type, tokens);
  }
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (int p = 0; p < kExpertParts; ++p) {
      const ExpertPartExtent part = store.Expert({layer, 0}, static_cast<ExpertPart>(p));
      seconds += Operations(part.type, part.extent) * static_cast<double>(config.n_experts) *
                 expert_tokens /
                 rates.products.At(part.type, static_cast<int64_t>(expert_tokens));
    }
  }
  return seconds / rates.n_workers;
}

}  // namespace

ChunkCost EstimateChunk(const WeightStore& store, const PromptRates& rates, int64_t tokens,
                        std::optional<uint32_t> n_slots) {
  const ModelConfig& config = store.config();
  const double compute = ComputeSeconds(store, rates, tokens);
  ChunkCost cost{.tokens = tokens, .prompt_seconds = compute / static_cast<double>(tokens)};
  if (!n_slots) return cost;
  const auto n_experts = static_cast<double>(config.n_layers * config.n_experts);
  const double missing = std::max(0.0, n_experts - static_cast<double>(*n_slots));
  // A token's experts, of which as many are missing as of all.
  const auto uses = static_cast<double>(config.n_layers * config.n_experts_per_token);
  const double read_uses =
      static_cast<double>(store.expert_bytes_per_token()) / rates.disk_bytes_per_second();
  const double read = missing / uses * read_uses;
  cost.prompt_seconds = (std::max(compute, read) + kExposed * std::min(compute, read)) /
                        static_cast<double>(tokens);
  cost.decode_seconds = missing / n_experts * read_uses;
  return cost;
}

int64_t ChooseChunk(std::span<const ChunkCost> costs) {
  STOKER_CHECK(!costs.empty());
  const auto total = [](const ChunkCost& cost) {
    return kPromptTokens * cost.prompt_seconds + cost.decode_seconds;
  };
  const ChunkCost* chosen = &costs.front();
  for (const ChunkCost& cost : costs.subspan(1)) {
    const bool gains = cost.prompt_seconds < (1.0 - kLeastGain) * chosen->prompt_seconds;
    if (gains && total(cost) < total(*chosen)) chosen = &cost;
  }
  return chosen->tokens;
}

}  // namespace stoker
