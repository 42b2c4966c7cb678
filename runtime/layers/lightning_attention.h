#pragma once

// Lightning attention (arXiv:2401.04658, section 3; arXiv:2501.08313, section 2.2): linear
// attention with a fixed exponential decay per head and layer, with SiLU on q, k and v, no RoPE, no
// scale and no normaliser. A few tokens take the recurrent form:
//   S <- lambda S + k v^T;  o = q^T S
// Of a prompt, every block of kLightningBlock positions, counted from the beginning of the
// sequence, that lies in the chunk as a whole takes the chunk form, whose sums are matrix products:
//   o_i = lambda^i q_i^T S + sum over t <= i of lambda^(i-t) (q_i . k_t) v_t,  i, t in [1, m]
//   S <- lambda^m S + sum over t of lambda^(m-t) k_t v_t^T
// State and sums are f32. Collective calls inside ThreadTeam::Run; heads are the unit of work.

#include <cstdint>
#include <vector>

#include "numa/thread_team.h"
#include "runtime/layers/workspace.h"

namespace stoker {

// Where a chunk of a prompt ends at a multiple of it, its bits do not depend on the chunk's length.
inline constexpr int64_t kLightningBlock = 64;

// ALiBi slopes s_j, j in [0, n_heads): 2^(-8 (j+1) / n_heads) for a power of two; otherwise the
// slopes of the power of two below, followed by every second slope of the one above.
std::vector<double> AlibiSlopes(int64_t n_heads);

// lambda_j = exp(-s_j (1 - layer / (n_layers - 1) + 1e-5)), layer counted over all layers.
std::vector<float> LightningDecay(int64_t n_heads, int64_t layer, int64_t n_layers);

// Floats one worker needs of ws.HeadScratch().
int64_t LightningScratchFloats(const ModelConfig& config);

// Reads ws.qkv [T, n_heads x (q, k, v) x D] before SiLU, advances head states of the segments'
// sequences, writes ws.attn [T, n_heads * D], each node its own heads. The caller puts a barrier of
// the node before and of all after.
void LightningHeads(const Worker& worker, LayerContext& context, int64_t lightning_index,
                    const std::vector<float>& decay);

}  // namespace stoker
