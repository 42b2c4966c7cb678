#include "mmap/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "mmap/format_error.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

constexpr uint32_t kVersion = 3;
// ggml stores names in 64 bytes with a terminator; longer ones do not load there either.
constexpr uint64_t kMaxTensorNameBytes = 63;
constexpr uint64_t kMaxKeyBytes = 65535;
// The smallest encodings: a key of one byte with a one-byte value; a name of one byte with one
// dimension. They turn a count into a lower bound on the bytes that must follow.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;

// A position in the file that cannot pass its end. Every read names the field it is for.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  [[noreturn]] void Fail(std::string_view field, std::string_view reason) const {
    throw FormatError(file_, field, reason);
  }

  std::span<const std::byte> Take(uint64_t n, std::string_view field) {
    if (n > remaining()) {
      Fail(field, "truncated at offset " + std::to_string(offset_) + ": needs " +
                      std::to_string(n) + " bytes, " + std::to_string(remaining()) + " left");
    }
    const std::span<const std::byte> taken = bytes_.subspan(offset_, n);
    offset_ += n;
    return taken;
  }

  template <typename T>
  T Read(std::string_view field) {
    return LoadLe<T>(Take(sizeof(T), field).data());
  }

  std::string_view ReadString(std::string_view field, uint64_t max_bytes) {
    const auto length = Read<uint64_t>(field);
    if (length > max_bytes) {
      Fail(field, "length " + std::to_string(length) + " exceeds " + std::to_string(max_bytes));
    }
    const std::span<const std::byte> text = Take(length, field);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t offset_ = 0;
};

GgufType ReadType(Cursor& cursor, const std::string& field) {
  const auto number = cursor.Read<uint32_t>(field);
  if (number > static_cast<uint32_t>(GgufType::kFloat64)) {
    cursor.Fail(field, "unknown value type " + std::to_string(number));
  }
  return static_cast<GgufType>(number);
}

// Moves past the elements of an array whose type and count were just read. Each round of a loop
// consumes at least eight bytes, so the work is bounded by the file.
void SkipElements(Cursor& cursor, GgufType element, uint64_t count, int depth,
                  const std::string& field) {
  if (const uint32_t size = GgufTypeBytes(element); size != 0) {
    const std::optional<uint64_t> bytes = CheckedMul(count, size);
    if (!bytes) cursor.Fail(field, "array of " + std::to_string(count) + " elements is too long");
    cursor.Take(*bytes, field);
    return;
  }
  if (count > cursor.remaining() / sizeof(uint64_t)) {
    cursor.Fail(field, "array of " + std::to_string(count) + " elements does not fit in the " +
                           std::to_string(cursor.remaining()) + " bytes left");
  }
  if (element == GgufType::kString) {
    for (uint64_t i = 0; i < count; ++i) cursor.ReadString(field, cursor.remaining());
    return;
  }
  if (depth >= kMaxGgufArrayDepth) {
    cursor.Fail(field, "arrays nested deeper than " + std::to_string(kMaxGgufArrayDepth));
  }
  for (uint64_t i = 0; i < count; ++i) {
    const GgufType inner = ReadType(cursor, field);
    const auto inner_count = cursor.Read<uint64_t>(field);
    SkipElements(cursor, inner, inner_count, depth + 1, field);
  }
}

GgufEntry ReadEntry(Cursor& cursor, std::span<const std::byte> bytes, uint64_t index) {
  GgufEntry entry;
  const std::string ordinal = "metadata key " + std::to_string(index);
  entry.key = cursor.ReadString(ordinal, kMaxKeyBytes);
  if (entry.key.empty()) cursor.Fail(ordinal, "empty name");
  const std::string field = "metadata key \"" + Printable(entry.key) + "\"";

  entry.type = ReadType(cursor, field);
  if (entry.type == GgufType::kString) {
    entry.element = entry.type;
    entry.count = 1;
    const std::string_view text = cursor.ReadString(field, cursor.remaining());
    entry.data = std::as_bytes(std::span(text));
    return entry;
  }
  if (entry.type == GgufType::kArray) {
    entry.element = ReadType(cursor, field);
    entry.count = cursor.Read<uint64_t>(field);
    const uint64_t begin = cursor.offset();
    SkipElements(cursor, entry.element, entry.count, 1, field);
    entry.data = bytes.subspan(begin, cursor.offset() - begin);
    return entry;
  }
  entry.element = entry.type;
  entry.count = 1;
  entry.data = cursor.Take(GgufTypeBytes(entry.type), field);
  if (entry.type == GgufType::kBool && LoadLe<uint8_t>(entry.data.data()) > 1) {
    cursor.Fail(field, "bool is neither 0 nor 1");
  }
  return entry;
}

// Reads one row of the tensor table; `offset` is left relative to the data section.
GgufTensorInfo ReadTensorInfo(Cursor& cursor, uint64_t index) {
  GgufTensorInfo info;
  const std::string ordinal = "tensor " + std::to_string(index);
  info.name = cursor.ReadString(ordinal + " name", kMaxTensorNameBytes);
  if (info.name.empty()) cursor.Fail(ordinal, "empty name");
  const std::string field = "tensor \"" + Printable(info.name) + "\"";

  const auto n_dims = cursor.Read<uint32_t>(field + " n_dims");
  if (n_dims < 1 || n_dims > static_cast<uint32_t>(kMaxDims)) {
    cursor.Fail(field + " n_dims", "is " + std::to_string(n_dims) + ", expected 1 to 4");
  }
  info.n_dims = static_cast<int>(n_dims);
  uint64_t elements = 1;
  for (int d = 0; d < info.n_dims; ++d) {
    const std::string dim_field = field + " ne[" + std::to_string(d) + "]";
    const auto ne = cursor.Read<uint64_t>(dim_field);
    if (ne == 0 || ne > static_cast<uint64_t>(INT64_MAX)) {
      cursor.Fail(dim_field, "is " + std::to_string(ne) + ", expected 1 to 2^63-1");
    }
    const std::optional<uint64_t> product = CheckedMul(elements, ne);
    if (!product || *product > static_cast<uint64_t>(INT64_MAX)) {
      cursor.Fail(field + " shape", "number of elements exceeds 2^63-1");
    }
    elements = *product;
    info.ne[static_cast<size_t>(d)] = static_cast<int64_t>(ne);
  }

  const auto type_number = cursor.Read<uint32_t>(field + " type");
  const std::optional<DType> type = DTypeFromGgufId(type_number);
  if (!type) cursor.Fail(field + " type", "unknown tensor type " + std::to_string(type_number));
  info.type = *type;
  const DTypeInfo& type_info = Info(info.type);
  if (info.ne[0] % type_info.block_elements != 0) {
    cursor.Fail(field + " ne[0]", "row of " + std::to_string(info.ne[0]) +
                                      " elements is not a multiple of the " +
                                      std::string(type_info.name) + " block of " +
                                      std::to_string(type_info.block_elements));
  }
  const std::optional<uint64_t> bytes = TypedBytes(info.type, elements);
  if (!bytes) cursor.Fail(field + " shape", "number of bytes exceeds 2^64-1");
  info.bytes = *bytes;
  info.offset = cursor.Read<uint64_t>(field + " offset");
  return info;
}

uint64_t ReadAlignment(const GgufMetadata& metadata) {
  constexpr std::string_view kKey = "general.alignment";
  const GgufEntry* entry = metadata.Find(kKey);
  if (entry == nullptr) return kGgufAlignment;
  const std::string field = "metadata key \"" + std::string(kKey) + "\"";
  if (entry->type != GgufType::kUint32) {
    throw FormatError(metadata.file(), field, "has the wrong type, expected u32");
  }
  const uint64_t alignment = LoadLe<uint32_t>(entry->data.data());
  if (!std::has_single_bit(alignment) || alignment > kMaxGgufAlignment) {
    throw FormatError(metadata.file(), field,
                      "is " + std::to_string(alignment) + ", expected a power of two up to " +
                          std::to_string(kMaxGgufAlignment));
  }
  return alignment;
}

// Tensors follow one another in the order of the table, each padded to the alignment, and end
// within the file. llama.cpp demands the same, and it leaves no room for overlaps or gaps.
void PlaceTensors(GgufFile& parsed, uint64_t file_bytes, const std::string& file) {
  uint64_t expected = 0;
  for (GgufTensorInfo& info : parsed.tensors) {
    const std::string field = "tensor \"" + Printable(info.name) + "\" offset";
    if (info.offset % parsed.alignment != 0) {
      throw FormatError(file, field, std::to_string(info.offset) + " is not a multiple of the " +
                                         "alignment " + std::to_string(parsed.alignment));
    }
    if (info.offset != expected) {
      throw FormatError(file, field,
                        "is " + std::to_string(info.offset) + ", expected " +
                            std::to_string(expected) + (info.offset < expected
                                ? " (overlaps the tensor before it)"
                                : " (leaves a gap after the tensor before it)"));
    }
    const std::optional<uint64_t> begin = CheckedAdd(parsed.data_offset, info.offset);
    const std::optional<uint64_t> end = begin ? CheckedAdd(*begin, info.bytes) : std::nullopt;
    if (!end || *end > file_bytes) {
      throw FormatError(file, "tensor \"" + Printable(info.name) + "\"",
                        "truncated: its " + std::to_string(info.bytes) + " bytes at data offset " +
                            std::to_string(info.offset) + " pass the end of the file (" +
                            std::to_string(file_bytes) + " bytes)");
    }
    // info.bytes is below the file size here, so the padding cannot wrap.
    expected = info.offset + AlignUp(info.bytes, parsed.alignment);
    info.offset = *begin;
  }
}

void RefuseDuplicateTensors(const std::vector<GgufTensorInfo>& tensors, const std::string& file) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (tensors[order[i]].name == tensors[order[i - 1]].name) {
      throw FormatError(file, "tensor \"" + Printable(tensors[order[i]].name) + "\"",
                        "duplicate tensor name");
    }
  }
}

void ReadMagicAndVersion(Cursor& cursor) {
  const std::span<const std::byte> magic = cursor.Take(4, "magic");
  const std::string_view text(reinterpret_cast<const char*>(magic.data()), 4);
  if (text != "GGUF") cursor.Fail("magic", "is \"" + Printable(text) + "\", expected \"GGUF\"");
  const auto version = cursor.Read<uint32_t>("version");
  if (version == kVersion) return;
  if ((version & 0xffffu) == 0 && version != 0) {
    cursor.Fail("version", "big-endian files are not supported; convert to little-endian");
  }
  if (version == 1 || version == 2) {
    cursor.Fail("version", std::to_string(version) + " is outdated; convert to GGUF v3");
  }
  cursor.Fail("version", std::to_string(version) + " is not supported, expected 3");
}

}  // namespace

GgufFile ParseGguf(std::span<const std::byte> bytes, std::string file) {
  Cursor cursor(bytes, file);
  ReadMagicAndVersion(cursor);

  const auto n_tensors = cursor.Read<uint64_t>("tensor_count");
  const auto n_entries = cursor.Read<uint64_t>("metadata_kv_count");
  if (n_entries > kMaxGgufEntries || n_entries > cursor.remaining() / kMinEntryBytes) {
    cursor.Fail("metadata_kv_count", std::to_string(n_entries) + " does not fit in the " +
                                         std::to_string(cursor.remaining()) +
                                         " bytes left or exceeds " +
                                         std::to_string(kMaxGgufEntries));
  }
  if (n_tensors > kMaxGgufTensors || n_tensors > cursor.remaining() / kMinTensorInfoBytes) {
    cursor.Fail("tensor_count", std::to_string(n_tensors) + " does not fit in the " +
                                    std::to_string(cursor.remaining()) +
                                    " bytes left or exceeds " + std::to_string(kMaxGgufTensors));
  }

  std::vector<GgufEntry> entries;
  entries.reserve(n_entries);
  for (uint64_t i = 0; i < n_entries; ++i) entries.push_back(ReadEntry(cursor, bytes, i));

  GgufFile parsed;
  parsed.metadata = GgufMetadata(file, std::move(entries));
  parsed.alignment = ReadAlignment(parsed.metadata);
  parsed.tensors.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) parsed.tensors.push_back(ReadTensorInfo(cursor, i));
  RefuseDuplicateTensors(parsed.tensors, file);

  // The header's end is at most the file size, and the alignment at most 1 MiB: no wrap. Without
  // tensors (a vocabulary, or the first part of a split set) no data need follow.
  parsed.data_offset = AlignUp(cursor.offset(), parsed.alignment);
  PlaceTensors(parsed, bytes.size(), file);
  return parsed;
}

}  // namespace stoker
