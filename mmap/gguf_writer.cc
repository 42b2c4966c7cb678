#include "mmap/gguf_writer.h"

#include <algorithm>
#include <vector>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr uint32_t kVersion = 3;
constexpr size_t kFixedHeaderBytes = 4 + 4 + 8 + 8;  // magic, version, two counts
constexpr size_t kMaxTensorNameBytes = 63;

template <typename T>
void Append(std::string& out, T value) {
  char bytes[sizeof(T)];
  StoreLe(bytes, value);
  out.append(bytes, sizeof(T));
}

void AppendString(std::string& out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out += text;
}

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, uint64_t alignment)
    : file_(path), alignment_(alignment) {
  STOKER_CHECK(alignment >= 8 && (alignment & (alignment - 1)) == 0);
  if (alignment != kGgufAlignment) {
    Add("general.alignment", static_cast<uint32_t>(alignment));
  }
}

void GgufWriter::AddKey(std::string_view key, GgufType type) {
  STOKER_CHECK_MSG(!header_written_, "metadata after data");
  STOKER_CHECK(!key.empty());
  AppendString(metadata_, key);
  Append(metadata_, static_cast<uint32_t>(type));
  ++n_entries_;
}

void GgufWriter::AddRaw(std::string_view key, GgufType type, std::span<const std::byte> value) {
  AddKey(key, type);
  metadata_ += AsText(value);
}

void GgufWriter::AddRawArray(std::string_view key, GgufType element, uint64_t count,
                             std::span<const std::byte> values) {
  AddKey(key, GgufType::kArray);
  Append(metadata_, static_cast<uint32_t>(element));
  Append(metadata_, count);
  metadata_ += AsText(values);
}

void GgufWriter::AddString(std::string_view key, std::string_view value) {
  AddKey(key, GgufType::kString);
  AppendString(metadata_, value);
}

void GgufWriter::AddStrings(std::string_view key, std::span<const std::string> values) {
  AddKey(key, GgufType::kArray);
  Append(metadata_, static_cast<uint32_t>(GgufType::kString));
  Append<uint64_t>(metadata_, values.size());
  for (const std::string& value : values) AppendString(metadata_, value);
}

void GgufWriter::AddTensor(std::string_view name, DType type, std::span<const int64_t> shape) {
  STOKER_CHECK_MSG(!header_written_, "tensor after data");
  STOKER_CHECK(!name.empty() && name.size() <= kMaxTensorNameBytes);
  STOKER_CHECK(!shape.empty() && shape.size() <= static_cast<size_t>(kMaxDims));
  const DTypeInfo& info = Info(type);
  STOKER_CHECK_MSG(info.gguf_id >= 0, "type without a GGUF number");
  STOKER_CHECK_MSG(shape.back() % info.block_elements == 0, "row is not a whole number of blocks");

  AppendString(table_, name);
  Append(table_, static_cast<uint32_t>(shape.size()));
  uint64_t elements = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    STOKER_CHECK(shape[d] > 0);
    Append(table_, static_cast<uint64_t>(shape[d]));
    const std::optional<uint64_t> product = CheckedMul(elements, static_cast<uint64_t>(shape[d]));
    STOKER_CHECK(product.has_value());
    elements = *product;
  }
  Append(table_, static_cast<uint32_t>(info.gguf_id));
  Append(table_, data_bytes_);
  const std::optional<uint64_t> bytes = TypedBytes(type, elements);
  STOKER_CHECK(bytes.has_value());
  tensor_bytes_.push_back(*bytes);
  tensor_offsets_.push_back(data_bytes_);
  data_bytes_ += AlignUp(*bytes, alignment_);
}

uint64_t GgufWriter::HeaderBytes() const {
  return AlignUp<uint64_t>(kFixedHeaderBytes + metadata_.size() + table_.size(), alignment_);
}

uint64_t GgufWriter::file_bytes() const { return HeaderBytes() + data_bytes_; }

void GgufWriter::WriteHeader() {
  std::string header = "GGUF";
  Append(header, kVersion);
  Append<uint64_t>(header, tensor_bytes_.size());
  Append<uint64_t>(header, n_entries_);
  file_.Write(header);
  file_.Write(metadata_);
  file_.Write(table_);
  header_written_ = true;
  WritePadding();
}

void GgufWriter::WritePadding() {
  file_.Write(std::vector<std::byte>(AlignUp(file_.size(), alignment_) - file_.size()));
}

void GgufWriter::WriteData(std::span<const std::byte> bytes) {
  if (!header_written_) WriteHeader();
  while (!bytes.empty()) {
    STOKER_CHECK_MSG(current_ < tensor_bytes_.size(), "more data than the tensors have");
    const uint64_t missing = tensor_bytes_[current_] - written_bytes_;
    const uint64_t n = std::min<uint64_t>(missing, bytes.size());
    file_.Write(bytes.first(n));
    bytes = bytes.subspan(n);
    written_bytes_ += n;
    if (written_bytes_ == tensor_bytes_[current_]) {
      WritePadding();
      ++current_;
      written_bytes_ = 0;
    }
  }
}

void GgufWriter::ShareData(size_t earlier) {
  STOKER_CHECK(current_ < tensor_bytes_.size() && written_bytes_ == 0 && earlier < current_);
  STOKER_CHECK(tensor_bytes_[earlier] == tensor_bytes_[current_]);
  STOKER_CHECK(alignment_ % AtomicFile::kShareAlignment == 0);
  file_.AppendShared(HeaderBytes() + tensor_offsets_[earlier],
                     AlignUp(tensor_bytes_[current_], alignment_));
  ++current_;
}

void GgufWriter::Finish() {
  if (!header_written_) WriteHeader();
  STOKER_CHECK_MSG(current_ == tensor_bytes_.size(), "a tensor lacks data");
  file_.Commit();
}

}  // namespace stoker
