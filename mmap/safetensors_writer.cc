#include "mmap/safetensors_writer.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "mmap/atomic_file.h"
#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr uint64_t kHeaderAlignment = 8;

std::string JsonString(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20) {
      out += "\\u00";
      out += {kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

std::string TensorJson(const TensorToWrite& tensor, uint64_t begin) {
  const DTypeInfo& info = Info(tensor.type);
  STOKER_CHECK_MSG(!info.safetensors.empty(), "type without a safetensors name");
  uint64_t elements = 1;
  std::string shape;
  for (const int64_t n : tensor.shape) {
    STOKER_CHECK(n >= 0);
    const std::optional<uint64_t> product = CheckedMul(elements, static_cast<uint64_t>(n));
    STOKER_CHECK(product.has_value());
    elements = *product;
    if (!shape.empty()) shape.push_back(',');
    shape += std::to_string(n);
  }
  STOKER_CHECK_MSG(TypedBytes(tensor.type, elements) == tensor.bytes.size(),
                   "bytes do not fit type and shape");
  return JsonString(tensor.name) + ":{\"dtype\":\"" + std::string(info.safetensors) +
         "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(begin + tensor.bytes.size()) + "]}";
}

}  // namespace

void WriteSafetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return Info(a->type).block_bytes > Info(b->type).block_bytes;
  });

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (header.back() != '{') header.push_back(',');
      header += JsonString(key) + ":" + JsonString(value);
    }
    header += "}";
  }
  uint64_t offset = 0;
  for (const TensorToWrite* tensor : order) {
    if (header.size() > 1) header.push_back(',');
    header += TensorJson(*tensor, offset);
    offset += tensor->bytes.size();
  }
  header += "}";
  header.resize(AlignUp<uint64_t>(header.size(), kHeaderAlignment), ' ');

  AtomicFile file(path);
  char length[sizeof(uint64_t)];
  StoreLe<uint64_t>(length, header.size());
  file.Write(std::string_view(length, sizeof(length)));
  file.Write(header);
  for (const TensorToWrite* tensor : order) file.Write(tensor->bytes);
  file.Commit();
}

}  // namespace stoker
