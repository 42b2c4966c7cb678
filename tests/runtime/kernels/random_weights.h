#pragma once

// Random well-formed weights of every computable type, for the kernel tests: any code bytes, f16
// scales that are finite and of chosen size. Seeded; the same seed gives the same bytes.

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "mmap/dtype.h"
#include "mmap/tensor_view.h"
#include "numa/cpu_features.h"

namespace stoker::test {

inline constexpr DType kQuantizedTypes[] = {
    DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,   DType::kQ2_K,
    DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS,
    DType::kInt8Row};
inline constexpr DType kPlainTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// The levels this machine has, the scalar one first.
std::vector<IsaLevel> Levels();

// Bytes of `rows` rows of `cols` elements. Scales have magnitudes 10^u with u uniform in
// [low_exponent, high_exponent] and either sign.
std::vector<std::byte> RandomWeights(DType type, int64_t rows, int64_t cols, std::mt19937& rng,
                                     double low_exponent = -3.0, double high_exponent = -1.0);

// Gives the blocks of `bytes`, of any content, such scales.
void SetRandomScales(DType type, std::mt19937& rng, double low_exponent, double high_exponent,
                     std::vector<std::byte>* bytes);

// Normal values, a few of them ten times as large, as activations are.
std::vector<float> RandomActivations(int64_t n, std::mt19937& rng);

// Different ones for neighbouring rows; they live as long as the process.
const float* RowScales(int64_t rows);

// With RowScales where the type wants them.
TensorView MatrixView(DType type, int64_t rows, int64_t cols, const std::vector<std::byte>& bytes);

}  // namespace stoker::test
