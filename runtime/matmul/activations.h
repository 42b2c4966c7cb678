#pragma once

// The input side of a matmul: m token rows of k values, in f32 and, where a kernel wants it, in
// another form made once and shared by every matrix that reads the same input. Allocated at
// load for the largest m and k; Prepare and Gather are collective calls inside ThreadTeam::Run: no
// worker may still read the previous content (barrier before), and none may read the new one until
// all are done (barrier after). Not the output side, and no weights. Thread-compatible.

#include <cstddef>
#include <cstdint>
#include <span>

#include "numa/cpu_features.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/kernels/activation_rows.h"

namespace stoker {

// Forms a kernel can read; a bit mask.
enum ActivationForm : uint32_t {
  kActF32 = 1u << 0,  // the source pointer itself, no copy
  kActQ8 = 1u << 1,   // int8, one f32 scale per 256 values, plus the sums kernels need
  // Behind each row of kActQ8 another that holds what the first left over, in the same form: the
  // sum of both products has some 15 bits of activation. Includes kActQ8.
  kActQ8Residual = (1u << 2) | kActQ8,
  kActBf16Parts = 1u << 3,  // kBf16Parts rows of bf16 (activation_rows.h)
};

constexpr bool HasResidual(uint32_t forms) { return (forms & kActQ8Residual) == kActQ8Residual; }

// The same forms without residual rows: for a product whose error goes nowhere but into its own
// result, as that of the output matrix.
constexpr uint32_t WithoutResidual(uint32_t forms) { return forms & ~(kActQ8Residual & ~kActQ8); }

// What an object is prepared for beside Prepare without residual rows.
struct ActivationRoom {
  bool gathered_f32 = true;  // Gather with kActF32: rows of its own
  bool residual = true;      // kActQ8Residual
  bool bf16_parts = true;    // kActBf16Parts
};

class Activations {
 public:
  // Room for m <= max_m rows of k <= max_k values. Throws std::system_error when memory is short.
  // Pages are touched when first used, so a large max_m costs address space only. `level` is that
  // of the backend: the order of integer codes is the instruction set's own.
  Activations(int64_t max_m, int64_t max_k, IsaLevel level = ActiveIsaLevel(),
              ActivationRoom room = {});

  // Collective. Points this at x [m, k] f32 (rows x_stride apart, borrowed until the next Prepare)
  // and makes the forms of the mask, each worker its own share. k is a multiple of 32 for kActQ8.
  void Prepare(const Worker& worker, const float* x, int64_t m, int64_t k, int64_t x_stride,
               uint32_t forms);

  // Collective. Row i becomes row rows[i] of `source`, in every form of `forms`, f32 included
  // (copied); `source` must hold these forms.
  void Gather(const Worker& worker, const Activations& source, std::span<const int32_t> rows,
              uint32_t forms);

  int64_t m() const { return m_; }
  int64_t k() const { return k_; }
  uint32_t forms() const { return forms_; }
  IsaLevel level() const { return level_; }
  const float* f32(int64_t row) const { return f32_ + row * f32_stride_; }

  // All rows in the form the kernels take. The form must have been prepared.
  F32Rows f32_rows() const { return {f32_, f32_stride_, m_, k_}; }
  Q8Rows q8_rows() const { return MutableQ8Rows(m_, k_, HasResidual(forms_)); }
  // [2 m, k]: rows 2 i and 2 i + 1 belong to row i.
  Q8Rows q8_residual_rows() const { return MutableQ8Rows(2 * m_, k_, /*every_other=*/false); }

  // [kBf16Parts m, k]: the parts of row i from kBf16Parts i on.
  Bf16Rows bf16_parts() const {
    return {parts_.as<const uint16_t>(), PartStride(k_), kBf16Parts * m_, k_};
  }

  // Bytes of address space the buffers of an object of this size take.
  static int64_t BytesFor(int64_t max_m, int64_t max_k, ActivationRoom room);

 private:
  static int64_t PartStride(int64_t k);
  void SplitGroups(const Worker& worker, const float* x, int64_t m, int64_t k,
                   int64_t x_stride) const;
  void QuantizeGroups(const Worker& worker, const float* x, int64_t m, int64_t k, int64_t x_stride,
                      bool residual) const;
  // m rows from the first on, residual rows left out when every_other.
  Q8Rows MutableQ8Rows(int64_t m, int64_t k, bool every_other) const;
  void SetShape(int64_t m, int64_t k, const float* x, int64_t x_stride, uint32_t forms);

  int64_t max_m_;
  int64_t max_k_;
  IsaLevel level_;
  ActivationRoom room_;
  int64_t m_ = 0;
  int64_t k_ = 0;
  uint32_t forms_ = 0;
  const float* f32_ = nullptr;
  int64_t f32_stride_ = 0;
  NodeBuffer gathered_;  // [max_m, max_k] f32, rows of Gather; empty without room for them
  NodeBuffer codes_;     // int8, see Q8Rows
  NodeBuffer scales_;    // f32, see Q8Rows
  NodeBuffer sums_;      // int16, see Q8Rows
  NodeBuffer parts_;     // bf16, see bf16_parts; empty without room for them
};

}  // namespace stoker
