#pragma once

// F32, F16 and BF16 weights as panels (panel_layout.h) times f32 activations: a few tokens, one
// lane per row, weights widened in registers. `Isa` names the instruction set: Isa::Lanes, and
// Isa::kMaxTokens, for which a panel is streamed at a time.
//
// Types: f32 fused multiply-adds in four chains, columns c, c + 1, c + 2 and c + 3 of every four,
// which are added after each kChunk columns and then join the row's total. The order depends on the
// row's length only, so a result is the same bits for every number of tokens.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mmap/half.h"
#include "runtime/kernels/inline.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/lanes/panel_stream.h"
#include "runtime/kernels/panel_layout.h"

namespace stoker {

template <typename Isa>
struct PlainPanelBody {
  using L = typename Isa::Lanes;
  using F32 = typename L::F32;
  static constexpr int kParts = static_cast<int>(kPanelRows) / L::kRows;
  static constexpr int64_t kChunk = 256;
  static constexpr int kFour = 4;

  template <DType kType>
  static constexpr int64_t kElementBytes = kType == DType::kF32 ? 4 : 2;

  // Of the lines of columns c .. c + 3: those of one token are used up quickly (panel_stream.h).
  template <DType kType, int kT>
  static STOKER_INLINE void Prefetch(const std::byte* panel, int64_t c) {
    constexpr int64_t kBytes = kFour * kPanelRows * kElementBytes<kType>;
    const std::byte* const at = panel + c / kFour * kBytes;
    if constexpr (kT > 1) {
      for (int64_t line = 0; line < kBytes; line += 64) L::PrefetchToL1(at + kDenseAhead + line);
    } else if (c / kFour % std::max<int64_t>(1, kSparseEvery / kBytes) == 0) {
      L::PrefetchToL2(at + kSparseAhead);
    }
  }

  // Columns c and c + 1 of a part of the rows, widened. c is even and c + 2 <= cols.
  template <DType kType>
  static STOKER_INLINE void LoadTwo(const std::byte* panel, int64_t c, int part, F32 (&w)[2]) {
    constexpr int64_t kSize = kElementBytes<kType>;
    if constexpr (kType == DType::kBF16) {
      L::LoadBf16Pairs(panel + kSize * (c * kPanelRows + 2 * part * L::kRows), &w[0], &w[1]);
      return;
    }
    const std::byte* const at = panel + kSize * (c * kPanelRows + part * L::kRows);
    for (int i = 0; i < 2; ++i) {
      if constexpr (kType == DType::kF16) {
        w[i] = L::LoadHalves(at + i * kSize * kPanelRows);
      } else {
        w[i] = L::Load(reinterpret_cast<const float*>(at + i * kSize * kPanelRows));
      }
    }
  }

  // One column of a part: the up to three behind the last whole four.
  template <DType kType>
  __attribute__((noinline)) static F32 LoadOne(const std::byte* panel, int64_t cols, int64_t c,
                                               int part) {
    alignas(64) float values[L::kRows];
    for (int r = 0; r < L::kRows; ++r) {
      values[r] = ReadPlain<kType>(panel + PlainPanelOffset<kType>(cols, c, part * L::kRows + r));
    }
    return L::Load(values);
  }

  // sums[t][kAt + i] += the products of column c + kAt + i, i in {0, 1}. Two columns' weights at a
  // time, which leaves registers for the sums of as many tokens as there are.
  template <DType kType, int kT, int kAt>
  static STOKER_INLINE void AddTwo(const std::byte* panel, int64_t c, int part, const float* x,
                                   int64_t x_stride, F32 (&sums)[kT][kFour]) {
    if (kT > 1) STOKER_KEEP_ORDER();
    F32 w[2];
    LoadTwo<kType>(panel, c + kAt, part, w);
    for (int t = 0; t < kT; ++t) {
      for (int i = 0; i < 2; ++i) {
        sums[t][kAt + i] =
            L::MulAdd(w[i], L::Set(x[t * x_stride + c + kAt + i]), sums[t][kAt + i]);
      }
    }
  }

  // total[p][t] += the products of columns [first, first + n) of parts `part` and following.
  template <DType kType, int kP, int kT>
  static STOKER_INLINE void Chunk(const std::byte* panel, int part, const F32Rows& x,
                                  int64_t first, int64_t n, F32 (*total)[kT]) {
    F32 sums[kP][kT][kFour];
    for (auto& of_part : sums) {
      for (auto& of_token : of_part) std::fill(of_token, of_token + kFour, L::Zero());
    }
    const int64_t end = first + n;
    const float* const tokens = x.x;
    const int64_t stride = x.stride;
    int64_t c = first;
    for (; c + kFour <= end; c += kFour) {
      if (part == 0) Prefetch<kType, kT>(panel, c);
      for (int p = 0; p < kP; ++p) {
        AddTwo<kType, kT, 0>(panel, c, part + p, tokens, stride, sums[p]);
        AddTwo<kType, kT, 2>(panel, c, part + p, tokens, stride, sums[p]);
      }
    }
    // Every index a constant, or the sums would not be in registers above either.
    ForConstants<kFour - 1>([&](auto i) STOKER_INLINE_LAMBDA {
      if (c + i >= end) return;
      for (int p = 0; p < kP; ++p) {
        const F32 w = LoadOne<kType>(panel, x.k, c + i, part + p);
        for (int t = 0; t < kT; ++t) {
          sums[p][t][i] = L::MulAdd(w, L::Set(tokens[t * stride + c + i]), sums[p][t][i]);
        }
      }
    });
    for (int p = 0; p < kP; ++p) {
      for (int t = 0; t < kT; ++t) {
        const F32 (&sum)[kFour] = sums[p][t];
        total[p][t] = L::Add(total[p][t], L::Add(L::Add(sum[0], sum[1]), L::Add(sum[2], sum[3])));
      }
    }
  }

  // Of exactly kT tokens. One token takes all rows of a column at once, so that memory is read
  // strictly forwards; the sums of several take all registers there are for a part of the rows.
  template <DType kType, int kT>
  static void Panel(const std::byte* panel, int64_t n_rows, const F32Rows& x, float* y,
                    int64_t y_stride) {
    constexpr int kP = kT == 1 ? kParts : 1;
    F32 total[kParts][kT];
    for (auto& part : total) std::fill(part, part + kT, L::Zero());
    for (int64_t first = 0; first < x.k; first += kChunk) {
      const int64_t n = std::min(kChunk, x.k - first);
      for (int part = 0; part < kParts; part += kP) {
        Chunk<kType, kP, kT>(panel, part, x, first, n, total + part);
      }
    }
    StorePanel<L>(total, n_rows, y, y_stride);
  }

  // See TypeKernels::dot_plain.
  template <DType kType>
  static void Dot(const std::byte* panels, int64_t n_rows, const F32Rows& x, float* y,
                  int64_t y_stride) noexcept {
    constexpr int64_t kMost = Isa::kMaxTokens;
    const int64_t panel_bytes = kElementBytes<kType> * kPanelRows * x.k;
    for (int64_t row = 0; row < n_rows; row += kPanelRows, panels += panel_bytes) {
      for (int64_t t = 0; t < x.m; t += kMost) {
        const F32Rows tokens = SliceRows(x, t, std::min(kMost, x.m - t));
        ForCount<Isa::kMaxTokens>(tokens.m, [&](auto count) {
          Panel<kType, count>(panels, n_rows - row, tokens, y + t * y_stride + row, y_stride);
        });
      }
    }
  }

  // See TypeKernels::widen_panels.
  template <DType kType>
  static void Widen(const std::byte* panels, int64_t panel_bytes, int64_t n_panels, int64_t cols,
                    int64_t first, int64_t n, float* to) noexcept {
    for (int64_t p = 0; p < kWideRows / kPanelRows; ++p) {
      float* const out = to + p * kPanelRows;
      if (p >= n_panels) {
        for (int64_t c = 0; c < n; ++c) std::fill_n(out + c * kWideRows, kPanelRows, 0.0f);
        continue;
      }
      const std::byte* const panel = panels + p * panel_bytes;
      int64_t c = 0;
      for (; c + 2 <= n; c += 2) {
        for (int part = 0; part < kParts; ++part) {
          F32 w[2];
          LoadTwo<kType>(panel, first + c, part, w);
          for (int i = 0; i < 2; ++i) {
            L::Store(out + (c + i) * kWideRows + part * L::kRows, w[i]);
          }
        }
      }
      for (; c < n; ++c) {
        for (int part = 0; part < kParts; ++part) {
          L::Store(out + c * kWideRows + part * L::kRows,
                   LoadOne<kType>(panel, cols, first + c, part));
        }
      }
    }
  }

  // See TypeKernels::repack.
  template <DType kType>
  static void Repack(const WeightRows& w, int64_t cols, std::byte* panel) noexcept {
    constexpr int64_t kSize = kElementBytes<kType>;
    constexpr int64_t kStep = 16;  // bytes of each row that are transposed at a time
    static constexpr std::byte kZero[kStep] = {};
    for (int part = 0; part < kParts; ++part) {
      const int64_t first_row = part * L::kRows;
      int64_t at = 0;
      for (; at + kStep <= cols * kSize; at += kStep) {
        const std::byte* rows[L::kRows];
        for (int r = 0; r < L::kRows; ++r) {
          rows[r] = first_row + r < w.n_rows ? w.data + (first_row + r) * w.row_bytes + at : kZero;
        }
        typename L::Bytes quads[kFour];  // four bytes of every row each
        L::LoadQuads(rows, 0, quads);
        std::byte* to = panel + kPanelRows * at + first_row * (kType == DType::kF16 ? 2 : 4);
        for (int q = 0; q < kFour; ++q, to += 4 * kPanelRows) {
          if constexpr (kType == DType::kF16) {
            L::StoreHalves(to, to + 2 * kPanelRows, quads[q]);
          } else {
            L::StoreBytes(to, quads[q]);
          }
        }
      }
      for (int64_t c = at / kSize; c < cols; ++c) {
        for (int64_t r = first_row; r < first_row + L::kRows; ++r) {
          std::byte* const to = panel + PlainPanelOffset<kType>(cols, c, r);
          if (r < w.n_rows) {
            std::memcpy(to, w.data + r * w.row_bytes + c * kSize, kSize);
          } else {
            std::memset(to, 0, kSize);
          }
        }
      }
    }
  }

  template <DType... kTypes>
  static void Add(KernelTable* table) {
    ((table->For(kTypes).repack = Repack<kTypes>), ...);
    ((table->For(kTypes).dot_plain = Dot<kTypes>), ...);
    ((table->For(kTypes).widen_panels = Widen<kTypes>), ...);
  }

  static void AddAll(KernelTable* table) { Add<DType::kF32, DType::kF16, DType::kBF16>(table); }
};

}  // namespace stoker
