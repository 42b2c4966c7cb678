#include "mmap/dtype.h"

#include <array>
#include <cstddef>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr size_t kTypes = static_cast<size_t>(DType::kCount);

// In enum order. Block sizes are ggml's (ggml-common.h; gguf-py's GGML_QUANT_SIZES).
constexpr std::array<DTypeInfo, kTypes> kTable = {{
    {DType::kF32, "F32", 1, 4, 0, "F32", true},
    {DType::kF16, "F16", 1, 2, 1, "F16", true},
    {DType::kBF16, "BF16", 1, 2, 30, "BF16", true},
    {DType::kF64, "F64", 1, 8, 28, "F64", false},
    {DType::kI8, "I8", 1, 1, 24, "I8", false},
    {DType::kI16, "I16", 1, 2, 25, "I16", false},
    {DType::kI32, "I32", 1, 4, 26, "I32", false},
    {DType::kI64, "I64", 1, 8, 27, "I64", false},
    {DType::kU8, "U8", 1, 1, -1, "U8", false},
    {DType::kU16, "U16", 1, 2, -1, "U16", false},
    {DType::kU32, "U32", 1, 4, -1, "U32", false},
    {DType::kU64, "U64", 1, 8, -1, "U64", false},
    {DType::kBool, "BOOL", 1, 1, -1, "BOOL", false},
    {DType::kC64, "C64", 1, 8, -1, "C64", false},
    {DType::kF8E4M3, "F8_E4M3", 1, 1, -1, "F8_E4M3", false},
    {DType::kF8E5M2, "F8_E5M2", 1, 1, -1, "F8_E5M2", false},
    {DType::kF8E8M0, "F8_E8M0", 1, 1, -1, "F8_E8M0", false},
    {DType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 1, 1, -1, "F8_E4M3FNUZ", false},
    {DType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 1, 1, -1, "F8_E5M2FNUZ", false},
    {DType::kQ4_0, "Q4_0", 32, 18, 2, "", true},
    {DType::kQ4_1, "Q4_1", 32, 20, 3, "", true},
    {DType::kQ5_0, "Q5_0", 32, 22, 6, "", true},
    {DType::kQ5_1, "Q5_1", 32, 24, 7, "", true},
    {DType::kQ8_0, "Q8_0", 32, 34, 8, "", true},
    {DType::kQ8_1, "Q8_1", 32, 36, 9, "", false},
    {DType::kQ2_K, "Q2_K", 256, 84, 10, "", true},
    {DType::kQ3_K, "Q3_K", 256, 110, 11, "", true},
    {DType::kQ4_K, "Q4_K", 256, 144, 12, "", true},
    {DType::kQ5_K, "Q5_K", 256, 176, 13, "", true},
    {DType::kQ6_K, "Q6_K", 256, 210, 14, "", true},
    {DType::kQ8_K, "Q8_K", 256, 292, 15, "", false},
    {DType::kIQ1_S, "IQ1_S", 256, 50, 19, "", false},
    {DType::kIQ1_M, "IQ1_M", 256, 56, 29, "", false},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, 16, "", false},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74, 17, "", false},
    {DType::kIQ2_S, "IQ2_S", 256, 82, 22, "", false},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, 18, "", false},
    {DType::kIQ3_S, "IQ3_S", 256, 110, 21, "", false},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18, 20, "", true},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136, 23, "", true},
    {DType::kTQ1_0, "TQ1_0", 256, 54, 34, "", false},
    {DType::kTQ2_0, "TQ2_0", 256, 66, 35, "", false},
    {DType::kMXFP4, "MXFP4", 32, 17, 39, "", false},
    {DType::kNVFP4, "NVFP4", 64, 36, 40, "", false},
    {DType::kQ1_0, "Q1_0", 128, 18, 41, "", false},
    {DType::kQ2_0, "Q2_0", 64, 18, 42, "", false},
    // In steps of 32, as kernels take its rows.
    {DType::kInt8Row, "INT8", 32, 32, -1, "", true},
}};

constexpr bool TableIsInEnumOrder() {
  for (size_t i = 0; i < kTypes; ++i) {
    if (kTable[i].type != static_cast<DType>(i)) return false;
  }
  return true;
}
static_assert(TableIsInEnumOrder());

constexpr char UpperAscii(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (UpperAscii(a[i]) != UpperAscii(b[i])) return false;
  }
  return true;
}

}  // namespace

const DTypeInfo& Info(DType type) {
  const auto index = static_cast<size_t>(type);
  STOKER_CHECK(index < kTypes);
  return kTable[index];
}

std::optional<DType> DTypeFromGgufId(uint32_t id) {
  for (const DTypeInfo& info : kTable) {
    if (info.gguf_id >= 0 && static_cast<uint32_t>(info.gguf_id) == id) return info.type;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromSafetensors(std::string_view name) {
  for (const DTypeInfo& info : kTable) {
    if (!info.safetensors.empty() && info.safetensors == name) return info.type;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& info : kTable) {
    if (EqualIgnoringCase(info.name, name)) return info.type;
  }
  return std::nullopt;
}

std::optional<uint64_t> TypedBytes(DType type, uint64_t elements) {
  const DTypeInfo& info = Info(type);
  if (elements % info.block_elements != 0) return std::nullopt;
  return CheckedMul(elements / info.block_elements, info.block_bytes);
}

}  // namespace stoker
