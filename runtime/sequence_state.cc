#include "runtime/sequence_state.h"

#include <cstring>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

uint64_t LightningFloats(const ModelConfig& config) {
  return static_cast<uint64_t>(config.n_lightning_layers()) * config.n_heads * config.head_dim *
         config.head_dim;
}

uint64_t KvFloats(const ModelConfig& config, int64_t n_ctx) {  // of K alone, and of V alone
  return static_cast<uint64_t>(config.n_softmax_layers()) * config.n_kv_heads * n_ctx *
         config.head_dim;
}

}  // namespace

uint64_t SequenceState::BytesFor(const ModelConfig& config, int64_t n_ctx) {
  return sizeof(float) * (LightningFloats(config) + 2 * KvFloats(config, n_ctx));
}

SequenceState::SequenceState(const ModelConfig& config, int64_t n_ctx)
    : n_heads_(config.n_heads),
      n_kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      n_ctx_(n_ctx),
      lightning_floats_(static_cast<int64_t>(LightningFloats(config))) {
  STOKER_CHECK(n_ctx > 0);
  buffer_ = NodeBuffer::Allocate(BytesFor(config, n_ctx), "sequence state");
  lightning_ = buffer_.as<float>();
  keys_ = lightning_ + lightning_floats_;
  values_ = keys_ + KvFloats(config, n_ctx);
}

void SequenceState::Reset() {
  std::memset(lightning_, 0, static_cast<size_t>(lightning_floats_) * sizeof(float));
  position_ = 0;
}

void SequenceState::Save(Snapshot& snapshot) const {
  const size_t bytes = static_cast<size_t>(lightning_floats_) * sizeof(float);
  if (snapshot.lightning.size() != bytes) {
    snapshot.lightning = NodeBuffer::Allocate(bytes, "lightning state snapshot");
  }
  if (bytes > 0) std::memcpy(snapshot.lightning.data(), lightning_, bytes);
  snapshot.position = position_;
}

void SequenceState::Restore(const Snapshot& snapshot) {
  STOKER_CHECK(snapshot.position >= 0 && snapshot.position <= position_);
  const size_t bytes = snapshot.lightning.size();
  if (bytes > 0) std::memcpy(lightning_, snapshot.lightning.data(), bytes);
  position_ = snapshot.position;
}

}  // namespace stoker
