#include "runtime/sequence_state.h"

#include <algorithm>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

uint64_t LightningFloats(const ModelConfig& config) {
  return static_cast<uint64_t>(config.n_lightning_layers()) * config.n_heads * config.head_dim *
         config.head_dim;
}

// Of all heads' keys, or values.
uint64_t KvCacheBytes(const ModelConfig& config, int64_t n_ctx, KvType type) {
  return static_cast<uint64_t>(config.n_softmax_layers() * config.n_kv_heads *
                               KvHeadBytes(type, n_ctx, config.head_dim));
}

}  // namespace

uint64_t SequenceState::LightningBytes(const ModelConfig& config) {
  return sizeof(float) * LightningFloats(config);
}

uint64_t SequenceState::BytesFor(const ModelConfig& config, int64_t n_ctx, KvTypes kv) {
  return LightningBytes(config) + KvCacheBytes(config, n_ctx, kv.keys) +
         KvCacheBytes(config, n_ctx, kv.values);
}

SequenceState::SequenceState(const ModelConfig& config, int64_t n_ctx, KvTypes kv,
                             ThreadTeam* team)
    : n_heads_(config.n_heads),
      n_kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      n_ctx_(n_ctx),
      team_(team),
      kv_(kv),
      lightning_floats_(static_cast<int64_t>(LightningFloats(config))) {
  STOKER_CHECK(n_ctx > 0);
  buffer_ = NodeBuffer::Allocate(BytesFor(config, n_ctx, kv), "sequence state");
  lightning_ = buffer_.as<float>();
  keys_ = buffer_.data() + LightningBytes(config);
  values_ = keys_ + KvCacheBytes(config, n_ctx, kv.keys);
  if (team == nullptr) return;
  const Partition& partition = team->partition();
  if (partition.binds_rows()) {
    buffer_.Bind(PlanPages(config, partition), "sequence state");
  } else {
    buffer_.Interleave(partition.stripe_nodes(), "sequence state");
  }
  // Keys and values are touched as they are appended, by the same workers.
  CopyLightning(lightning_, nullptr);
}

// Every worker its heads: M1's states are 294 MB, too much for one.
void SequenceState::CopyLightning(float* to, const float* from) const {
  const auto copy = [&](int64_t begin, int64_t end) {
    if (from == nullptr) {
      std::fill(to + begin, to + end, 0.0f);
    } else {
      std::copy(from + begin, from + end, to + begin);
    }
  };
  if (team_ == nullptr) return copy(0, lightning_floats_);
  const int64_t head_floats = head_dim_ * head_dim_;
  const int64_t layer_floats = n_heads_ * head_floats;
  team_->Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(n_heads_);
    for (int64_t layer = 0; layer < lightning_floats_; layer += layer_floats) {
      copy(layer + begin * head_floats, layer + end * head_floats);
    }
  });
}

PagePlan SequenceState::PlanPages(const ModelConfig& config, const Partition& partition) const {
  PagePlan plan;
  const uint64_t state_bytes = sizeof(float) * static_cast<uint64_t>(head_dim_ * head_dim_);
  uint64_t at = 0;
  for (int64_t layer = 0; layer < config.n_lightning_layers(); ++layer) {
    plan.AddItems(partition, at, state_bytes, n_heads_);
    at += state_bytes * static_cast<uint64_t>(n_heads_);
  }
  for (const KvType type : {kv_.keys, kv_.values}) {
    const auto head_bytes = static_cast<uint64_t>(HeadBytes(type));
    for (int64_t i = 0; i < config.n_softmax_layers(); ++i) {
      plan.AddItems(partition, at, head_bytes, n_kv_heads_);
      at += head_bytes * static_cast<uint64_t>(n_kv_heads_);
    }
  }
  return plan;
}

void SequenceState::Reset() {
  CopyLightning(lightning_, nullptr);
  position_ = 0;
}

void SequenceState::Save(Snapshot& snapshot) const {
  const size_t bytes = static_cast<size_t>(lightning_floats_) * sizeof(float);
  if (snapshot.lightning.size() != bytes) {
    snapshot.lightning = NodeBuffer::Allocate(bytes, "lightning state snapshot");
  }
  if (bytes > 0) CopyLightning(snapshot.lightning.as<float>(), lightning_);
  snapshot.position = position_;
}

void SequenceState::Restore(const Snapshot& snapshot) {
  STOKER_CHECK(snapshot.position >= 0 && snapshot.position <= position_);
  if (lightning_floats_ > 0) CopyLightning(lightning_, snapshot.lightning.as<float>());
  position_ = snapshot.position;
}

}  // namespace stoker
