#pragma once

// Causal softmax attention with grouped queries and partial RoPE, computed in blocks of keys with a
// running maximum (FlashAttention, arXiv:2205.14135; split over keys for decode as in
// Flash-Decoding), so that no n x n buffer exists. f32 but for the cache, whose keys and values may
// be rounded to f16 (SequenceState). Collective calls inside ThreadTeam::Run; a (kv head, tile of
// tokens) pair or, for one token at depth, a (kv head, range of keys) pair is the unit of work. A
// row's result does not depend on the number of workers nor on which tokens share its tile.

#include <cstdint>

#include "numa/thread_team.h"
#include "runtime/layers/rope.h"
#include "runtime/layers/workspace.h"

namespace stoker {

// Ranges of keys that are folded on their own, at most.
int64_t MostSplits(int64_t n_ctx);

// Floats one worker needs of ws.HeadScratch(), and the floats ws.softmax_partials needs.
int64_t SoftmaxScratchFloats(const ModelConfig& config);
int64_t SoftmaxPartialFloats(const ModelConfig& config, int64_t n_ctx);

// Where the projections of a softmax layer lie in ws.qkv: q [T, n_heads D], then k and v [T,
// n_kv_heads D].
struct SoftmaxProjections {
  float* q;
  float* k;
  float* v;
};
SoftmaxProjections SoftmaxLayout(const LayerContext& context);

// Turns q and k in place, and appends k and v to the segments' KV caches, each node its own heads.
// Barrier of the node before and after.
void RotateAndStore(const Worker& worker, LayerContext& context, const Rope& rope,
                    int64_t softmax_index);

// ws.attn [T, n_heads D] from ws.qkv's q and the KV caches. Barrier of the node before, of all
// after. Contains barriers of the node: every worker must call it.
void SoftmaxHeads(const Worker& worker, LayerContext& context, int64_t softmax_index);

}  // namespace stoker
