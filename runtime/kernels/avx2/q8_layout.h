#pragma once

// Where the codes and sides of a group of 256 activations lie for the AVX2 kernels. The group is
// two halves of eight sub-blocks of four quads (four codes each). Vector q of a half holds quad q
// of its sub-blocks, so adding the products of four vectors leaves the sum of sub-block s in one
// lane, and no horizontal additions are needed per token. The lane is the one where a 4 x 4
// transposition within 128-bit lanes puts the weights of that sub-block.

namespace stoker::avx2 {

// The index of the scale and sum of sub-block s; its lane is this modulo 8.
constexpr int SidePosition(int s) { return 8 * (s / 8) + 4 * (s % 2) + s % 8 / 2; }

// Byte of the first code of sub-block s; its quads are kQuadStride bytes apart, and sub-block s + 1
// of an even s lies kPairStride bytes behind it.
constexpr int CodePosition(int s) { return 128 * (s / 8) + 4 * (SidePosition(s) % 8); }
inline constexpr int kQuadStride = 32;
inline constexpr int kPairStride = 16;

}  // namespace stoker::avx2
