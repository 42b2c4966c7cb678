#include "runtime/matmul/activations.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "mmap/half.h"
#include "numa/bytes.h"
#include "numa/check.h"
#include "runtime/kernels/kernel_table.h"

namespace stoker {
namespace {

// Rows end with spare elements so that neighbouring rows of a power-of-two k do not fall on the
// same cache sets, which would halve the first-level cache for blocked kernels.
constexpr int64_t kCodePadding = 64;
constexpr int64_t kScalePadding = 16;
constexpr int64_t kSumPadding = 32;
constexpr int64_t kPartPadding = 32;

int64_t PaddedK(int64_t k) { return DivCeil(k, kGroup) * kGroup; }
int64_t CodeStride(int64_t k) { return PaddedK(k) + kCodePadding; }
int64_t ScaleStride(int64_t k) { return PaddedK(k) / kGroup + kScalePadding; }
int64_t Step(ActivationRoom room) { return room.residual ? 2 : 1; }
int64_t SumStride(int64_t k) { return PaddedK(k) / kGroup * kSumsPerGroup + kSumPadding; }

// Of max_m rows; where there is room for residual rows, each has its own behind it.
size_t CodeBytes(int64_t max_m, int64_t max_k, ActivationRoom room) {
  return static_cast<size_t>(Step(room) * max_m * CodeStride(max_k));
}
size_t ScaleBytes(int64_t max_m, int64_t max_k, ActivationRoom room) {
  return static_cast<size_t>(Step(room) * max_m * ScaleStride(max_k)) * sizeof(float);
}
size_t SumBytes(int64_t max_m, int64_t max_k, ActivationRoom room) {
  return static_cast<size_t>(Step(room) * max_m * SumStride(max_k)) * sizeof(int16_t);
}
size_t PartBytes(int64_t max_m, int64_t stride, ActivationRoom room) {
  return room.bf16_parts ? static_cast<size_t>(kBf16Parts * max_m * stride) * sizeof(uint16_t) : 0;
}
size_t F32Bytes(int64_t max_m, int64_t max_k, ActivationRoom room) {
  return room.gathered_f32 ? static_cast<size_t>(max_m * max_k) * sizeof(float) : 0;
}

// Calls f(row, first value, n values) for a worker's share of m rows of k values in groups, so that
// one token's row is shared out too.
template <typename F>
void ForEachGroup(const Worker& worker, int64_t m, int64_t k, F&& f) {
  const int64_t n_groups = DivCeil(k, kGroup);
  const auto [begin, end] = worker.Share(m * n_groups);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit % n_groups * kGroup;
    f(unit / n_groups, first, std::min(kGroup, k - first));
  }
}

// to[0, n) = x rounded to bf16, to[stride, stride + n) what that left, rounded, and so on.
void SplitBf16(const float* x, int64_t n, uint16_t* to, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) {
    float rest = x[i];
    for (int64_t part = 0; part < kBf16Parts; ++part) {
      const uint16_t rounded = F32ToBF16(rest);
      to[part * stride + i] = rounded;
      rest -= BF16ToF32(rounded);
    }
  }
}

void CopyRow(const Q8Rows& from, int64_t from_row, const Q8Rows& to, int64_t to_row) {
  const auto n_groups = static_cast<size_t>(to.n_groups);
  std::memcpy(to.codes + to_row * to.code_stride, from.codes + from_row * from.code_stride,
              n_groups * kGroup);
  std::memcpy(to.scales + to_row * to.scale_stride, from.scales + from_row * from.scale_stride,
              n_groups * sizeof(float));
  std::memcpy(to.sums + to_row * to.sum_stride, from.sums + from_row * from.sum_stride,
              n_groups * kSumsPerGroup * sizeof(int16_t));
}

// residual[0, n) = x minus what quantize_q8 (kernel_table.h) makes of this group: its codes times
// its scale. A scale that is not finite leaves zero: the first row carries the NaN.
void Residual(const float* x, int64_t n, const int8_t* codes, float scale, float* residual) {
  const bool finite = scale <= std::numeric_limits<float>::max();
  for (int64_t i = 0; i < n; ++i) {
    residual[i] = finite ? x[i] - static_cast<float>(codes[i]) * scale : 0.0f;
  }
}

}  // namespace

Activations::Activations(int64_t max_m, int64_t max_k, IsaLevel level, ActivationRoom room)
    : max_m_(max_m), max_k_(max_k), level_(level), room_(room) {
  STOKER_CHECK(max_m > 0 && max_k > 0);
  if (room.gathered_f32) {
    gathered_ = NodeBuffer::Allocate(F32Bytes(max_m, max_k, room), "gathered activations");
  }
  codes_ = NodeBuffer::Allocate(CodeBytes(max_m, max_k, room), "integer activations");
  scales_ = NodeBuffer::Allocate(ScaleBytes(max_m, max_k, room), "activation scales");
  sums_ = NodeBuffer::Allocate(SumBytes(max_m, max_k, room), "activation sums");
  if (room.bf16_parts) {
    parts_ = NodeBuffer::Allocate(PartBytes(max_m, PartStride(max_k), room), "bf16 activations");
  }
}

int64_t Activations::BytesFor(int64_t max_m, int64_t max_k, ActivationRoom room) {
  return static_cast<int64_t>(F32Bytes(max_m, max_k, room) + CodeBytes(max_m, max_k, room) +
                              ScaleBytes(max_m, max_k, room) + SumBytes(max_m, max_k, room) +
                              PartBytes(max_m, PartStride(max_k), room));
}

int64_t Activations::PartStride(int64_t k) { return k + kPartPadding; }

Q8Rows Activations::MutableQ8Rows(int64_t m, int64_t k, bool every_other) const {
  const int64_t step = every_other ? 2 : 1;
  Q8Rows rows;
  rows.codes = codes_.as<int8_t>();
  rows.scales = scales_.as<float>();
  rows.sums = sums_.as<int16_t>();
  rows.code_stride = step * CodeStride(k);
  rows.scale_stride = step * ScaleStride(k);
  rows.sum_stride = step * SumStride(k);
  rows.m = m;
  rows.k = k;
  rows.n_groups = PaddedK(k) / kGroup;
  return rows;
}

void Activations::SetShape(int64_t m, int64_t k, const float* x, int64_t x_stride, uint32_t forms) {
  m_ = m;
  k_ = k;
  f32_ = x;
  f32_stride_ = x_stride;
  forms_ = forms;
}

void Activations::Prepare(const Worker& worker, const float* x, int64_t m, int64_t k,
                          int64_t x_stride, uint32_t forms) {
  STOKER_CHECK(m >= 0 && m <= max_m_ && k > 0 && k <= max_k_);
  // One writer: the others read these fields only after the caller's barrier.
  if (worker.index == 0) SetShape(m, k, x, x_stride, forms | kActF32);
  if ((forms & kActBf16Parts) != 0) SplitGroups(worker, x, m, k, x_stride);
  if ((forms & kActQ8) == 0) return;
  STOKER_CHECK(k % 32 == 0 && (room_.residual || !HasResidual(forms)));
  QuantizeGroups(worker, x, m, k, x_stride, HasResidual(forms));
}

void Activations::SplitGroups(const Worker& worker, const float* x, int64_t m, int64_t k,
                              int64_t x_stride) const {
  STOKER_CHECK(room_.bf16_parts);
  const int64_t stride = PartStride(k);
  ForEachGroup(worker, m, k, [&](int64_t row, int64_t first, int64_t n) {
    SplitBf16(x + row * x_stride + first, n,
              parts_.as<uint16_t>() + kBf16Parts * row * stride + first, stride);
  });
}

void Activations::QuantizeGroups(const Worker& worker, const float* x, int64_t m, int64_t k,
                                 int64_t x_stride, bool residual) const {
  const KernelTable& kernels = KernelsFor(level_);
  const int64_t step = residual ? 2 : 1;
  const Q8Rows rows = MutableQ8Rows(step * m, k, /*every_other=*/false);
  const auto quantize = [&](const float* values, int64_t n, int64_t row, int64_t group) {
    kernels.quantize_q8(values, n, rows.codes + row * rows.code_stride + group * kGroup,
                        rows.scales + row * rows.scale_stride + group,
                        rows.sums + row * rows.sum_stride + group * kSumsPerGroup);
  };
  ForEachGroup(worker, m, k, [&](int64_t row, int64_t first, int64_t n) {
    const int64_t group = first / kGroup;
    const float* values = x + row * x_stride + first;
    quantize(values, n, step * row, group);
    if (!residual) return;
    float rest[kGroup];
    Residual(values, n, rows.codes + step * row * rows.code_stride + first,
             rows.scales[step * row * rows.scale_stride + group], rest);
    quantize(rest, n, step * row + 1, group);
  });
}

void Activations::Gather(const Worker& worker, const Activations& source,
                         std::span<const int32_t> rows, uint32_t forms) {
  const int64_t m = static_cast<int64_t>(rows.size());
  const int64_t k = source.k_;
  STOKER_CHECK(this != &source && m <= max_m_ && k <= max_k_ && level_ == source.level_);
  STOKER_CHECK((forms & ~source.forms_) == 0);
  STOKER_CHECK(room_.gathered_f32 || (forms & kActF32) == 0);
  STOKER_CHECK(room_.residual || !HasResidual(forms));
  STOKER_CHECK(room_.bf16_parts || (forms & kActBf16Parts) == 0);
  float* const f32 = gathered_.as<float>();
  if (worker.index == 0) SetShape(m, k, f32, k, forms);
  const auto [begin, end] = worker.Share(m);
  const bool residual = HasResidual(forms);
  const int64_t from_step = HasResidual(source.forms_) ? 2 : 1;
  const int64_t to_step = residual ? 2 : 1;
  const Q8Rows from = source.MutableQ8Rows(from_step * source.m_, k, /*every_other=*/false);
  const Q8Rows to = MutableQ8Rows(to_step * m, k, /*every_other=*/false);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    STOKER_CHECK(row >= 0 && row < source.m_);
    if ((forms & kActF32) != 0) {
      std::memcpy(f32 + i * k, source.f32(row), static_cast<size_t>(k) * sizeof(float));
    }
    if ((forms & kActQ8) != 0) CopyRow(from, from_step * row, to, to_step * i);
    if (residual) CopyRow(from, from_step * row + 1, to, to_step * i + 1);
    if ((forms & kActBf16Parts) != 0) {
      const int64_t size = kBf16Parts * PartStride(k);  // of a row's parts
      std::memcpy(parts_.as<uint16_t>() + i * size, source.parts_.as<uint16_t>() + row * size,
                  static_cast<size_t>(size) * sizeof(uint16_t));
    }
  }
}

}  // namespace stoker
