#include "tests/support/golden_file.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace stoker::testing {

GoldenArray ReadGolden(const std::filesystem::path& file, const std::string& name) {
  std::ifstream in(file, std::ios::binary);
  uint64_t header_bytes = 0;
  in.read(reinterpret_cast<char*>(&header_bytes), sizeof(header_bytes));
  std::string header(header_bytes, '\0');
  in.read(header.data(), static_cast<std::streamsize>(header.size()));
  if (!in) throw std::runtime_error(file.string() + ": cannot read the header");
  const nlohmann::json json = nlohmann::json::parse(header);
  if (!json.contains(name)) throw std::runtime_error(file.string() + ": no " + name);
  const nlohmann::json& entry = json[name];
  GoldenArray array;
  array.shape = entry["shape"].get<std::vector<int64_t>>();
  const uint64_t begin = entry["data_offsets"][0];
  const uint64_t end = entry["data_offsets"][1];
  in.seekg(static_cast<std::streamoff>(sizeof(header_bytes) + header_bytes + begin));
  std::vector<char> bytes(end - begin);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in) throw std::runtime_error(file.string() + ": cannot read " + name);
  if (entry["dtype"] == "F32") {
    array.f32.resize(bytes.size() / sizeof(float));
    std::memcpy(array.f32.data(), bytes.data(), bytes.size());
  } else if (entry["dtype"] == "I32") {
    array.i32.resize(bytes.size() / sizeof(int32_t));
    std::memcpy(array.i32.data(), bytes.data(), bytes.size());
  } else {
    throw std::runtime_error(file.string() + ": " + name + ": neither F32 nor I32");
  }
  return array;
}

std::filesystem::path GoldenDirectory() {
  const char* directory = std::getenv("STOKER_GOLDEN_DIR");
  if (directory == nullptr || !std::filesystem::is_directory(directory)) return {};
  return directory;
}

}  // namespace stoker::testing
