#include "runtime/matmul/activations.h"

#include <algorithm>
#include <cstring>

#include "numa/bytes.h"
#include "numa/check.h"
#include "runtime/kernels/kernel_table.h"

namespace stoker {
namespace {

// Rows end with spare elements so that neighbouring rows of a power-of-two k do not fall on the
// same cache sets, which would halve the first-level cache for blocked kernels.
constexpr int64_t kCodePadding = 64;
constexpr int64_t kSidePadding = 16;

int64_t PaddedK(int64_t k) { return DivCeil(k, kGroup) * kGroup; }
int64_t CodeStride(int64_t k) { return PaddedK(k) + kCodePadding; }
int64_t SideStride(int64_t k) { return PaddedK(k) / kSubBlock + kSidePadding; }

size_t CodeBytes(int64_t max_m, int64_t max_k) {
  return static_cast<size_t>(max_m * CodeStride(max_k));
}
size_t SideBytes(int64_t max_m, int64_t max_k) {
  return static_cast<size_t>(max_m * SideStride(max_k)) * sizeof(float);
}
size_t F32Bytes(int64_t max_m, int64_t max_k) {
  return static_cast<size_t>(max_m * max_k) * sizeof(float);
}

}  // namespace

Activations::Activations(int64_t max_m, int64_t max_k, IsaLevel level)
    : max_m_(max_m), max_k_(max_k), level_(level) {
  STOKER_CHECK(max_m > 0 && max_k > 0);
  gathered_ = NodeBuffer::Allocate(F32Bytes(max_m, max_k), "gathered activations");
  codes_ = NodeBuffer::Allocate(CodeBytes(max_m, max_k), "integer activations");
  scales_ = NodeBuffer::Allocate(SideBytes(max_m, max_k), "activation scales");
  sums_ = NodeBuffer::Allocate(SideBytes(max_m, max_k), "activation sums");
}

int64_t Activations::BytesFor(int64_t max_m, int64_t max_k) {
  return static_cast<int64_t>(F32Bytes(max_m, max_k) + CodeBytes(max_m, max_k) +
                              2 * SideBytes(max_m, max_k));
}

Q8Rows Activations::MutableQ8Rows(int64_t m, int64_t k) const {
  Q8Rows rows;
  rows.codes = codes_.as<int8_t>();
  rows.scales = scales_.as<float>();
  rows.sums = sums_.as<float>();
  rows.code_stride = CodeStride(k);
  rows.side_stride = SideStride(k);
  rows.m = m;
  rows.k = k;
  rows.n_groups = PaddedK(k) / kGroup;
  return rows;
}

void Activations::SetShape(int64_t m, int64_t k, const float* x, int64_t x_stride,
                           uint32_t forms) {
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
  if ((forms & kActQ8) == 0) return;
  STOKER_CHECK(k % 32 == 0);
  const Q8Rows rows = MutableQ8Rows(m, k);
  const KernelTable& kernels = KernelsFor(level_);
  // Units are groups of 256 values, so one token's row is shared out too.
  const auto [begin, end] = worker.Share(m * rows.n_groups);
  for (int64_t unit = begin; unit < end;) {
    const int64_t row = unit / rows.n_groups;
    const int64_t group = unit % rows.n_groups;
    const int64_t n_groups = std::min(rows.n_groups - group, end - unit);
    const int64_t offset = group * kGroup;
    const int64_t n = std::min(n_groups * kGroup, k - offset);
    kernels.quantize_q8(x + row * x_stride + offset, n, n_groups * kGroup,
                        rows.codes + row * rows.code_stride + offset,
                        rows.scales + row * rows.side_stride + offset / kSubBlock,
                        rows.sums + row * rows.side_stride + offset / kSubBlock);
    unit += n_groups;
  }
}

void Activations::Gather(const Worker& worker, const Activations& source,
                         std::span<const int32_t> rows, uint32_t forms) {
  const int64_t m = static_cast<int64_t>(rows.size());
  const int64_t k = source.k_;
  STOKER_CHECK(this != &source && m <= max_m_ && k <= max_k_ && level_ == source.level_);
  STOKER_CHECK((forms & ~source.forms_) == 0);
  float* const f32 = gathered_.as<float>();
  if (worker.index == 0) SetShape(m, k, f32, k, forms);
  const auto [begin, end] = worker.Share(m);
  const Q8Rows from = source.MutableQ8Rows(source.m_, k);
  const Q8Rows to = MutableQ8Rows(m, k);
  const size_t side_bytes = static_cast<size_t>(to.n_groups * kSubBlocksPerGroup) * sizeof(float);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    STOKER_CHECK(row >= 0 && row < source.m_);
    if ((forms & kActF32) != 0) {
      std::memcpy(f32 + i * k, source.f32(row), static_cast<size_t>(k) * sizeof(float));
    }
    if ((forms & kActQ8) != 0) {
      std::memcpy(to.codes + i * to.code_stride, from.codes + row * from.code_stride,
                  static_cast<size_t>(to.n_groups * kGroup));
      std::memcpy(to.scales + i * to.side_stride, from.scales + row * from.side_stride,
                  side_bytes);
      std::memcpy(to.sums + i * to.side_stride, from.sums + row * from.side_stride, side_bytes);
    }
  }
}

}  // namespace stoker
