#pragma once

// Everything one sequence remembers between forward passes, in one relocatable block: the lightning
// states of the linear-attention layers (fixed size) and the KV cache of the softmax layers (n_ctx
// positions). Owned by a Session; Model::Forward reads and advances it. It can be saved and
// restored whole; it cannot be cut back to an earlier position, because a lightning state is a
// running sum. Engine-thread only.

#include <cstddef>
#include <cstdint>

#include "mmap/model_config.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/kernels/attention_ops.h"

namespace stoker {

// What keys and values are rounded to. The lightning states are f32 always: their sums run over
// some 20k tokens (M1's slowest head).
struct KvTypes {
  KvType keys = KvType::kF32;
  KvType values = KvType::kF32;
  bool operator==(const KvTypes&) const = default;
};

class SequenceState {
 public:
  // Bytes of the lightning states, which is what a Snapshot takes: 4 * n_lightning * n_heads * D^2.
  static uint64_t LightningBytes(const ModelConfig& config);
  // Bytes a sequence of n_ctx positions needs: these and n_softmax * n_kv_heads * n_ctx * D
  // elements of keys and of values, positions rounded up to a block of keys.
  static uint64_t BytesFor(const ModelConfig& config, int64_t n_ctx, KvTypes kv);

  // Throws std::system_error when the memory cannot be had. n_ctx > 0. With a team every head's
  // state and keys lie on the node whose workers compute it (Model::NewState), who also clear and
  // copy them; it must outlive the state.
  SequenceState(const ModelConfig& config, int64_t n_ctx, KvTypes kv, ThreadTeam* team = nullptr);

  int64_t n_ctx() const { return n_ctx_; }
  // Tokens consumed so far; the next token gets this position.
  int64_t position() const { return position_; }
  void Advance(int64_t n_tokens) { position_ += n_tokens; }

  // State of head `head` of the i-th lightning layer: [D key, D value] f32.
  float* Lightning(int64_t lightning_index, int64_t head) const {
    return lightning_ + (lightning_index * n_heads_ + head) * head_dim_ * head_dim_;
  }
  // K and V of kv head `head` of the i-th softmax layer, as kernels/attention_ops.h has them,
  // positions [0, position) valid.
  std::byte* Keys(int64_t softmax_index, int64_t head) const {
    return keys_ + (softmax_index * n_kv_heads_ + head) * HeadBytes(kv_.keys);
  }
  std::byte* Values(int64_t softmax_index, int64_t head) const {
    return values_ + (softmax_index * n_kv_heads_ + head) * HeadBytes(kv_.values);
  }
  KvTypes kv() const { return kv_; }

  const NodeBuffer& memory() const { return buffer_; }

  // Back to an empty sequence: lightning states zero, position 0.
  void Reset();

  // A copy of the lightning states at a position, cheap to take (no KV: rows below the position
  // stay valid as long as the sequence only grew from it).
  struct Snapshot {
    NodeBuffer lightning;
    int64_t position = -1;  // -1: empty
  };
  void Save(Snapshot& snapshot) const;     // reuses the snapshot's buffer
  void Restore(const Snapshot& snapshot);  // requires snapshot.position <= position()

 private:
  // Of one head's keys or values.
  int64_t HeadBytes(KvType type) const { return KvHeadBytes(type, n_ctx_, head_dim_); }
  PagePlan PlanPages(const ModelConfig& config, const Partition& partition) const;
  // The lightning states, or a snapshot's, from another place; nullptr: zeros.
  void CopyLightning(float* to, const float* from) const;

  int64_t n_heads_, n_kv_heads_, head_dim_, n_ctx_;
  ThreadTeam* team_;
  KvTypes kv_;
  int64_t lightning_floats_;
  int64_t position_ = 0;
  NodeBuffer buffer_;
  float* lightning_ = nullptr;
  std::byte* keys_ = nullptr;
  std::byte* values_ = nullptr;
};

}  // namespace stoker
