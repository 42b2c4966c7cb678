#pragma once

// Writes one GGUF v3 file: metadata, then the tensor table, then the tensors' bytes in the same
// order, streamed, so that a model larger than memory can be written. The file appears under
// its name only when it is complete. Used from one thread, in the order of the methods below.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/atomic_file.h"
#include "mmap/dtype.h"
#include "mmap/gguf_reader.h"

namespace stoker {

// The metadata type of a C++ type.
template <typename T>
inline constexpr GgufType kGgufTypeOf = GgufType::kArray;  // no scalar
template <> inline constexpr GgufType kGgufTypeOf<uint8_t> = GgufType::kUint8;
template <> inline constexpr GgufType kGgufTypeOf<int8_t> = GgufType::kInt8;
template <> inline constexpr GgufType kGgufTypeOf<uint16_t> = GgufType::kUint16;
template <> inline constexpr GgufType kGgufTypeOf<int16_t> = GgufType::kInt16;
template <> inline constexpr GgufType kGgufTypeOf<uint32_t> = GgufType::kUint32;
template <> inline constexpr GgufType kGgufTypeOf<int32_t> = GgufType::kInt32;
template <> inline constexpr GgufType kGgufTypeOf<float> = GgufType::kFloat32;
template <> inline constexpr GgufType kGgufTypeOf<bool> = GgufType::kBool;
template <> inline constexpr GgufType kGgufTypeOf<uint64_t> = GgufType::kUint64;
template <> inline constexpr GgufType kGgufTypeOf<int64_t> = GgufType::kInt64;
template <> inline constexpr GgufType kGgufTypeOf<double> = GgufType::kFloat64;

class GgufWriter {
 public:
  // Creates the temporary file. Throws std::system_error naming the path. A misuse of the order or
  // of sizes below is a bug and aborts. `alignment` of every tensor's bytes: a power of two, at
  // least 8.
  explicit GgufWriter(const std::filesystem::path& path, uint64_t alignment = kGgufAlignment);

  // 0. As AtomicFile::CanShareBlocks.
  bool CanShareBlocks() { return file_.CanShareBlocks(); }

  // 1. Metadata, in the order of the file. Keys must be distinct; "general.alignment" is written by
  // itself.
  template <typename T>
  void Add(std::string_view key, T value) {
    static_assert(kGgufTypeOf<T> != GgufType::kArray, "give an exact GGUF type, such as uint32_t");
    AddRaw(key, kGgufTypeOf<T>, std::as_bytes(std::span(&value, 1)));
  }
  void AddString(std::string_view key, std::string_view value);
  template <typename T>
  void AddArray(std::string_view key, std::span<const T> values) {
    static_assert(kGgufTypeOf<T> != GgufType::kArray, "give an exact GGUF type, such as uint32_t");
    AddRawArray(key, kGgufTypeOf<T>, values.size(), std::as_bytes(values));
  }
  void AddStrings(std::string_view key, std::span<const std::string> values);

  // 2. The tensor table. `shape` is slowest first, one to four dimensions; rows must be whole
  // blocks of `type`.
  void AddTensor(std::string_view name, DType type, std::span<const int64_t> shape);

  // 3. The bytes of all tensors, in order and in pieces of any size; padding between tensors is
  // inserted by itself. The header is written before the first piece.
  // Throws std::system_error naming the path, when the disk is full for instance.
  void WriteData(std::span<const std::byte> bytes);

  // Or instead of all of a tensor's bytes: they are those of the tensor numbered `earlier`, on the
  // same blocks of the disk. Needs an alignment of AtomicFile::kShareAlignment.
  void ShareData(size_t earlier);

  // 4. Makes the file visible. Every tensor must be complete.
  void Finish();

  // Size of the finished file in bytes, as far as tensors were added.
  uint64_t file_bytes() const;

 private:
  void AddKey(std::string_view key, GgufType type);
  void AddRaw(std::string_view key, GgufType type, std::span<const std::byte> value);
  void AddRawArray(std::string_view key, GgufType element, uint64_t count,
                   std::span<const std::byte> values);
  void WriteHeader();
  void WritePadding();
  uint64_t HeaderBytes() const;

  AtomicFile file_;
  const uint64_t alignment_;
  std::string metadata_;
  std::string table_;
  uint64_t n_entries_ = 0;
  std::vector<uint64_t> tensor_bytes_;
  std::vector<uint64_t> tensor_offsets_;  // from the end of the header
  uint64_t data_bytes_ = 0;  // of all tensors added, each padded
  bool header_written_ = false;
  size_t current_ = 0;          // tensor being written
  uint64_t written_bytes_ = 0;  // of the current tensor
};

}  // namespace stoker
