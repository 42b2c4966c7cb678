#include "runtime/layers/lightning_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "runtime/kernels/attention_ops.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {

std::vector<double> AlibiSlopes(int64_t n_heads) {
  const auto power_of_two_slopes = [](int64_t n) {
    std::vector<double> slopes(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) {
      slopes[j] = std::exp2(-8.0 * static_cast<double>(j + 1) / static_cast<double>(n));
    }
    return slopes;
  };
  const int64_t below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n_heads)));
  std::vector<double> slopes = power_of_two_slopes(below);
  const std::vector<double> above = power_of_two_slopes(2 * below);
  for (size_t j = 0; static_cast<int64_t>(slopes.size()) < n_heads; j += 2) {
    slopes.push_back(above[j]);
  }
  return slopes;
}

std::vector<float> LightningDecay(int64_t n_heads, int64_t layer, int64_t n_layers) {
  const double depth =
      n_layers > 1 ? static_cast<double>(layer) / static_cast<double>(n_layers - 1) : 0.0;
  const double factor = 1.0 - depth + 1e-5;
  std::vector<float> decay;
  for (const double slope : AlibiSlopes(n_heads)) {
    decay.push_back(static_cast<float>(std::exp(-slope * factor)));
  }
  return decay;
}

namespace {

// A head's rows of ws.qkv and ws.attn for consecutive tokens, and its state.
struct HeadRows {
  float* qkv;  // [q | k | v] of the first token
  int64_t qkv_stride;
  float* out;
  int64_t out_stride;
  float* state;  // [D, D]
  float decay;
  int64_t d;
};

HeadRows From(HeadRows rows, int64_t token) {
  rows.qkv += token * rows.qkv_stride;
  rows.out += token * rows.out_stride;
  return rows;
}

void Recur(const HeadRows& rows, int64_t n_tokens) {
  const int64_t d = rows.d;
  for (int64_t i = 0; i < n_tokens; ++i) {
    const HeadRows token = From(rows, i);
    Silu(token.qkv, 3 * d);
    DecayOuterUpdate(rows.decay, token.qkv + d, token.qkv + 2 * d, token.qkv, rows.state, token.out,
                     d);
  }
}

// lambda^n for n in [0, kLightningBlock], falling, and zeros behind lambda^0: the factors of keys
// 0, 1, ... for a query lie one behind the other, and those of the future are none.
class DecayPowers {
 public:
  explicit DecayPowers(float decay) {
    double power = 1.0;
    for (int64_t n = 0; n <= kLightningBlock; ++n, power *= static_cast<double>(decay)) {
      powers_[kLightningBlock - n] = static_cast<float>(power);
    }
  }
  float Power(int64_t n) const { return powers_[kLightningBlock - n]; }
  const float* OfQuery(int64_t i) const { return powers_ + kLightningBlock - i; }

 private:
  float powers_[2 * kLightningBlock] = {};
};

// Queries whose results are computed together; they see keys up to the last one's.
constexpr int64_t kQueries = kKeyBlock;

// What a block of tokens needs, cut from a worker's scratch.
struct BlockScratch {
  BlockScratch(float* scratch, int64_t d)
      : q(scratch),
        k(q + kLightningBlock * d),
        v(k + kLightningBlock * d),
        out(v + kLightningBlock * d),
        scores(out + kQueries * d) {}
  static int64_t Floats(int64_t d) {
    return (3 * kLightningBlock + kQueries) * d + kQueries * kLightningBlock;
  }

  float* q;       // [kLightningBlock, D]
  float* k;       // the same of keys, as KeyScores wants them
  float* v;       // [kLightningBlock, D]
  float* out;     // [kQueries, D]
  float* scores;  // [kQueries, kLightningBlock]
};

// The chunk form for kLightningBlock tokens.
void MultiplyBlock(const HeadRows& rows, const BlockScratch& scratch) {
  constexpr KvType kF32 = KvType::kF32;
  const int64_t d = rows.d;
  const auto bytes = [](const float* p) { return reinterpret_cast<const std::byte*>(p); };
  const DecayPowers powers(rows.decay);
  for (int64_t i = 0; i < kLightningBlock; ++i) {
    float* const qkv = From(rows, i).qkv;
    Silu(qkv, 3 * d);
    std::copy_n(qkv, d, scratch.q + i * d);
    StoreKey(kF32, qkv + d, d, i, reinterpret_cast<std::byte*>(scratch.k));
    std::copy_n(qkv + 2 * d, d, scratch.v + i * d);
  }
  for (int64_t first = 0; first < kLightningBlock; first += kQueries) {
    const int64_t n_keys = first + kQueries;
    float* const q = scratch.q + first * d;
    KeyScores(kF32, q, kQueries, d, bytes(scratch.k), n_keys / kKeyBlock, bytes(scratch.v),
              scratch.scores, kLightningBlock);
    for (int64_t r = 0; r < kQueries; ++r) {
      const float* const factors = powers.OfQuery(first + r);
      float* const scores = scratch.scores + r * kLightningBlock;
      for (int64_t t = 0; t < n_keys; ++t) scores[t] *= factors[t];
      Scale(powers.Power(first + r + 1), q + r * d, d);
    }
    std::fill_n(scratch.out, kQueries * d, 0.0f);
    AddValues(kF32, q, d, kQueries, bytes(rows.state), d, d, scratch.out);
    AddValues(kF32, scratch.scores, kLightningBlock, kQueries, bytes(scratch.v), n_keys, d,
              scratch.out);
    for (int64_t r = 0; r < kQueries; ++r) {
      std::copy_n(scratch.out + r * d, d, From(rows, first + r).out);
    }
  }
  Scale(powers.Power(kLightningBlock), rows.state, d * d);
  for (int64_t t = 0; t < kLightningBlock; ++t) {
    Scale(powers.Power(kLightningBlock - 1 - t), scratch.v + t * d, d);
  }
  float* const k_columns = scratch.q;  // [D, kLightningBlock]
  for (int64_t first = 0; first < kLightningBlock; first += kKeyBlock) {
    for (int64_t c = 0; c < d; ++c) {
      std::copy_n(scratch.k + first * d + c * kKeyBlock, kKeyBlock,
                  k_columns + c * kLightningBlock + first);
    }
  }
  AddValues(kF32, k_columns, kLightningBlock, d, bytes(scratch.v), kLightningBlock, d, rows.state);
}

}  // namespace

int64_t LightningScratchFloats(const ModelConfig& config) {
  return BlockScratch::Floats(config.head_dim);
}

void LightningHeads(const Worker& worker, LayerContext& context, int64_t lightning_index,
                    const std::vector<float>& decay) {
  const ModelConfig& config = context.config;
  const int64_t d = config.head_dim;
  const int64_t qkv_stride = 3 * config.n_heads * d;
  const int64_t attn_stride = config.n_heads * d;
  const BlockScratch scratch(context.ws.HeadScratch(worker.index), d);
  const auto [head_begin, head_end] = worker.Share(config.n_heads);
  for (const Segment& segment : context.segments) {
    for (int64_t head = head_begin; head < head_end; ++head) {
      const HeadRows rows = {
          .qkv = context.ws.qkv + segment.first_row * qkv_stride + head * 3 * d,
          .qkv_stride = qkv_stride,
          .out = context.ws.attn + segment.first_row * attn_stride + head * d,
          .out_stride = attn_stride,
          .state = segment.state->Lightning(lightning_index, head),
          .decay = decay[static_cast<size_t>(head)],
          .d = d};
      for (int64_t i = 0, n = 0; i < segment.n_tokens; i += n) {
        const int64_t in_block = (segment.position + i) % kLightningBlock;
        n = std::min(kLightningBlock - in_block, segment.n_tokens - i);
        if (n == kLightningBlock) {
          MultiplyBlock(From(rows, i), scratch);
        } else {
          Recur(From(rows, i), n);
        }
      }
    }
  }
}

}  // namespace stoker
