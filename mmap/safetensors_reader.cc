#include "mmap/safetensors_reader.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string_view>

#include "mmap/format_error.h"
#include "mmap/json_reader.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

std::string Quoted(std::string_view name) { return "tensor \"" + Printable(name) + "\""; }

// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, offsets relative to the data.
SafetensorsInfo ReadInfo(JsonReader& reader, const std::string& name, const std::string& file) {
  SafetensorsInfo info;
  info.name = name;
  bool has_type = false, has_shape = false, has_offsets = false;
  const auto once = [&](bool& seen, std::string_view key) {
    if (seen) throw FormatError(file, Quoted(name) + " " + std::string(key), "duplicate key");
    seen = true;
  };
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string key;
  for (reader.BeginObject(); reader.NextKey(key);) {
    if (key == "dtype") {
      once(has_type, key);
      const std::string type = reader.String();
      const std::optional<DType> known = DTypeFromSafetensors(type);
      if (!known) {
        throw FormatError(file, Quoted(name) + " dtype", "unknown type \"" + Printable(type) +
                                                             "\"");
      }
      info.type = *known;
    } else if (key == "shape") {
      once(has_shape, key);
      for (reader.BeginArray(); reader.NextElement();) {
        const uint64_t n = reader.Unsigned();
        if (n > static_cast<uint64_t>(INT64_MAX) ||
            info.shape.size() == static_cast<size_t>(kMaxSafetensorsDims)) {
          throw FormatError(file, Quoted(name) + " shape",
                            "has a dimension above 2^63-1 or more than " +
                                std::to_string(kMaxSafetensorsDims) + " of them");
        }
        info.shape.push_back(static_cast<int64_t>(n));
      }
    } else if (key == "data_offsets") {
      once(has_offsets, key);
      uint64_t offsets[2] = {};
      size_t count = 0;
      for (reader.BeginArray(); reader.NextElement(); ++count) {
        const uint64_t offset = reader.Unsigned();
        if (count < 2) offsets[count] = offset;
      }
      if (count != 2) {
        throw FormatError(file, Quoted(name) + " data_offsets",
                          "has " + std::to_string(count) + " entries, expected 2");
      }
      begin = offsets[0];
      end = offsets[1];
    } else {
      throw FormatError(file, Quoted(name), "unknown key \"" + Printable(key) + "\"");
    }
  }
  if (!has_type || !has_shape || !has_offsets) {
    throw FormatError(file, Quoted(name), "lacks dtype, shape or data_offsets");
  }
  if (begin > end) {
    throw FormatError(file, Quoted(name) + " data_offsets",
                      "end " + std::to_string(end) + " before begin " + std::to_string(begin));
  }

  std::optional<uint64_t> elements = 1;
  for (const int64_t n : info.shape) {
    if (elements) elements = CheckedMul(*elements, static_cast<uint64_t>(n));
  }
  const std::optional<uint64_t> bytes =
      elements ? TypedBytes(info.type, *elements) : std::nullopt;
  if (!bytes) throw FormatError(file, Quoted(name) + " shape", "number of bytes exceeds 2^64-1");
  if (end - begin != *bytes) {
    throw FormatError(file, Quoted(name) + " data_offsets",
                      "span " + std::to_string(end - begin) + " bytes, type and shape need " +
                          std::to_string(*bytes));
  }
  info.offset = begin;
  info.bytes = *bytes;
  return info;
}

template <typename Less>
std::vector<uint32_t> SortedOrder(size_t n, Less less) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), less);
  return order;
}

void RefuseDuplicates(const std::deque<SafetensorsInfo>& infos, const std::string& file) {
  const std::vector<uint32_t> order = SortedOrder(
      infos.size(), [&](uint32_t a, uint32_t b) { return infos[a].name < infos[b].name; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (infos[order[i]].name == infos[order[i - 1]].name) {
      throw FormatError(file, Quoted(infos[order[i]].name), "duplicate tensor name");
    }
  }
}

// Sorted by offset, each tensor starts where the one before ended, and the last ends the file.
void CheckCoverage(const std::deque<SafetensorsInfo>& infos, uint64_t data_bytes,
                   const std::string& file) {
  const std::vector<uint32_t> order = SortedOrder(infos.size(), [&](uint32_t a, uint32_t b) {
    return infos[a].offset != infos[b].offset ? infos[a].offset < infos[b].offset
                                              : infos[a].bytes < infos[b].bytes;
  });
  uint64_t expected = 0;
  for (const uint32_t i : order) {
    const SafetensorsInfo& info = infos[i];
    if (info.offset != expected) {
      throw FormatError(file, Quoted(info.name) + " data_offsets",
                        "begin at " + std::to_string(info.offset) + ", expected " +
                            std::to_string(expected) +
                            (info.offset < expected ? " (overlaps another tensor)"
                                                    : " (leaves a hole)"));
    }
    // offset + bytes is the end that was read, so it fits.
    expected = info.offset + info.bytes;
    if (expected > data_bytes) {
      throw FormatError(file, Quoted(info.name),
                        "truncated: ends at data offset " + std::to_string(expected) + " of " +
                            std::to_string(data_bytes));
    }
  }
  if (expected != data_bytes) {
    throw FormatError(file, "data", std::to_string(data_bytes - expected) +
                                        " bytes after the last tensor");
  }
}

}  // namespace

std::deque<SafetensorsInfo> ParseSafetensors(std::span<const std::byte> bytes,
                                             const std::string& file) {
  constexpr uint64_t kLengthBytes = 8;
  if (bytes.size() < kLengthBytes) {
    throw FormatError(file, "header length", "truncated: the file has " +
                                                 std::to_string(bytes.size()) +
                                                 " bytes, at least 8 are needed");
  }
  const auto header_bytes = LoadLe<uint64_t>(bytes.data());
  if (header_bytes > kMaxSafetensorsHeader) {
    throw FormatError(file, "header length", std::to_string(header_bytes) + " exceeds " +
                                                 std::to_string(kMaxSafetensorsHeader));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    throw FormatError(file, "header length", std::to_string(header_bytes) +
                                                 " passes the end of the file (" +
                                                 std::to_string(bytes.size()) + " bytes)");
  }
  const std::span<const std::byte> header = bytes.subspan(kLengthBytes, header_bytes);
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  if (!text.starts_with('{')) throw FormatError(file, "header", "does not start with \"{\"");

  std::deque<SafetensorsInfo> infos;
  JsonReader reader(text, file, "header");
  bool has_metadata = false;
  std::string name;
  for (reader.BeginObject(); reader.NextKey(name);) {
    if (name == "__metadata__") {
      if (has_metadata) throw FormatError(file, "header __metadata__", "duplicate key");
      has_metadata = true;
      for (reader.BeginObject(); reader.NextKey(name);) reader.String();
      continue;
    }
    if (infos.size() == kMaxSafetensorsTensors) reader.Fail("too many tensors");
    infos.push_back(ReadInfo(reader, name, file));
  }
  reader.End();

  RefuseDuplicates(infos, file);
  const uint64_t data_offset = kLengthBytes + header_bytes;
  CheckCoverage(infos, bytes.size() - data_offset, file);
  for (SafetensorsInfo& info : infos) info.offset += data_offset;
  return infos;
}

}  // namespace stoker
