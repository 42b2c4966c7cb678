// GgufMetadata: typed access to entries that ParseGguf has already checked against the file.

#include <algorithm>
#include <numeric>

#include "mmap/format_error.h"
#include "mmap/gguf_reader.h"
#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

struct TypeRow {
  std::string_view name;
  uint32_t bytes;
};

// By GgufType number.
constexpr std::array<TypeRow, 13> kTypes = {{{"u8", 1},
                                             {"i8", 1},
                                             {"u16", 2},
                                             {"i16", 2},
                                             {"u32", 4},
                                             {"i32", 4},
                                             {"f32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"u64", 8},
                                             {"i64", 8},
                                             {"f64", 8}}};

bool IsFloat(GgufType type) { return type == GgufType::kFloat32 || type == GgufType::kFloat64; }

bool IsInteger(GgufType type) {
  return GgufTypeBytes(type) != 0 && !IsFloat(type) && type != GgufType::kBool;
}

// The integer (or bool) at `address`; nullopt when it exceeds int64.
std::optional<int64_t> LoadInteger(GgufType type, const std::byte* address) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kBool:
      return LoadLe<uint8_t>(address);
    case GgufType::kInt8:
      return LoadLe<int8_t>(address);
    case GgufType::kUint16:
      return LoadLe<uint16_t>(address);
    case GgufType::kInt16:
      return LoadLe<int16_t>(address);
    case GgufType::kUint32:
      return LoadLe<uint32_t>(address);
    case GgufType::kInt32:
      return LoadLe<int32_t>(address);
    case GgufType::kInt64:
      return LoadLe<int64_t>(address);
    case GgufType::kUint64: {
      const auto value = LoadLe<uint64_t>(address);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      STOKER_CHECK_MSG(false, "LoadInteger of a type that is no integer");
  }
}

double LoadFloat(GgufType type, const std::byte* address) {
  if (type == GgufType::kFloat64) return LoadLe<double>(address);
  return LoadLe<float>(address);
}

std::string Describe(const GgufEntry& entry) {
  if (entry.type != GgufType::kArray) return std::string(GgufTypeName(entry.type));
  return "array of " + std::string(GgufTypeName(entry.element));
}

}  // namespace

std::string_view GgufTypeName(GgufType type) {
  const auto index = static_cast<size_t>(type);
  return index < kTypes.size() ? kTypes[index].name : "unknown";
}

uint32_t GgufTypeBytes(GgufType type) {
  const auto index = static_cast<size_t>(type);
  return index < kTypes.size() ? kTypes[index].bytes : 0;
}

GgufMetadata::GgufMetadata(std::string file, std::vector<GgufEntry> entries)
    : file_(std::move(file)), entries_(std::move(entries)), by_key_(entries_.size()) {
  std::iota(by_key_.begin(), by_key_.end(), 0u);
  std::sort(by_key_.begin(), by_key_.end(),
            [&](uint32_t a, uint32_t b) { return entries_[a].key < entries_[b].key; });
  for (size_t i = 1; i < by_key_.size(); ++i) {
    const std::string_view key = entries_[by_key_[i]].key;
    if (key == entries_[by_key_[i - 1]].key) Fail(key, "duplicate metadata key");
  }
}

void GgufMetadata::Fail(std::string_view key, std::string_view reason) const {
  throw FormatError(file_, "metadata key \"" + Printable(key) + "\"", reason);
}

const GgufEntry* GgufMetadata::Find(std::string_view key) const {
  const auto it = std::lower_bound(by_key_.begin(), by_key_.end(), key,
                                   [&](uint32_t i, std::string_view k) {
                                     return entries_[i].key < k;
                                   });
  if (it == by_key_.end() || entries_[*it].key != key) return nullptr;
  return &entries_[*it];
}

std::optional<std::string_view> GgufMetadata::FindString(std::string_view key) const {
  const GgufEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->type != GgufType::kString) Fail(key, "is " + Describe(*entry) + ", expected string");
  return std::string_view(reinterpret_cast<const char*>(entry->data.data()), entry->data.size());
}

std::optional<int64_t> GgufMetadata::FindInt(std::string_view key, int64_t min,
                                             int64_t max) const {
  const GgufEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  if (!IsInteger(entry->type)) Fail(key, "is " + Describe(*entry) + ", expected an integer");
  const std::optional<int64_t> value = LoadInteger(entry->type, entry->data.data());
  if (!value) Fail(key, "exceeds 2^63-1");
  if (*value < min || *value > max) {
    Fail(key, "is " + std::to_string(*value) + ", expected " + std::to_string(min) + " to " +
                  std::to_string(max));
  }
  return value;
}

std::optional<double> GgufMetadata::FindFloat(std::string_view key) const {
  const GgufEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  if (!IsFloat(entry->type)) Fail(key, "is " + Describe(*entry) + ", expected f32 or f64");
  return LoadFloat(entry->type, entry->data.data());
}

std::optional<bool> GgufMetadata::FindBool(std::string_view key) const {
  const GgufEntry* entry = Find(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->type != GgufType::kBool) Fail(key, "is " + Describe(*entry) + ", expected bool");
  return LoadLe<uint8_t>(entry->data.data()) != 0;
}

std::string_view GgufMetadata::String(std::string_view key) const {
  const std::optional<std::string_view> value = FindString(key);
  if (!value) Fail(key, "missing");
  return *value;
}

int64_t GgufMetadata::Int(std::string_view key, int64_t min, int64_t max) const {
  const std::optional<int64_t> value = FindInt(key, min, max);
  if (!value) Fail(key, "missing");
  return *value;
}

double GgufMetadata::Float(std::string_view key) const {
  const std::optional<double> value = FindFloat(key);
  if (!value) Fail(key, "missing");
  return *value;
}

const GgufEntry* GgufMetadata::FindArray(std::string_view key) const {
  const GgufEntry* entry = Find(key);
  if (entry != nullptr && entry->type != GgufType::kArray) {
    Fail(key, "is " + Describe(*entry) + ", expected an array");
  }
  return entry;
}

std::optional<std::vector<std::string_view>> GgufMetadata::FindStrings(
    std::string_view key) const {
  const GgufEntry* entry = FindArray(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->element != GgufType::kString) {
    Fail(key, "is " + Describe(*entry) + ", expected an array of strings");
  }
  std::vector<std::string_view> strings;
  strings.reserve(entry->count);
  const std::byte* at = entry->data.data();
  for (uint64_t i = 0; i < entry->count; ++i) {
    const auto length = LoadLe<uint64_t>(at);
    at += sizeof(uint64_t);
    strings.emplace_back(reinterpret_cast<const char*>(at), length);
    at += length;
  }
  STOKER_CHECK(at == entry->data.data() + entry->data.size());
  return strings;
}

std::optional<std::vector<int64_t>> GgufMetadata::FindInts(std::string_view key) const {
  const GgufEntry* entry = FindArray(key);
  if (entry == nullptr) return std::nullopt;
  if (!IsInteger(entry->element) && entry->element != GgufType::kBool) {
    Fail(key, "is " + Describe(*entry) + ", expected an array of integers");
  }
  std::vector<int64_t> values;
  values.reserve(entry->count);
  const uint32_t step = GgufTypeBytes(entry->element);
  for (uint64_t i = 0; i < entry->count; ++i) {
    const std::optional<int64_t> value =
        LoadInteger(entry->element, entry->data.data() + i * step);
    if (!value) Fail(key, "element " + std::to_string(i) + " exceeds 2^63-1");
    values.push_back(*value);
  }
  return values;
}

std::optional<std::vector<float>> GgufMetadata::FindFloats(std::string_view key) const {
  const GgufEntry* entry = FindArray(key);
  if (entry == nullptr) return std::nullopt;
  if (!IsFloat(entry->element)) {
    Fail(key, "is " + Describe(*entry) + ", expected an array of f32 or f64");
  }
  std::vector<float> values;
  values.reserve(entry->count);
  const uint32_t step = GgufTypeBytes(entry->element);
  for (uint64_t i = 0; i < entry->count; ++i) {
    values.push_back(
        static_cast<float>(LoadFloat(entry->element, entry->data.data() + i * step)));
  }
  return values;
}

std::optional<std::vector<int64_t>> GgufMetadata::FindInts(std::string_view key,
                                                           uint64_t count) const {
  const GgufEntry* entry = FindArray(key);
  if (entry != nullptr && entry->count != count) {
    Fail(key, "has " + std::to_string(entry->count) + " elements, expected " +
                  std::to_string(count));
  }
  return FindInts(key);
}

std::optional<std::vector<float>> GgufMetadata::FindFloats(std::string_view key,
                                                           uint64_t count) const {
  const GgufEntry* entry = FindArray(key);
  if (entry != nullptr && entry->count != count) {
    Fail(key, "has " + std::to_string(entry->count) + " elements, expected " +
                  std::to_string(count));
  }
  return FindFloats(key);
}

std::vector<std::string_view> GgufMetadata::Strings(std::string_view key) const {
  std::optional<std::vector<std::string_view>> strings = FindStrings(key);
  if (!strings) Fail(key, "missing");
  return *std::move(strings);
}

}  // namespace stoker
