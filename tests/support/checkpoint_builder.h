#pragma once

// Builds a safetensors model directory member by member, valid unless a member is overridden: the
// tests' own encoder, able to lie. TinyCheckpoint is a complete model of two layers in two shards,
// an expert straddling them.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/gguf_builder.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {

struct RawShardTensor {
  std::string name;
  std::vector<uint64_t> shape;
  std::string dtype = "F32";
  uint64_t bytes = 0;
  std::string entry = {};  // the whole JSON value, instead of the true one
  std::optional<char> fill = std::nullopt;  // every byte, instead of the tensor's number
};

struct RawShard {
  std::vector<RawShardTensor> tensors;
  std::string metadata = R"("__metadata__":{"format":"pt"})";
  std::optional<std::string> header;  // the whole JSON text
  std::optional<uint64_t> header_length;
  std::string trailing;

  void AddF32(std::string name, std::vector<uint64_t> shape) {
    uint64_t bytes = 4;
    for (const uint64_t n : shape) bytes *= n;
    tensors.push_back({std::move(name), std::move(shape), "F32", bytes});
  }
  RawShardTensor& Tensor(std::string_view name) {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const RawShardTensor& tensor) { return tensor.name == name; });
  }

  std::string Header() const {
    std::string text = "{" + metadata;
    uint64_t offset = 0;
    for (const RawShardTensor& tensor : tensors) {
      if (text.size() > 1) text += ",";
      text += "\"" + tensor.name + "\":";
      if (!tensor.entry.empty()) {
        text += tensor.entry;
      } else {
        text += R"({"dtype":")" + tensor.dtype + R"(","shape":[)";
        for (size_t i = 0; i < tensor.shape.size(); ++i) {
          text += (i > 0 ? "," : "") + std::to_string(tensor.shape[i]);
        }
        text += R"(],"data_offsets":[)" + std::to_string(offset) + "," +
                std::to_string(offset + tensor.bytes) + "]}";
      }
      offset += tensor.bytes;
    }
    return text + "}";
  }

  // Header and data; tensor i's bytes are all i + 1.
  std::string Build() const {
    const std::string text = header.value_or(Header());
    std::string out = Le<uint64_t>(header_length.value_or(text.size())) + text;
    for (size_t i = 0; i < tensors.size(); ++i) {
      out.append(tensors[i].bytes, tensors[i].fill.value_or(static_cast<char>(i + 1)));
    }
    return out + trailing;
  }
};

struct RawCheckpoint {
  std::vector<std::pair<std::string, std::string>> config;       // key, JSON text
  std::vector<std::pair<std::string, RawShard>> shards;          // file name
  std::vector<std::pair<std::string, std::string>> extra_index;  // tensor, file
  std::optional<std::string> config_text;
  std::optional<std::string> index_text;
  bool write_config = true;
  bool write_index = true;

  void Set(std::string_view key, std::string value) {
    for (auto& [name, text] : config) {
      if (name == key) {
        text = std::move(value);
        return;
      }
    }
    config.emplace_back(key, std::move(value));
  }
  void Remove(std::string_view key) {
    std::erase_if(config, [&](const auto& member) { return member.first == key; });
  }
  std::string ConfigText() const {
    std::string text;
    for (const auto& [key, value] : config) {
      text += (text.empty() ? "{\"" : ",\"") + key + "\":" + value;
    }
    return text + "}";
  }
  std::string IndexText() const {
    std::string text = R"({"metadata":{"total_size":1},"weight_map":{)";
    const char* comma = "";
    for (const auto& [file, shard] : shards) {
      for (const RawShardTensor& tensor : shard.tensors) {
        text += comma + ("\"" + tensor.name + "\":\"" + file + "\"");
        comma = ",";
      }
    }
    for (const auto& [tensor, file] : extra_index) {
      text += comma + ("\"" + tensor + "\":\"" + file + "\"");
      comma = ",";
    }
    return text + "}}";
  }
  void Write(const std::filesystem::path& directory) const {
    if (write_config) WriteFile(directory / "config.json", config_text.value_or(ConfigText()));
    if (write_index) {
      WriteFile(directory / "model.safetensors.index.json", index_text.value_or(IndexText()));
    }
    for (const auto& [file, shard] : shards) WriteFile(directory / file, shard.Build());
  }
};

inline RawCheckpoint TinyCheckpoint(uint64_t size = 8) {
  RawCheckpoint checkpoint;
  checkpoint.config = {{"model_type", "\"minimax_m1\""},
                       {"hidden_size", std::to_string(size)},
                       {"num_hidden_layers", "2"},
                       {"attn_type_list", "[0, 1]"},
                       {"num_attention_heads", "2"},
                       {"num_key_value_heads", "1"},
                       {"head_dim", "4"},
                       {"rotary_dim", "2"},
                       {"rope_theta", "10000000"},
                       {"intermediate_size", std::to_string(size)},
                       {"num_local_experts", "2"},
                       {"num_experts_per_tok", "2"},
                       {"shared_intermediate_size", "0"},
                       {"layernorm_linear_attention_alpha", "1.5"},
                       {"layernorm_linear_attention_beta", "1.25"},
                       {"layernorm_full_attention_alpha", "1.75"},
                       {"layernorm_full_attention_beta", "1.0"},
                       {"layernorm_mlp_alpha", "2.0"},
                       {"layernorm_mlp_beta", "0.5"},
                       {"postnorm", "true"},
                       {"rms_norm_eps", "1e-05"},
                       {"hidden_act", "\"silu\""},
                       {"max_position_embeddings", "128"},
                       {"vocab_size", "4"},
                       {"sliding_window", "null"},
                       {"tie_word_embeddings", "false"}};
  RawShard first;
  RawShard second;
  first.AddF32("model.embed_tokens.weight", {4, size});
  for (const int layer : {0, 1}) {
    RawShard& shard = layer == 0 ? first : second;
    const std::string b = "model.layers." + std::to_string(layer) + ".";
    shard.AddF32(b + "input_layernorm.weight", {size});
    if (layer == 0) {
      shard.AddF32(b + "self_attn.qkv_proj.weight", {24, size});
      shard.AddF32(b + "self_attn.output_gate.weight", {8, size});
      shard.AddF32(b + "self_attn.norm.weight", {8});
      shard.AddF32(b + "self_attn.out_proj.weight", {size, 8});
    } else {
      shard.AddF32(b + "self_attn.q_proj.weight", {8, size});
      shard.AddF32(b + "self_attn.k_proj.weight", {4, size});
      shard.AddF32(b + "self_attn.v_proj.weight", {4, size});
      shard.AddF32(b + "self_attn.o_proj.weight", {size, 8});
    }
    shard.AddF32(b + "post_attention_layernorm.weight", {size});
    shard.AddF32(b + "block_sparse_moe.gate.weight", {2, size});
    for (const int expert : {0, 1}) {
      const std::string e = b + "block_sparse_moe.experts." + std::to_string(expert) + ".";
      shard.AddF32(e + "w1.weight", {size, size});
      // The last expert of layer 0 continues in the second shard.
      RawShard& rest = expert == 1 ? second : shard;
      rest.AddF32(e + "w2.weight", {size, size});
      rest.AddF32(e + "w3.weight", {size, size});
    }
  }
  second.AddF32("model.norm.weight", {size});
  second.AddF32("lm_head.weight", {4, size});
  checkpoint.shards = {{"model-00000-of-00002.safetensors", first},
                       {"model-00001-of-00002.safetensors", second}};
  return checkpoint;
}

// The same with one matrix of an expert in INT8, its scales in BF16 behind it, as the
// compressed-tensors library writes them.
inline constexpr std::string_view kInt8Weight =
    "model.layers.0.block_sparse_moe.experts.0.w1.weight";
inline constexpr std::string_view kInt8Scales =
    "model.layers.0.block_sparse_moe.experts.0.w1.weight_scale";

inline RawCheckpoint Int8Checkpoint(uint64_t size = 32) {
  RawCheckpoint checkpoint = TinyCheckpoint(size);
  checkpoint.Set("quantization_config",
                 R"({"quant_method":"compressed-tensors","format":"int-quantized","ignore":[],)"
                 R"("config_groups":{"group_0":{"targets":["Linear"],"input_activations":null,)"
                 R"("weights":{"num_bits":8,"type":"int","symmetric":true,"strategy":"channel",)"
                 R"("group_size":null}}}})");
  RawShard& shard = checkpoint.shards[0].second;
  RawShardTensor& weight = shard.Tensor(kInt8Weight);
  weight.dtype = "I8";
  weight.bytes /= 4;
  shard.tensors.push_back({std::string(kInt8Scales), {size, 1}, "BF16", 2 * size});
  return checkpoint;
}

}  // namespace stoker::test
