#include "runtime/layers/expert_guess.h"

#include <algorithm>

#include "runtime/kernels/vector_ops.h"
#include "runtime/layers/moe.h"

namespace stoker {
namespace {

// Enough rows of a prompt's chunk to see which experts it will use.
constexpr int64_t kMaxRows = 64;

uint64_t FloatBytes(int64_t rows, int64_t cols) {
  return static_cast<uint64_t>(rows * cols) * sizeof(float);
}

}  // namespace

ExpertGuess::ExpertGuess(const ModelConfig& config, int64_t max_tokens)
    : hidden_(config.hidden_size),
      n_experts_(config.n_experts),
      top_k_(config.n_experts_per_token),
      rows_(NodeBuffer::Allocate(FloatBytes(std::min(kMaxRows, max_tokens), hidden_), "guess")),
      logits_(
          NodeBuffer::Allocate(FloatBytes(std::min(kMaxRows, max_tokens), n_experts_), "guess")),
      acts_(std::min(kMaxRows, max_tokens), hidden_),
      weights_(static_cast<size_t>(n_experts_)),
      top_ids_(static_cast<size_t>(top_k_)),
      top_weights_(static_cast<size_t>(top_k_)) {
  guess_.reserve(static_cast<size_t>(n_experts_));
}

void ExpertGuess::Compute(const Worker& worker, LayerContext& context, const float* x,
                          const float* attention_gain, const float* moe_gain,
                          const TensorView& router) {
  const int64_t n_rows = std::min(context.n_tokens, kMaxRows);
  auto* const rows = reinterpret_cast<float*>(rows_.data());
  const auto [begin, end] = worker.Share(n_rows);
  for (int64_t i = begin; i < end; ++i) {
    const float* in = x + i * context.n_tokens / n_rows * hidden_;
    float* out = rows + i * hidden_;
    if (attention_gain != nullptr) {
      RmsNorm(in, attention_gain, context.config.rms_norm_eps, out, hidden_);
      in = out;
    }
    RmsNorm(in, moe_gain, context.config.rms_norm_eps, out, hidden_);
  }
  if (worker.index == 0) n_rows_ = n_rows;
  worker.Barrier();
  acts_.Prepare(worker, rows, n_rows, hidden_, hidden_,
                context.matmul.FormsFor(router.type, n_rows));
  worker.Barrier();
  context.matmul.Multiply(worker, router, acts_, reinterpret_cast<float*>(logits_.data()),
                          n_experts_);
  worker.Barrier();
}

std::span<const ExpertId> ExpertGuess::Pick(int64_t layer) {
  const auto* const logits = reinterpret_cast<const float*>(logits_.data());
  std::fill(weights_.begin(), weights_.end(), 0.0f);
  for (int64_t i = 0; i < n_rows_; ++i) {
    PickExperts({logits + i * n_experts_, static_cast<size_t>(n_experts_)}, top_ids_, top_weights_);
    for (int64_t rank = 0; rank < top_k_; ++rank) weights_[top_ids_[rank]] += top_weights_[rank];
  }
  guess_.clear();
  for (int32_t e = 0; e < n_experts_; ++e) {
    if (weights_[e] > 0.0f) guess_.push_back({static_cast<int32_t>(layer), e});
  }
  // With many tokens nearly every expert is used, in the order of their numbers.
  if (n_rows_ == kMaxRows) return guess_;
  std::sort(guess_.begin(), guess_.end(), [&](const ExpertId& a, const ExpertId& b) {
    return weights_[a.expert] > weights_[b.expert];
  });
  return guess_;
}

}  // namespace stoker
