// ModelConfig from GGUF metadata, as llama.cpp's converter writes it for minimax-01.

#include <string>
#include <string_view>
#include <vector>

#include "mmap/config_reader.h"
#include "mmap/format_error.h"

namespace stoker {
namespace {

constexpr std::string_view kArchitecture = "minimax-01";

std::string Key(std::string_view name) {
  return std::string(kArchitecture) + "." + std::string(name);
}

[[noreturn]] void Fail(const GgufMetadata& metadata, const std::string& key,
                       std::string_view reason) {
  throw FormatError(metadata.file(), "metadata key \"" + key + "\"", reason);
}

// The layer pattern is not in the files of the converter; llama.cpp's loader takes a list of
// recurrent (here: lightning) layers, else an interval, else every eighth layer is softmax.
std::vector<AttentionKind> ReadAttention(const GgufMetadata& metadata, int64_t n_layers) {
  std::vector<AttentionKind> attention(static_cast<size_t>(n_layers), AttentionKind::kLightning);
  const auto recurrent =
      metadata.FindInts(Key("attention.recurrent_layers"), static_cast<uint64_t>(n_layers));
  const int64_t interval =
      metadata.FindInt(Key("full_attention_interval"), 1, kMaxLayers).value_or(8);
  for (size_t i = 0; i < attention.size(); ++i) {
    const bool lightning = recurrent ? (*recurrent)[i] != 0
                                     : (static_cast<int64_t>(i) + 1) % interval != 0;
    attention[i] = lightning ? AttentionKind::kLightning : AttentionKind::kSoftmax;
  }
  return attention;
}

// The list of tokens decides, as in llama.cpp, so that a shorter embedding is named as wrong.
int64_t ReadVocabSize(const GgufMetadata& metadata, std::optional<int64_t> embedding_rows) {
  if (const auto size = metadata.FindInt(Key("vocab_size"), 1, kMaxVocab)) return *size;
  const std::string tokens_key = "tokenizer.ggml.tokens";
  if (const GgufEntry* tokens = metadata.Find(tokens_key)) {
    if (tokens->type != GgufType::kArray || tokens->element != GgufType::kString) {
      Fail(metadata, tokens_key, "expected an array of strings");
    }
    if (tokens->count < 1 || tokens->count > static_cast<uint64_t>(kMaxVocab)) {
      Fail(metadata, tokens_key, "has " + std::to_string(tokens->count) +
                                     " elements, expected 1 to " + std::to_string(kMaxVocab));
    }
    return static_cast<int64_t>(tokens->count);
  }
  if (!embedding_rows) {
    throw FormatError(metadata.file(), "tensor \"token_embd.weight\"",
                      "missing from the model's files");
  }
  if (*embedding_rows > kMaxVocab) {
    throw FormatError(metadata.file(), "tensor \"token_embd.weight\" shape",
                      "has " + std::to_string(*embedding_rows) + " rows, at most " +
                          std::to_string(kMaxVocab) + " are supported");
  }
  return *embedding_rows;
}

}  // namespace

ModelConfig ConfigFromGguf(const GgufMetadata& metadata, std::optional<int64_t> embedding_rows) {
  const std::string_view architecture = metadata.String("general.architecture");
  if (architecture != kArchitecture) {
    Fail(metadata, "general.architecture",
         "\"" + Printable(architecture) + "\" is not supported, expected \"" +
             std::string(kArchitecture) + "\"");
  }
  ModelConfig config;
  config.architecture = kArchitecture;
  config.name = metadata.FindString("general.name").value_or("");
  config.n_layers = metadata.Int(Key("block_count"), 1, kMaxLayers);
  config.hidden_size = metadata.Int(Key("embedding_length"), 1, kMaxHidden);
  config.n_heads = metadata.Int(Key("attention.head_count"), 1, kMaxHeads);
  config.n_kv_heads = metadata.Int(Key("attention.head_count_kv"), 1, kMaxHeads);
  config.head_dim = metadata.Int(Key("attention.key_length"), 1, kMaxHeadDim);
  if (metadata.Int(Key("attention.value_length"), 1, kMaxHeadDim) != config.head_dim) {
    Fail(metadata, Key("attention.value_length"), "differs from attention.key_length");
  }
  config.rotary_dim = metadata.Int(Key("rope.dimension_count"), 2, kMaxHeadDim);
  config.rope_theta = metadata.Float(Key("rope.freq_base"));
  config.expert_hidden_size = metadata.Int(Key("feed_forward_length"), 1, kMaxHidden);
  config.n_experts = metadata.Int(Key("expert_count"), 1, kMaxExperts);
  config.n_experts_per_token = metadata.Int(Key("expert_used_count"), 1, kMaxExperts);
  config.shared_hidden_size =
      metadata.FindInt(Key("expert_shared_feed_forward_length"), 0, kMaxHidden).value_or(0);
  config.max_position = metadata.Int(Key("context_length"), 1, kMaxPosition);
  config.rms_norm_eps = static_cast<float>(metadata.Float(Key("attention.layer_norm_rms_epsilon")));
  config.lightning_norm_eps = config.rms_norm_eps;

  // One factor for all residuals; the converter demands equal alphas and betas of one.
  const auto alpha = static_cast<float>(metadata.Float(Key("residual_scale")));
  config.lightning_alpha = config.softmax_alpha = config.moe_alpha = alpha;

  const auto scaling = metadata.FindString(Key("rope.scaling.type"));
  if (scaling && *scaling != "none") {
    Fail(metadata, Key("rope.scaling.type"),
         "\"" + Printable(*scaling) + "\" is not supported, expected \"none\"");
  }
  config.attention = ReadAttention(metadata, config.n_layers);
  config.vocab_size = ReadVocabSize(metadata, embedding_rows);
  ValidateConfig(config, metadata.file());
  return config;
}

}  // namespace stoker
