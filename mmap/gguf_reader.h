#pragma once

// Reads the header of one GGUF v3 file: metadata and tensor table, checked against the size of the
// file, never the tensor data. The parsed value borrows from the bytes it was given (strings and
// arrays are views into them), so a vocabulary of 200,000 entries costs one walk and no copies.
// Immutable after parsing: thread-safe. It knows no model; WeightStore combines the parts of a
// split file and checks names and shapes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/dtype.h"
#include "mmap/tensor_view.h"

namespace stoker {

// Value types of GGUF metadata, with the numbers of the file format.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// "u32", "string", "array", ...
std::string_view GgufTypeName(GgufType type);

// Bytes of one value of a fixed-size type; 0 for strings and arrays.
uint32_t GgufTypeBytes(GgufType type);

// One key and where its value lies. For an array `element` and `count` describe it; for a
// scalar count is 1 and element == type. `data` starts at the value itself (after an array's own
// type and count), unaligned.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::kUint8;
  GgufType element = GgufType::kUint8;
  uint64_t count = 0;
  std::span<const std::byte> data;
};

// The metadata of a GGUF file with typed access. Each getter throws FormatError naming file and
// key when the value has another type or does not fit; Find... returns nullopt only when the key
// is absent. Views live as long as the bytes given to ParseGguf (for a WeightStore: as the store).
class GgufMetadata {
 public:
  GgufMetadata() = default;
  // Takes entries whose extents were already checked; throws FormatError on duplicate keys.
  GgufMetadata(std::string file, std::vector<GgufEntry> entries);

  const std::string& file() const { return file_; }
  const std::vector<GgufEntry>& entries() const { return entries_; }  // in file order
  const GgufEntry* Find(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  std::optional<std::string_view> FindString(std::string_view key) const;
  // Any integer type whose value lies in [min, max].
  std::optional<int64_t> FindInt(std::string_view key, int64_t min = INT64_MIN,
                                 int64_t max = INT64_MAX) const;
  std::optional<double> FindFloat(std::string_view key) const;  // f32 or f64
  std::optional<bool> FindBool(std::string_view key) const;

  // The same, but absence is an error that names the key.
  std::string_view String(std::string_view key) const;
  int64_t Int(std::string_view key, int64_t min = INT64_MIN, int64_t max = INT64_MAX) const;
  double Float(std::string_view key) const;

  // Arrays. The strings are views into the file, in order; one pass over the array per call, so
  // call once and keep the result. Any integer element type (or bool, as 0 and 1) reads as int64;
  // floats are f32 or f64.
  std::optional<std::vector<std::string_view>> FindStrings(std::string_view key) const;
  std::optional<std::vector<int64_t>> FindInts(std::string_view key) const;
  std::optional<std::vector<float>> FindFloats(std::string_view key) const;
  // The same with a required number of elements: throws when the count differs.
  std::optional<std::vector<int64_t>> FindInts(std::string_view key, uint64_t count) const;
  std::optional<std::vector<float>> FindFloats(std::string_view key, uint64_t count) const;
  std::vector<std::string_view> Strings(std::string_view key) const;  // absence is an error

 private:
  const GgufEntry* FindArray(std::string_view key) const;
  [[noreturn]] void Fail(std::string_view key, std::string_view reason) const;

  std::string file_;
  std::vector<GgufEntry> entries_;
  std::vector<uint32_t> by_key_;  // indices into entries_, sorted by key
};

struct GgufTensorInfo {
  std::string_view name;
  DType type = DType::kF32;
  int n_dims = 0;
  std::array<int64_t, kMaxDims> ne = {1, 1, 1, 1};  // ggml order, fastest dimension first
  uint64_t offset = 0;                              // from the start of the file
  uint64_t bytes = 0;
};

// Of tensors' bytes, where a file does not name another.
inline constexpr uint64_t kGgufAlignment = 32;

struct GgufFile {
  GgufMetadata metadata;
  std::vector<GgufTensorInfo> tensors;  // in file order
  uint64_t alignment = kGgufAlignment;
  uint64_t data_offset = 0;  // start of the data section
};

// Limits beyond the size of the file. Real files stay far below.
inline constexpr uint64_t kMaxGgufEntries = 1u << 16;
inline constexpr uint64_t kMaxGgufTensors = 1u << 20;
inline constexpr uint64_t kMaxGgufAlignment = 1u << 20;
inline constexpr int kMaxGgufArrayDepth = 4;  // arrays of arrays are read past, not used

// Parses a whole file's bytes (usually a mapping; only the header is touched). `file` names it
// in errors. Throws FormatError for anything that is not well-formed GGUF v3: bad magic, other
// version or byte order, counts, lengths or offsets beyond the file, unknown types, duplicate keys
// or tensor names, tensors that overlap, leave gaps or pass the end of the file. All allocations
// are bounded by the number of bytes given.
GgufFile ParseGguf(std::span<const std::byte> bytes, std::string file);

}  // namespace stoker
