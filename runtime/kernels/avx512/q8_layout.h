#pragma once

// Where the codes and sides of a group of 256 activations lie for the AVX-512 kernels. The group is
// sixteen sub-blocks of four quads (four codes each). Vector q of the group holds quad q of all
// sub-blocks, so four chained vpdpbusd leave the sum of sub-block s in one lane, and no horizontal
// additions are needed per token. The lane is the one where a 4 x 4 transposition within
// 128-bit lanes puts the weights of that sub-block.

namespace stoker::avx512 {

// The lane of sub-block s, which is also the index of its scale and sum.
constexpr int SidePosition(int s) { return 4 * (s % 4) + s / 4; }

// Byte of the first code of sub-block s; its quads are kQuadStride bytes apart, and sub-block s + 1
// of an even s lies kPairStride bytes behind it.
constexpr int CodePosition(int s) { return 4 * SidePosition(s); }
inline constexpr int kQuadStride = 64;
inline constexpr int kPairStride = 16;

}  // namespace stoker::avx512
