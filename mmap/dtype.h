#pragma once

// Element types of tensors at rest: a plain enum and one table (name, block length, block bytes,
// GGUF id, safetensors name). Covers every type that ggml numbers and safetensors names with a
// whole number of bytes per element, including those that are recognised by name and size but not
// computed. It knows no layout inside a block; that is the kernels' business. Pure; thread-safe.
//
// kInt8Row is the I8 tensor of a checkpoint whose rows have a scale each, in a tensor beside it
// (StoredTensor::scales): bare I8 is an integer, this a weight.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace stoker {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ8_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIQ1_S,
  kIQ1_M,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ4_NL,
  kIQ4_XS,
  kTQ1_0,
  kTQ2_0,
  kMXFP4,
  kNVFP4,
  kQ1_0,
  kQ2_0,
  kInt8Row,
  kCount,
};

struct DTypeInfo {
  DType type;
  std::string_view name;         // "Q4_K", "BF16": GGUF's and safetensors' spelling in upper case
  uint32_t block_elements;       // 1 for plain types
  uint32_t block_bytes;
  int gguf_id;                   // ggml type number, -1 where GGUF has none
  std::string_view safetensors;  // "" where safetensors has none
  // Kernels exist: F32 F16 BF16 INT8 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K..Q6_K IQ4_NL IQ4_XS.
  bool computable;
};

// The row of a type. `type` must be a real one, not kCount.
const DTypeInfo& Info(DType type);
// nullopt for numbers ggml has retired or not given out.
std::optional<DType> DTypeFromGgufId(uint32_t id);
std::optional<DType> DTypeFromSafetensors(std::string_view name);
std::optional<DType> DTypeFromName(std::string_view name);  // case-insensitive

// Bytes of `elements` consecutive elements; nullopt on overflow or when they are not a whole number
// of blocks.
std::optional<uint64_t> TypedBytes(DType type, uint64_t elements);

}  // namespace stoker
