// ModelConfig from config.json. Two vocabularies for the same things: the vendor's (M1, Text-01)
// and that of the -hf checkpoints. Each value is looked up under both names.

#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mmap/config_reader.h"
#include "mmap/format_error.h"
#include "mmap/json_reader.h"

namespace stoker {
namespace {

// Typed access to one object of the config; absent and null are the same.
class Fields {
 public:
  Fields(std::string_view text, const std::string& file, const std::string& where)
      : object_(text, file, where), where_(where) {}

  bool Has(std::string_view key) const { return object_.Has(key); }
  std::vector<std::string> Keys() const { return object_.Keys(); }
  bool IsList(std::string_view key) const { return object_.Raw(key).starts_with('['); }
  [[noreturn]] void Fail(std::string_view key, std::string_view reason) const {
    object_.Fail(key, reason);
  }

  std::optional<int64_t> FindInt(std::string_view key, int64_t min, int64_t max) const {
    if (!Has(key)) return std::nullopt;
    return ReadInt(key, object_.Raw(key), min, max);
  }

  int64_t Int(std::string_view key, int64_t min, int64_t max) const {
    const std::optional<int64_t> value = FindInt(key, min, max);
    if (!value) Fail(key, "missing");
    return *value;
  }

  std::optional<double> FindNumber(std::string_view key) const {
    return Find<double>(key, [](JsonReader& reader) { return reader.Number(); });
  }

  std::optional<bool> FindBool(std::string_view key) const {
    return Find<bool>(key, [](JsonReader& reader) { return reader.Bool(); });
  }

  std::optional<std::string> FindString(std::string_view key) const {
    return Find<std::string>(key, [](JsonReader& reader) { return reader.String(); });
  }

  // The texts of an array's elements.
  std::optional<std::vector<std::string_view>> FindList(std::string_view key) const {
    return Find<std::vector<std::string_view>>(key, [](JsonReader& reader) {
      std::vector<std::string_view> elements;
      for (reader.BeginArray(); reader.NextElement();) elements.push_back(reader.Skip());
      return elements;
    });
  }

  std::optional<Fields> FindObject(std::string_view key) const {
    if (!Has(key)) return std::nullopt;
    return Fields(object_.Raw(key), object_.file(), Where(key));
  }

  int64_t ReadInt(std::string_view key, std::string_view text, int64_t min, int64_t max) const {
    const std::string where = Where(key);
    JsonReader reader(text, object_.file(), where);
    const uint64_t value = reader.Unsigned();
    if (value < static_cast<uint64_t>(min) || value > static_cast<uint64_t>(max)) {
      Fail(key, "is " + std::to_string(value) + ", expected " + std::to_string(min) + " to " +
                    std::to_string(max));
    }
    return static_cast<int64_t>(value);
  }

 private:
  template <typename T, typename Read>
  std::optional<T> Find(std::string_view key, Read read) const {
    if (!Has(key)) return std::nullopt;
    const std::string where = Where(key);
    JsonReader reader(object_.Raw(key), object_.file(), where);
    return read(reader);
  }

  std::string Where(std::string_view key) const {
    return where_ + " key \"" + Printable(key) + "\"";
  }

  JsonObject object_;
  std::string where_;
};

// Of compressed checkpoints, those of the compressed-tensors library whose weights are INT8 with
// one scale per row ("int-quantized"); how activations were to be quantised is not ours to follow.
// Fails for all others.
void CheckQuantization(const Fields& fields) {
  constexpr std::string_view kKey = "quantization_config";
  const std::optional<Fields> quantization = fields.FindObject(kKey);
  if (!quantization) return;
  const std::string method = quantization->FindString("quant_method").value_or("unknown");
  const auto fail = [&](const std::string& what) {
    fields.Fail(kKey, "quantised checkpoint (quant_method \"" + Printable(method) + "\"" + what +
                          ") is not supported; use the BF16 checkpoint, one of INT8 with a scale "
                          "per row (compressed-tensors, int-quantized) or a GGUF file");
  };
  if (method != "compressed-tensors") fail("");
  const std::optional<Fields> groups = quantization->FindObject("config_groups");
  if (!groups) fail(", without config_groups");
  for (const std::string& key : groups->Keys()) {
    const std::optional<Fields> group = groups->FindObject(key);
    const std::optional<Fields> weights = group ? group->FindObject("weights") : std::nullopt;
    if (!weights) continue;
    const std::optional<int64_t> bits = weights->FindInt("num_bits", 1, 64);
    const std::string type = weights->FindString("type").value_or("int");
    const std::string strategy = weights->FindString("strategy").value_or("tensor");
    if (bits != 8 || type != "int") {
      fail(", " + std::to_string(bits.value_or(0)) + " bits of type \"" + Printable(type) + "\"");
    }
    const std::string format = group->FindString("format").value_or(
        quantization->FindString("format").value_or("int-quantized"));
    if (format != "int-quantized" && format != "naive-quantized") {
      fail(", format \"" + Printable(format) + "\"");
    }
    if (strategy != "channel") fail(", strategy \"" + Printable(strategy) + "\"");
    if (!weights->FindBool("symmetric").value_or(true)) fail(", asymmetric weights");
  }
}

void CheckModelKind(const Fields& fields, ModelConfig& config) {
  const std::optional<std::string> type = fields.FindString("model_type");
  if (!type) fields.Fail("model_type", "missing");
  if (*type != "minimax_m1" && *type != "minimax_text_01" && *type != "minimax") {
    fields.Fail("model_type", "\"" + Printable(*type) + "\" is not supported, expected "
                              "\"minimax_m1\", \"minimax_text_01\" or \"minimax\"");
  }
  config.architecture = *type;
  CheckQuantization(fields);
  if (const auto activation = fields.FindString("hidden_act");
      activation && *activation != "silu" && *activation != "swish") {
    fields.Fail("hidden_act", "\"" + Printable(*activation) + "\" is not supported, expected "
                              "\"silu\"");
  }
  if (fields.Has("sliding_window")) {
    fields.Fail("sliding_window", "is not supported, expected null");
  }
}

// attn_type_list: 0 lightning, 1 softmax. layer_types: words. Where both are, they must agree.
std::vector<AttentionKind> ReadAttention(const Fields& fields, int64_t n_layers) {
  std::vector<AttentionKind> attention;
  bool known = false;
  const auto accept = [&](std::string_view key, std::vector<AttentionKind> found) {
    if (found.size() != static_cast<size_t>(n_layers)) {
      fields.Fail(key, "has " + std::to_string(found.size()) + " entries for " +
                           std::to_string(n_layers) + " layers");
    }
    if (known && found != attention) fields.Fail(key, "contradicts attn_type_list");
    attention = std::move(found);
    known = true;
  };

  if (const auto list = fields.FindList("attn_type_list")) {
    std::vector<AttentionKind> found;
    for (const std::string_view text : *list) {
      found.push_back(fields.ReadInt("attn_type_list", text, 0, 1) == 0
                          ? AttentionKind::kLightning
                          : AttentionKind::kSoftmax);
    }
    accept("attn_type_list", std::move(found));
  }
  if (const auto list = fields.FindList("layer_types")) {
    std::vector<AttentionKind> found;
    for (const std::string_view text : *list) {
      if (text == "\"linear_attention\"") {
        found.push_back(AttentionKind::kLightning);
      } else if (text == "\"full_attention\"") {
        found.push_back(AttentionKind::kSoftmax);
      } else {
        fields.Fail("layer_types", "entry " + Printable(text, 40) +
                                       " is not supported, expected \"linear_attention\" or "
                                       "\"full_attention\"");
      }
    }
    accept("layer_types", std::move(found));
  }
  if (!known) fields.Fail("attn_type_list", "missing, and layer_types as well");
  return attention;
}

// rope_theta and rotary_dim at the top level, or inside rope_parameters (newer -hf spelling), with
// the rotated part as a fraction of the head.
void ReadRope(const Fields& fields, ModelConfig& config) {
  std::optional<double> theta = fields.FindNumber("rope_theta");
  std::optional<int64_t> rotary = fields.FindInt("rotary_dim", 2, kMaxHeadDim);
  std::optional<double> fraction = fields.FindNumber("partial_rotary_factor");
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    const std::optional<Fields> rope = fields.FindObject(key);
    if (!rope) continue;
    for (const std::string_view type_key : {"rope_type", "type"}) {
      const auto type = rope->FindString(type_key);
      if (type && *type != "default") {
        rope->Fail(type_key, "\"" + Printable(*type) + "\" is not supported, expected "
                             "\"default\"");
      }
    }
    if (!theta) theta = rope->FindNumber("rope_theta");
    if (!fraction) fraction = rope->FindNumber("partial_rotary_factor");
  }
  if (!theta) fields.Fail("rope_theta", "missing");
  config.rope_theta = *theta;
  if (!rotary && fraction) {
    // Compared before the conversion, which is undefined outside int64.
    if (!(*fraction > 0.0 && *fraction <= 1.0)) {
      fields.Fail("partial_rotary_factor", "is " + std::to_string(*fraction) +
                                               ", expected above 0 to 1");
    }
    rotary = static_cast<int64_t>(static_cast<double>(config.head_dim) * *fraction);
  }
  if (!rotary) fields.Fail("rotary_dim", "missing, and partial_rotary_factor as well");
  if (*rotary < 2) fields.Fail("rotary_dim", "is below 2");
  config.rotary_dim = *rotary;
}

// An integer, or in some derived configs a list of one.
int64_t ReadSharedSize(const Fields& fields) {
  constexpr std::string_view kKey = "shared_intermediate_size";
  if (!fields.Has(kKey)) return 0;
  if (!fields.IsList(kKey)) return fields.Int(kKey, 0, kMaxHidden);
  const auto list = *fields.FindList(kKey);
  if (list.size() != 1) {
    fields.Fail(kKey, "has " + std::to_string(list.size()) + " entries, expected 1");
  }
  return fields.ReadInt(kKey, list[0], 0, kMaxHidden);
}

// The vendor's name decides where both are present; the classes of both spellings default to 1.
float ReadFactor(const Fields& fields, std::string_view vendor, std::string_view hf) {
  for (const std::string_view key : {vendor, hf}) {
    const std::optional<double> value = fields.FindNumber(key);
    if (!value) continue;
    if (!(std::fabs(*value) <= 1e6)) fields.Fail(key, "is out of range");
    return static_cast<float>(*value);
  }
  return 1.0f;
}

void ReadFactors(const Fields& fields, ModelConfig& config) {
  config.lightning_alpha =
      ReadFactor(fields, "layernorm_linear_attention_alpha", "linear_attn_alpha_factor");
  config.lightning_beta =
      ReadFactor(fields, "layernorm_linear_attention_beta", "linear_attn_beta_factor");
  config.softmax_alpha =
      ReadFactor(fields, "layernorm_full_attention_alpha", "full_attn_alpha_factor");
  config.softmax_beta =
      ReadFactor(fields, "layernorm_full_attention_beta", "full_attn_beta_factor");
  config.moe_alpha = ReadFactor(fields, "layernorm_mlp_alpha", "mlp_alpha_factor");
  config.moe_beta = ReadFactor(fields, "layernorm_mlp_beta", "mlp_beta_factor");
}

}  // namespace

ModelConfig ConfigFromJson(std::string_view text, const std::string& file) {
  const Fields fields(text, file, "config");
  ModelConfig config;
  CheckModelKind(fields, config);
  config.n_layers = fields.Int("num_hidden_layers", 1, kMaxLayers);
  config.hidden_size = fields.Int("hidden_size", 1, kMaxHidden);
  config.vocab_size = fields.Int("vocab_size", 1, kMaxVocab);
  config.n_heads = fields.Int("num_attention_heads", 1, kMaxHeads);
  config.n_kv_heads = fields.Int("num_key_value_heads", 1, kMaxHeads);
  config.head_dim = fields.FindInt("head_dim", 1, kMaxHeadDim)
                        .value_or(config.hidden_size / config.n_heads);
  config.expert_hidden_size = fields.Int("intermediate_size", 1, kMaxHidden);
  config.n_experts = fields.Int("num_local_experts", 1, kMaxExperts);
  config.n_experts_per_token = fields.Int("num_experts_per_tok", 1, kMaxExperts);
  config.shared_hidden_size = ReadSharedSize(fields);
  if (const auto mode = fields.FindString("shared_moe_mode");
      config.shared_hidden_size > 0 && mode && *mode != "sigmoid") {
    fields.Fail("shared_moe_mode", "\"" + Printable(*mode) + "\" is not supported, expected "
                                   "\"sigmoid\"");
  }
  config.max_position = fields.Int("max_position_embeddings", 1, kMaxPosition);
  config.rms_norm_eps = static_cast<float>(fields.FindNumber("rms_norm_eps").value_or(1e-5));
  config.tied_embeddings = fields.FindBool("tie_word_embeddings").value_or(false);
  // The -hf spelling has no such key: its model class always takes the residual after the norm.
  config.postnorm =
      fields.FindBool("postnorm").value_or(config.architecture == "minimax");
  ReadRope(fields, config);
  ReadFactors(fields, config);
  config.attention = ReadAttention(fields, config.n_layers);
  ValidateConfig(config, file);
  return config;
}

}  // namespace stoker
