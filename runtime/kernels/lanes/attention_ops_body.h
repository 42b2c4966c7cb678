#pragma once

// The bodies of attention_ops.h over f32 lanes `L` of any width (avx2/lanes.h, avx512/lanes.h). As
// many query heads as sums fit registers, kMostRows, share what is loaded of the cache. Sums of a
// row run over elements of a key, or over keys, one after the other.

#include <algorithm>
#include <cstdint>

#include "mmap/half.h"
#include "runtime/kernels/attention_ops.h"
#include "runtime/kernels/inline.h"

namespace stoker {

template <typename L, int kMostRows>
struct AttentionOpsBody {
  using F32 = typename L::F32;
  static constexpr int64_t kWidth = L::kWidth;
  static constexpr int kKeyVectors = static_cast<int>(kKeyBlock / kWidth);
  static constexpr int kValueVectors = 2;

  template <KvType kType>
  static STOKER_INLINE F32 Load(const std::byte* from, int64_t i) {
    if constexpr (kType == KvType::kF16) return L::LoadHalves(from + 2 * i);
    return L::Load(reinterpret_cast<const float*>(from) + i);
  }

  template <KvType kType, int kRows>
  static void ScoreRows(const float* q, int64_t d, const std::byte* keys, int64_t n_blocks,
                        const std::byte* next, float* scores, int64_t stride) {
    constexpr int64_t kKeysBytes = kKeyBlock * KvBytes(kType);  // of one element of a block
    constexpr int64_t kLine = 64;
    for (int64_t block = 0; block < n_blocks; ++block) {
      F32 sums[kRows][kKeyVectors];
      for (auto& row : sums) {
        for (F32& sum : row) sum = L::Zero();
      }
#pragma GCC unroll 2
      for (int64_t j = 0; j < d; ++j) {
        const int64_t at = (block * d + j) * kKeysBytes;
        if (at % kLine == 0) __builtin_prefetch(next + at);
        F32 key[kKeyVectors];
        for (int v = 0; v < kKeyVectors; ++v) {
          key[v] = Load<kType>(keys + at, v * kWidth);
        }
        for (int r = 0; r < kRows; ++r) {
          const F32 element = L::Set(q[r * d + j]);
          for (int v = 0; v < kKeyVectors; ++v) sums[r][v] = L::MulAdd(element, key[v], sums[r][v]);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kKeyVectors; ++v) {
          L::Store(scores + r * stride + block * kKeyBlock + v * kWidth, sums[r][v]);
        }
      }
    }
  }

  // Columns [j, j + kVectors * kWidth).
  template <KvType kType, int kRows, int kVectors>
  static STOKER_INLINE void AddColumns(const float* weights, int64_t stride,
                                       const std::byte* values, int64_t n_keys, int64_t d,
                                       int64_t j, float* out) {
    F32 sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] = L::Load(out + r * d + j + v * kWidth);
    }
    for (int64_t i = 0; i < n_keys; ++i) {
      F32 value[kVectors];
      for (int v = 0; v < kVectors; ++v) value[v] = Load<kType>(values, i * d + j + v * kWidth);
      for (int r = 0; r < kRows; ++r) {
        const F32 weight = L::Set(weights[r * stride + i]);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = L::MulAdd(weight, value[v], sums[r][v]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) L::Store(out + r * d + j + v * kWidth, sums[r][v]);
    }
  }

  template <KvType kType, int kRows>
  static void AddRows(const float* weights, int64_t stride, const std::byte* values,
                      int64_t n_keys, int64_t d, float* out) {
    int64_t j = 0;
    for (; j + kValueVectors * kWidth <= d; j += kValueVectors * kWidth) {
      AddColumns<kType, kRows, kValueVectors>(weights, stride, values, n_keys, d, j, out);
    }
    for (; j + kWidth <= d; j += kWidth) {
      AddColumns<kType, kRows, 1>(weights, stride, values, n_keys, d, j, out);
    }
    for (; j < d; ++j) {
      for (int r = 0; r < kRows; ++r) {
        for (int64_t i = 0; i < n_keys; ++i) {
          out[r * d + j] += weights[r * stride + i] * LoadOne<kType>(values, i * d + j);
        }
      }
    }
  }

  template <KvType kType>
  static float LoadOne(const std::byte* from, int64_t i) {
    if constexpr (kType == KvType::kF16) {
      return F16ToF32(reinterpret_cast<const uint16_t*>(from)[i]);
    }
    return reinterpret_cast<const float*>(from)[i];
  }

  template <typename F>
  static void WithType(KvType type, F&& f) {
    if (type == KvType::kF16) {
      f.template operator()<KvType::kF16>();
    } else {
      f.template operator()<KvType::kF32>();
    }
  }

  static void KeyScores(KvType type, const float* q, int64_t n_rows, int64_t d,
                        const std::byte* keys, int64_t n_blocks, const std::byte* next,
                        float* scores, int64_t stride) noexcept {
    WithType(type, [&]<KvType kType>() {
      for (int64_t r = 0; r < n_rows; r += kMostRows) {
        ForCount<kMostRows>(std::min<int64_t>(kMostRows, n_rows - r), [&](auto rows) {
          ScoreRows<kType, rows.value>(q + r * d, d, keys, n_blocks, next, scores + r * stride,
                                  stride);
        });
      }
    });
  }

  static void AddValues(KvType type, const float* weights, int64_t stride, int64_t n_rows,
                        const std::byte* values, int64_t n_keys, int64_t d, float* out) noexcept {
    WithType(type, [&]<KvType kType>() {
      for (int64_t r = 0; r < n_rows; r += kMostRows) {
        ForCount<kMostRows>(std::min<int64_t>(kMostRows, n_rows - r), [&](auto rows) {
          AddRows<kType, rows.value>(weights + r * stride, stride, values, n_keys, d, out + r * d);
        });
      }
    });
  }

  static constexpr AttentionOps Table() {
    return {.key_scores = KeyScores, .add_values = AddValues};
  }
};

}  // namespace stoker
