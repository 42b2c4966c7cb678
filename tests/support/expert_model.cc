#include "tests/support/expert_model.h"

#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "mmap/gguf_writer.h"
#include "mmap/model_config.h"
#include "mmap/tensor_names.h"

namespace stoker::testing {
namespace {

ModelConfig ConfigOf(const ExpertModelShape& shape) {
  ModelConfig config;
  config.n_layers = shape.n_layers;
  config.n_experts = shape.n_experts;
  config.n_experts_per_token = 2;
  config.hidden_size = shape.hidden;
  config.expert_hidden_size = shape.expert_hidden;
  config.vocab_size = shape.vocab;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.attention.assign(static_cast<size_t>(shape.n_layers), AttentionKind::kLightning);
  config.attention.back() = AttentionKind::kSoftmax;
  return config;
}

void AddMetadata(GgufWriter& writer, const ModelConfig& config) {
  const auto key = [](const char* name) { return std::string("minimax-01.") + name; };
  writer.AddString("general.architecture", "minimax-01");
  writer.Add(key("block_count"), static_cast<uint32_t>(config.n_layers));
  writer.Add(key("embedding_length"), static_cast<uint32_t>(config.hidden_size));
  writer.Add(key("attention.head_count"), static_cast<uint32_t>(config.n_heads));
  writer.Add(key("attention.head_count_kv"), static_cast<uint32_t>(config.n_kv_heads));
  writer.Add(key("attention.key_length"), static_cast<uint32_t>(config.head_dim));
  writer.Add(key("attention.value_length"), static_cast<uint32_t>(config.head_dim));
  writer.Add(key("rope.dimension_count"), uint32_t{8});
  writer.Add(key("rope.freq_base"), 1e7F);
  writer.Add(key("feed_forward_length"), static_cast<uint32_t>(config.expert_hidden_size));
  writer.Add(key("expert_count"), static_cast<uint32_t>(config.n_experts));
  writer.Add(key("expert_used_count"), static_cast<uint32_t>(config.n_experts_per_token));
  writer.Add(key("context_length"), uint32_t{4096});
  writer.Add(key("attention.layer_norm_rms_epsilon"), 1e-5F);
  writer.Add(key("residual_scale"), 3.5F);
  writer.Add(key("vocab_size"), static_cast<uint32_t>(config.vocab_size));
  std::vector<int32_t> recurrent;
  for (const AttentionKind kind : config.attention) {
    recurrent.push_back(kind == AttentionKind::kLightning ? 1 : 0);
  }
  writer.AddArray(key("attention.recurrent_layers"), std::span<const int32_t>(recurrent));
}

}  // namespace

void WriteExpertModel(const std::filesystem::path& path, const ExpertModelShape& shape) {
  const ModelConfig config = ConfigOf(shape);
  GgufWriter writer(path);
  AddMetadata(writer, config);
  std::vector<uint64_t> sizes;
  ForEachExpectedTensor(config, true, [&](const TensorKey& key) {
    const std::vector<int64_t> dims = ExpectedShape(key, config);
    const std::string name = CanonicalName(key);
    const bool expert = name.find("_exps") != std::string::npos;
    const bool mixed = name.find("ffn_down") != std::string::npos && key.layer % 2 == 1;
    const DType type = !expert ? DType::kF32 : mixed ? DType::kQ8_0 : DType::kQ4_0;
    writer.AddTensor(name, type, dims);
    uint64_t elements = 1;
    for (const int64_t n : dims) elements *= static_cast<uint64_t>(n);
    sizes.push_back(*TypedBytes(type, elements));
    return true;
  });
  std::mt19937_64 random(shape.seed);
  std::vector<std::byte> bytes;
  for (const uint64_t size : sizes) {
    bytes.resize((size + 7) / 8 * 8);
    for (size_t i = 0; i < bytes.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(bytes.data() + i, &word, sizeof(word));
    }
    writer.WriteData(std::span<const std::byte>(bytes).first(size));
  }
  writer.Finish();
}

}  // namespace stoker::testing
