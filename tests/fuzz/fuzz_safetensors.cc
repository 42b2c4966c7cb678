// Any bytes as a safetensors file, a shard index or a config.json; the first byte chooses. The
// JSON reader is held against nlohmann's acceptance at the same time.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "mmap/config_reader.h"
#include "mmap/format_error.h"
#include "mmap/json_reader.h"
#include "mmap/safetensors_index.h"
#include "mmap/safetensors_reader.h"
#include "numa/bytes.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/checkpoint_builder.h"

namespace stoker {
namespace {

void Demand(bool holds) {
  if (!holds) std::abort();
}

void RunShard(std::span<const std::byte> bytes) {
  uint64_t total = 0;
  for (const SafetensorsInfo& info : ParseSafetensors(bytes, "fuzz")) {
    Demand(info.offset >= 8 && info.offset <= bytes.size());
    Demand(info.bytes <= bytes.size() - info.offset);
    total += info.bytes;
  }
  const auto header_bytes = LoadLe<uint64_t>(bytes.data());
  Demand(8 + header_bytes + total == bytes.size());
}

void RunIndex(std::string_view text) {
  const SafetensorsIndex index = ParseSafetensorsIndex(text, "fuzz");
  for (const SafetensorsIndex::Entry& entry : index.entries) {
    Demand(entry.file < index.files.size());
  }
  for (const std::string& name : index.files) {
    Demand(name.find('/') == std::string::npos && name.ends_with(".safetensors"));
  }
}

void RunConfig(std::string_view text) {
  const ModelConfig config = ConfigFromJson(text, "fuzz");
  Demand(config.attention.size() == static_cast<size_t>(config.n_layers));
  Demand(config.rotary_dim <= config.head_dim && config.n_heads % config.n_kv_heads == 0);
}

// nlohmann recurses, so it only judges what nests no deeper than our reader allows.
void CompareJson(std::string_view text) {
  bool ours = false;
  try {
    JsonReader reader(text, "fuzz", "json");
    reader.Skip();
    reader.End();
    ours = true;
  } catch (const FormatError& error) {
    if (std::string_view(error.what()).find("nested deeper") != std::string_view::npos) return;
  }
  // nlohmann skips a byte order mark, which RFC 8259 forbids to write, and takes NUL for the end.
  if (text.starts_with("\xef") || text.find('\0') != std::string_view::npos) return;
  const bool theirs = nlohmann::json::accept(text);
  // It also refuses numbers beyond a double, which our reader does when they are read as one.
  const bool may_overflow =
      text.size() > 300 || text.find_first_of("eE") != std::string_view::npos;
  Demand(ours == theirs || (ours && may_overflow));
}

std::vector<std::string> Seeds() {
  const test::RawCheckpoint checkpoint = test::TinyCheckpoint();
  const test::RawCheckpoint int8 = test::Int8Checkpoint();
  test::RawCheckpoint hf = checkpoint;
  hf.Set("layer_types", R"(["linear_attention", "full_attention"])");
  hf.Set("rope_parameters", R"({"rope_type":"default","partial_rotary_factor":0.5})");
  hf.Set("mlp_alpha_factor", "2.0");
  return {std::string("\0", 1) + checkpoint.shards[0].second.Build(),
          std::string("\0", 1) + checkpoint.shards[1].second.Build(),
          "\x01" + checkpoint.IndexText(),
          "\x02" + checkpoint.ConfigText(),
          "\x02" + hf.ConfigText(),
          std::string("\0", 1) + int8.shards[0].second.Build(),
          "\x02" + int8.ConfigText(),
          "\x03" R"({"a":[1,-2.5e3,true,null,"\u00e9\ud83d\ude00"]})"};
}

}  // namespace
}  // namespace stoker

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  stoker::test::WriteSeeds(*argc, *argv, stoker::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    switch (data[0] & 3) {
      case 0:
        stoker::RunShard(std::as_bytes(std::span(text)));
        break;
      case 1:
        stoker::RunIndex(text);
        break;
      case 2:
        stoker::RunConfig(text);
        break;
      default:
        stoker::CompareJson(text);
    }
  } catch (const stoker::FormatError& error) {
    const std::string_view message = error.what();
    stoker::Demand(message.starts_with("fuzz: ") && message.find('\n') == std::string_view::npos);
  }
  return 0;
}
