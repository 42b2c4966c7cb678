#include "runtime/layers/softmax_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "numa/bytes.h"
#include "numa/check.h"
#include "runtime/kernels/attention_ops.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {
namespace {

// Keys per block: as f16 at M1's shape 8 KiB, and as much of values, which stay in the first-level
// cache for the query heads that share them.
constexpr int64_t kBlockKeys = 32;
static_assert(kBlockKeys % kKeyBlock == 0);
// Tokens per tile; with M1's 8 query heads per kv head a tile has 64 query rows.
constexpr int64_t kTileTokens = 8;
// A range of keys is folded on its own, then merged: the unit that one-token decode spreads over
// workers. Up to a million keys its bounds are fixed, so that prefill and decode add in the same
// order.
constexpr int64_t kMinSplitKeys = 2048;
constexpr int64_t kMaxSplits = 512;

int64_t SplitKeys(int64_t n_keys) {
  return std::max(kMinSplitKeys, DivCeil(DivCeil(n_keys, kMaxSplits), kBlockKeys) * kBlockKeys);
}

// Running softmax of some query rows: value = acc / sum with weights relative to exp(max).
struct Fold {
  float* acc;  // [rows, D]
  float* max;  // [rows]
  float* sum;  // [rows]
};

void Clear(const Fold& fold, int64_t rows, int64_t d) {
  std::fill_n(fold.acc, rows * d, 0.0f);
  std::fill_n(fold.max, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(fold.sum, rows, 0.0f);
}

// Adds one row of `part` to one row of `total`.
void MergeRow(float* total_acc, float& total_max, float& total_sum, const float* part_acc,
              float part_max, float part_sum, int64_t d) {
  if (part_sum == 0.0f) return;
  const float new_max = std::max(total_max, part_max);
  const float total_scale = total_sum == 0.0f ? 0.0f : std::exp(total_max - new_max);
  const float part_scale = std::exp(part_max - new_max);
  ScaleAdd(total_scale, total_acc, part_scale, part_acc, total_acc, d);
  total_sum = total_sum * total_scale + part_sum * part_scale;
  total_max = new_max;
}

// Query rows of one tile: row r is query head (r % group) of token (r / group).
struct Tile {
  const float* q;  // [rows, D], scaled by 1/sqrt(D)
  int64_t n_tokens;
  int64_t group;     // query heads per kv head
  int64_t position;  // of the first token
};

// A head's part of the cache.
struct HeadCache {
  const std::byte* keys;
  const std::byte* values;
  KvTypes types;
};

HeadCache CacheOf(const SequenceState& state, int64_t softmax_index, int64_t kv_head) {
  return {state.Keys(softmax_index, kv_head), state.Values(softmax_index, kv_head), state.kv()};
}

// Folds keys [key_begin, key_end) into a cleared fold, causally; key_begin is the beginning of a
// block of keys. scores: [group, kBlockKeys].
void FoldKeys(const Tile& tile, const HeadCache& cache, int64_t key_begin, int64_t key_end,
              int64_t d, float* scores, const Fold& fold) {
  for (int64_t block = key_begin; block < key_end; block += kBlockKeys) {
    const std::byte* const values = cache.values + block * d * KvBytes(cache.types.values);
    for (int64_t token = 0; token < tile.n_tokens; ++token) {
      const int64_t visible =
          std::min({key_end, block + kBlockKeys, tile.position + token + 1}) - block;
      if (visible <= 0) continue;
      const int64_t first_row = token * tile.group;
      KeyScores(cache.types.keys, tile.q + first_row * d, tile.group, d,
                cache.keys + block * d * KvBytes(cache.types.keys), DivCeil(visible, kKeyBlock),
                values, scores, kBlockKeys);
      for (int64_t head = 0; head < tile.group; ++head) {
        const int64_t r = first_row + head;
        float* const row = scores + head * kBlockKeys;
        const float block_max = MaxValue(row, visible);
        float* acc = fold.acc + r * d;
        if (block_max > fold.max[r]) {
          const float scale = fold.sum[r] == 0.0f ? 0.0f : std::exp(fold.max[r] - block_max);
          Scale(scale, acc, d);
          fold.sum[r] *= scale;
          fold.max[r] = block_max;
        }
        float block_sum = 0.0f;
        ExpSumInPlace(row, fold.max[r], visible, &block_sum);
        fold.sum[r] += block_sum;
      }
      AddValues(cache.types.values, scores, kBlockKeys, tile.group,
                values, visible, d, fold.acc + first_row * d);
    }
  }
}

// One worker's scratch, cut up.
struct Scratch {
  float* q;       // [tile rows, D]
  float* scores;  // [group, kBlockKeys]
  Fold total;
  Fold part;
};

Scratch CutScratch(const LayerContext& context, int worker_index) {
  const ModelConfig& config = context.config;
  const int64_t group = config.n_heads / config.n_kv_heads;
  const int64_t rows = kTileTokens * group;
  float* next = context.ws.HeadScratch(worker_index);
  const auto take = [&next](int64_t n) {
    float* taken = next;
    next += n;
    return taken;
  };
  Scratch scratch{};
  scratch.q = take(rows * config.head_dim);
  scratch.scores = take(group * kBlockKeys);
  for (Fold* fold : {&scratch.total, &scratch.part}) {
    fold->acc = take(rows * config.head_dim);
    fold->max = take(rows);
    fold->sum = take(rows);
  }
  return scratch;
}

Tile LoadTile(const LayerContext& context, const Segment& segment, int64_t kv_head,
              int64_t first_token, float* q_scratch) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const int64_t group = config.n_heads / config.n_kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  const int64_t n_tokens = std::min(kTileTokens, segment.n_tokens - first_token);
  const float* q = SoftmaxLayout(context).q;
  for (int64_t token = 0; token < n_tokens; ++token) {
    const int64_t row = segment.first_row + first_token + token;
    float* out = q_scratch + token * group * d;
    std::memcpy(out, q + (row * config.n_heads + kv_head * group) * d,
                static_cast<size_t>(group * d) * sizeof(float));
    Scale(scale, out, group * d);
  }
  return {q_scratch, n_tokens, group, segment.position + first_token};
}

void WriteRow(const float* acc, float sum, float* out, int64_t d) {
  std::memcpy(out, acc, static_cast<size_t>(d) * sizeof(float));
  Scale(1.0f / sum, out, d);
}

// This worker's part of `n_inner` items for each of n_outer things of which a node has whole ones:
// item = outer * n_inner + inner.
std::pair<int64_t, int64_t> ShareWithin(const Worker& worker, int64_t n_outer, int64_t n_inner) {
  const auto [first, last] = worker.NodeShare(n_outer);
  const auto [begin, end] = worker.OnNode().Share((last - first) * n_inner);
  return {first * n_inner + begin, first * n_inner + end};
}

// Whole tiles: every key range of a tile is folded and merged by one worker.
void AttendTiles(const Worker& worker, LayerContext& context, const Segment& segment,
                 int64_t softmax_index) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const Scratch scratch = CutScratch(context, worker.index);
  const int64_t n_tiles = DivCeil(segment.n_tokens, kTileTokens);
  const auto [begin, end] = ShareWithin(worker, config.n_kv_heads, n_tiles);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t kv_head = item / n_tiles;
    const int64_t first_token = item % n_tiles * kTileTokens;
    const Tile tile = LoadTile(context, segment, kv_head, first_token, scratch.q);
    const int64_t rows = tile.n_tokens * tile.group;
    const int64_t n_keys = tile.position + tile.n_tokens;
    const int64_t split_keys = SplitKeys(n_keys);
    const HeadCache cache = CacheOf(*segment.state, softmax_index, kv_head);
    Clear(scratch.total, rows, d);
    for (int64_t key = 0; key < n_keys; key += split_keys) {
      Clear(scratch.part, rows, d);
      FoldKeys(tile, cache, key, std::min(n_keys, key + split_keys), d, scratch.scores,
               scratch.part);
      for (int64_t r = 0; r < rows; ++r) {
        MergeRow(scratch.total.acc + r * d, scratch.total.max[r], scratch.total.sum[r],
                 scratch.part.acc + r * d, scratch.part.max[r], scratch.part.sum[r], d);
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = segment.first_row + first_token + r / tile.group;
      const int64_t head = kv_head * tile.group + r % tile.group;
      WriteRow(scratch.total.acc + r * d, scratch.total.sum[r],
               context.ws.attn + (row * config.n_heads + head) * d, d);
    }
  }
}

// One token at depth: (kv head, key range) pairs are folded by any worker, then merged by head.
// Partials of (kv_head, split): [group, D] acc, [group] max, [group] sum.
void AttendSplit(const Worker& worker, LayerContext& context, const Segment& segment,
                 int64_t softmax_index) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const int64_t group = config.n_heads / config.n_kv_heads;
  const int64_t n_keys = segment.position + 1;
  const int64_t split_keys = SplitKeys(n_keys);
  const int64_t n_splits = DivCeil(n_keys, split_keys);
  const Scratch scratch = CutScratch(context, worker.index);
  // A head's partials lie at the same place whatever the depth: nodes do not wait for each other
  // between the segments of a batch.
  const int64_t most_splits = context.ws.most_splits;
  const auto partial = [&](int64_t kv_head, int64_t split) {
    float* base = context.ws.softmax_partials + (kv_head * most_splits + split) * group * (d + 2);
    return Fold{base, base + group * d, base + group * (d + 1)};
  };
  const auto [begin, end] = ShareWithin(worker, config.n_kv_heads, n_splits);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t kv_head = item / n_splits;
    const int64_t key = item % n_splits * split_keys;
    const Tile tile = LoadTile(context, segment, kv_head, 0, scratch.q);
    const Fold part = partial(kv_head, item % n_splits);
    Clear(part, group, d);
    FoldKeys(tile, CacheOf(*segment.state, softmax_index, kv_head), key,
             std::min(n_keys, key + split_keys), d, scratch.scores, part);
  }
  worker.OnNode().Barrier();
  const auto [head_begin, head_end] = ShareWithin(worker, config.n_kv_heads, group);
  for (int64_t head = head_begin; head < head_end; ++head) {
    const int64_t r = head % group;
    Clear(scratch.total, 1, d);
    for (int64_t split = 0; split < n_splits; ++split) {
      const Fold part = partial(head / group, split);
      MergeRow(scratch.total.acc, scratch.total.max[0], scratch.total.sum[0], part.acc + r * d,
               part.max[r], part.sum[r], d);
    }
    WriteRow(scratch.total.acc, scratch.total.sum[0],
             context.ws.attn + (segment.first_row * config.n_heads + head) * d, d);
  }
  worker.OnNode().Barrier();  // the node's partials are free for the next segment
}

}  // namespace

int64_t SoftmaxScratchFloats(const ModelConfig& config) {
  const int64_t group = config.n_heads / config.n_kv_heads;
  const int64_t rows = kTileTokens * group;
  return group * kBlockKeys + rows * config.head_dim + 2 * rows * (config.head_dim + 2);
}

int64_t MostSplits(int64_t n_ctx) { return std::min(DivCeil(n_ctx, kMinSplitKeys), kMaxSplits); }

int64_t SoftmaxPartialFloats(const ModelConfig& config, int64_t n_ctx) {
  return config.n_heads * MostSplits(n_ctx) * (config.head_dim + 2);
}

SoftmaxProjections SoftmaxLayout(const LayerContext& context) {
  const int64_t q_floats = context.n_tokens * context.config.n_heads * context.config.head_dim;
  const int64_t kv_floats = context.n_tokens * context.config.n_kv_heads * context.config.head_dim;
  float* q = context.ws.qkv;
  return {q, q + q_floats, q + q_floats + kv_floats};
}

void RotateAndStore(const Worker& worker, LayerContext& context, const Rope& rope,
                    int64_t softmax_index) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const SoftmaxProjections projections = SoftmaxLayout(context);
  // A node turns the heads it computed itself: its kv heads, and the query heads of their groups.
  const int64_t group = config.n_heads / config.n_kv_heads;
  const auto [first_kv, last_kv] = worker.NodeShare(config.n_kv_heads);
  const int64_t n_q = (last_kv - first_kv) * group;
  const int64_t heads_per_token = n_q + last_kv - first_kv;
  if (heads_per_token == 0) return;
  constexpr int64_t kMaxHalf = 2048;  // the readers allow heads of 4096
  STOKER_CHECK(rope.half() <= kMaxHalf);
  float cos[kMaxHalf];
  float sin[kMaxHalf];
  for (const Segment& segment : context.segments) {
    const auto [begin, end] = worker.OnNode().Share(segment.n_tokens * heads_per_token);
    int64_t angle_token = -1;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t token = item / heads_per_token;
      const int64_t head = item % heads_per_token;
      const int64_t row = segment.first_row + token;
      const int64_t position = segment.position + token;
      if (token != angle_token) {
        rope.Angles(position, cos, sin);
        angle_token = token;
      }
      if (head < n_q) {
        rope.Apply(cos, sin, projections.q + (row * config.n_heads + first_kv * group + head) * d);
        continue;
      }
      const int64_t kv_head = first_kv + head - n_q;
      const int64_t source = (row * config.n_kv_heads + kv_head) * d;
      const KvTypes kv = segment.state->kv();
      rope.Apply(cos, sin, projections.k + source);
      StoreKey(kv.keys, projections.k + source, d, position,
               segment.state->Keys(softmax_index, kv_head));
      StoreValue(kv.values, projections.v + source, d, position,
                 segment.state->Values(softmax_index, kv_head));
    }
  }
}

void SoftmaxHeads(const Worker& worker, LayerContext& context, int64_t softmax_index) {
  for (const Segment& segment : context.segments) {
    const bool deep = segment.position + 1 > kMinSplitKeys;
    if (segment.n_tokens == 1 && deep) {
      AttendSplit(worker, context, segment, softmax_index);
    } else {
      AttendTiles(worker, context, segment, softmax_index);
    }
  }
}

}  // namespace stoker
