#pragma once

// What is measured on this machine instead of assumed: from how many tokens on it pays to unpack
// panels of weights first (gemm_panels) instead of in registers for every few tokens (dot_panels),
// from how many on the matrix unit is faster (scaled_products.h), and how fast the fastest is, by
// which is decided how many tokens of a prompt go together (runtime/chunk_length.h). All these give
// the same bits, so a measurement changes nothing but speed. Results are kept in a small file per
// machine and row length. F32, F16 and BF16 weights have a choice between routes that round
// differently: it is taken from the file only, so that a machine has one answer, and built in where
// there can be none. Values; Calibrate is for one thread.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "mmap/dtype.h"
#include "numa/cpu_features.h"
#include "runtime/kernels/kernel_table.h"

namespace stoker {

class MatmulTuning {
 public:
  // Built in: what most types and machines come to.
  static constexpr int64_t kDefaultGemmTokens = 32;
  // Measured no further: with so many tokens unpacking costs next to nothing.
  static constexpr int64_t kMostGemmTokens = 64;

  // Of the matrix unit: built in where there is one, and what stands for "at no number".
  static constexpr int64_t kDefaultScaledTokens = 64;
  static constexpr int64_t kNever = int64_t{1} << 30;

  MatmulTuning() : splits_bf16_(CpuFeatures::Detect().amx_bf16) {
    gemm_tokens_.fill(kDefaultGemmTokens);
    wide_tokens_.fill(0);
    scaled_tokens_.fill(CpuFeatures::Detect().amx_int8 ? kDefaultScaledTokens : kNever);
  }

  int64_t gemm_tokens(DType type) const { return gemm_tokens_[static_cast<size_t>(type)]; }
  void set_gemm_tokens(DType type, int64_t tokens) {
    gemm_tokens_[static_cast<size_t>(type)] = tokens;
  }

  // Of formats that have planes (kernel_table.h).
  int64_t scaled_tokens(DType type) const { return scaled_tokens_[static_cast<size_t>(type)]; }
  void set_scaled_tokens(DType type, int64_t tokens) {
    scaled_tokens_[static_cast<size_t>(type)] = tokens;
  }
  bool scales_any() const { return std::ranges::min(scaled_tokens_) < kNever; }

  // Of F32, F16 and BF16: from how many tokens oneDNN multiplies them; 0: as is built in for the
  // level (fast_backend.h).
  int64_t wide_tokens(DType type) const { return wide_tokens_[static_cast<size_t>(type)]; }
  void set_wide_tokens(DType type, int64_t tokens) {
    wide_tokens_[static_cast<size_t>(type)] = tokens;
  }

  // Route::kOneDnnBf16 instead of kOneDnnWidened (fast_backend.h). Three products of bf16 beat one
  // of f32 where matrix units make them, and lose to it elsewhere (Zen 4, 512 tokens: 67 against
  // 108 GFLOP/s a core).
  bool splits_bf16() const { return splits_bf16_; }
  void set_splits_bf16(bool split) { splits_bf16_ = split; }

 private:
  bool splits_bf16_;
  std::array<int64_t, static_cast<size_t>(DType::kCount)> gemm_tokens_;
  std::array<int64_t, static_cast<size_t>(DType::kCount)> scaled_tokens_;
  std::array<int64_t, static_cast<size_t>(DType::kCount)> wide_tokens_;
};

// Multiplications and additions per second of one core on weights of a type that come from memory,
// by the number of tokens that share them.
class ProductRates {
 public:
  static constexpr std::array<int64_t, 4> kTokens = {32, 64, 128, 256};
  // Of what was not measured: the same for every number of tokens, so that nothing follows from it.
  static constexpr double kDefault = 100e9;

  ProductRates() {
    for (auto& of_type : rates_) of_type.fill(kDefault);
  }

  // Of the most tokens measured that are no more than these.
  double At(DType type, int64_t tokens) const {
    const auto above = std::ranges::upper_bound(kTokens, tokens);
    return rates_[static_cast<size_t>(type)][std::max<std::ptrdiff_t>(
        above - kTokens.begin() - 1, 0)];
  }
  void Set(DType type, size_t index, double rate) {
    rates_[static_cast<size_t>(type)][index] = rate;
  }

 private:
  std::array<std::array<double, kTokens.size()>, static_cast<size_t>(DType::kCount)> rates_;
};

struct Calibration {
  MatmulTuning tuning;
  ProductRates rates;
  std::string source;  // for verbose output: "measured in 24 ms", or the file it was found in
};

// The choices for these types and the rates of their products, of those that have panel kernels:
// timed on some thousand rows of `cols` columns, which no second-level cache holds, for up to half
// a second each. From `directory` where it has them for this machine, these kernels and this row
// length; measured and written there otherwise. A file that cannot be read or written costs the
// measurement, and the choices that change rounding are then those built in; an empty path means
// there is none.
Calibration Calibrate(const KernelTable& kernels, std::span<const DType> types, int64_t cols,
                      const std::filesystem::path& directory);

}  // namespace stoker
