#pragma once

// Products with full-precision activations, any weight type and any number of tokens, over f32
// lanes of any width. `Isa` names the instruction set: Isa::Lanes; Isa::Dequantize<type>(bytes, n,
// out) for blocks, which writes n elements and may write zeros up to the next multiple of 256; and
// for F16 and BF16 Isa::WidenFirst<type>(bytes, n), a vector of f32 of the first n halves, or as
// many as it has lanes.
//
// Types: weights dequantised to f32 (one rounding of scale * code + add), f32 fused multiply-adds
// in two vectors of lanes per chunk of kChunk elements, chunk sums added in f32. The order depends
// on k only, so a result is the same bits for every m and every tiling. Tolerance against scalar:
// 2e-6 of sum |w x|. Any alignment; tails by masked loads.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/kernel_table.h"

namespace stoker {

template <typename Isa>
struct DotF32Body {
  using L = typename Isa::Lanes;
  using F32 = typename L::F32;
  static constexpr int kWidth = L::kWidth;

  // A chunk of the dequantised rows (at most 32 KiB) stays in L1 beside the tokens' chunks.
  static constexpr int64_t kChunk = 2048;
  // Rows and tokens of one tile: two accumulators for each pair, within the register file.
  static constexpr int kRows = Isa::kTileRows;
  static constexpr int kTokens = 3;

  template <DType kType>
  static constexpr bool kHalves = kType == DType::kBF16 || kType == DType::kF16;

  // f32 rows, `stride` elements apart.
  struct Plain {
    const float* w;
    int64_t stride;
    F32 Load(int r, int64_t i) const { return L::Load(w + r * stride + i); }
    F32 LoadFirst(int r, int64_t i, int64_t n) const { return L::LoadFirst(w + r * stride + i, n); }
  };

  // sums[t * kR + r] = dot of the n elements of weight row r and token t.
  template <int kR, int kT, typename Weights>
  static void DotTile(const Weights& w, const float* x, int64_t x_stride, int64_t n, float* sums) {
    F32 lanes[kR][kT][2];
    for (auto& row : lanes) {
      for (auto& pair : row) pair[0] = pair[1] = L::Zero();
    }
    int64_t i = 0;
    for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
      for (int half = 0; half < 2; ++half) {
        F32 tokens[kT];
        for (int t = 0; t < kT; ++t) tokens[t] = L::Load(x + t * x_stride + i + half * kWidth);
        for (int r = 0; r < kR; ++r) {
          const F32 weight = w.Load(r, i + half * kWidth);
          for (int t = 0; t < kT; ++t) {
            lanes[r][t][half] = L::MulAdd(weight, tokens[t], lanes[r][t][half]);
          }
        }
      }
    }
    for (int half = 0; half < 2 && i < n; ++half, i += kWidth) {
      const int64_t rest = std::min<int64_t>(kWidth, n - i);
      for (int r = 0; r < kR; ++r) {
        const F32 weight = w.LoadFirst(r, i, rest);
        for (int t = 0; t < kT; ++t) {
          lanes[r][t][half] =
              L::MulAdd(weight, L::LoadFirst(x + t * x_stride + i, rest), lanes[r][t][half]);
        }
      }
    }
    for (int t = 0; t < kT; ++t) {
      for (int r = 0; r < kR; ++r) {
        sums[t * kR + r] = L::Sum(L::Add(lanes[r][t][0], lanes[r][t][1]));
      }
    }
  }

  // Stores (first == 0) or adds the products of elements [first, first + n) of kR rows, which begin
  // at w. One copy serves all weight types that are dequantised to f32.
  template <int kR, typename Weights>
  __attribute__((noinline)) static void MultiplyChunk(const Weights& w, const F32Rows& x,
                                                      int64_t first, int64_t n, float* y,
                                                      int64_t y_stride) {
    for (int64_t t = 0; t < x.m; t += kTokens) {
      const int64_t n_tokens = std::min<int64_t>(kTokens, x.m - t);
      const float* tokens = x.x + t * x.stride + first;
      float sums[kTokens * kR];
      switch (n_tokens) {
        case 1: DotTile<kR, 1>(w, tokens, x.stride, n, sums); break;
        case 2: DotTile<kR, 2>(w, tokens, x.stride, n, sums); break;
        default: DotTile<kR, 3>(w, tokens, x.stride, n, sums); break;
      }
      for (int64_t i = 0; i < n_tokens; ++i) {
        for (int r = 0; r < kR; ++r) {
          float* out = y + (t + i) * y_stride + r;
          *out = first == 0 ? sums[i * kR + r] : *out + sums[i * kR + r];
        }
      }
    }
  }

  template <DType kType, int kR>
  static void MultiplyRows(const std::byte* w, int64_t row_bytes, const F32Rows& x, float* y,
                           int64_t y_stride) {
    if constexpr (kType == DType::kF32) {
      const int64_t stride = row_bytes / static_cast<int64_t>(sizeof(float));
      for (int64_t first = 0; first < x.k; first += kChunk) {
        const Plain rows{reinterpret_cast<const float*>(w) + first, stride};
        MultiplyChunk<kR>(rows, x, first, std::min(kChunk, x.k - first), y, y_stride);
      }
      return;
    }
    if constexpr (kType != DType::kF32) {
      alignas(64) float buffer[kR * kChunk];
      for (int64_t first = 0; first < x.k; first += kChunk) {
        const int64_t n = std::min(kChunk, x.k - first);
        for (int r = 0; r < kR; ++r) {
          float* const out = buffer + r * kChunk;
          if constexpr (kHalves<kType>) {
            const std::byte* const row = w + r * row_bytes + 2 * first;
            for (int64_t i = 0; i < n; i += kWidth) {
              L::Store(out + i, Isa::template WidenFirst<kType>(row + 2 * i, n - i));
            }
          } else {
            Isa::template Dequantize<kType>(w + r * row_bytes + first * row_bytes / x.k, n, out);
          }
        }
        MultiplyChunk<kR>(Plain{buffer, kChunk}, x, first, n, y, y_stride);
      }
    }
  }

  template <DType kType>
  static void Dot(const WeightRows& w, const F32Rows& x, float* y, int64_t y_stride) noexcept {
    int64_t r = 0;
    // One token is bound by memory, which a single sequential stream reads best; several tokens are
    // bound by arithmetic.
    if (x.m > 1) {
      for (; r + kRows <= w.n_rows; r += kRows) {
        MultiplyRows<kType, kRows>(w.data + r * w.row_bytes, w.row_bytes, x, y + r, y_stride);
      }
    }
    for (; r < w.n_rows; ++r) {
      MultiplyRows<kType, 1>(w.data + r * w.row_bytes, w.row_bytes, x, y + r, y_stride);
    }
  }

  template <DType... kTypes>
  static void Add(KernelTable* table) {
    ((table->For(kTypes).dot_f32 = Dot<kTypes>), ...);
  }

  static void AddAll(KernelTable* table) {
    Add<DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
        DType::kQ5_1, DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K,
        DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kInt8Row>(table);
  }
};

}  // namespace stoker
