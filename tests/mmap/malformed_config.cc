// config.json files that are malformed, of another model, or ask for what is not computed.

#include "tests/mmap/malformed_cases.h"

namespace stoker::test {
namespace {

const std::string kConfig = "config.json";

MalformedCase TextCase(std::string name, std::string text, std::string field,
                       std::string reason) {
  return CheckpointCase(
      std::move(name), [=](RawCheckpoint& c) { c.config_text = text; }, kConfig,
      std::move(field), std::move(reason));
}

MalformedCase SetCase(std::string key, std::string value, std::string reason,
                      std::string field = "") {
  return CheckpointCase(
      key + " = " + value.substr(0, 60), [=](RawCheckpoint& c) { c.Set(key, value); }, kConfig,
      field.empty() ? "\"" + key + "\"" : field, std::move(reason));
}

}  // namespace

std::vector<MalformedCase> ConfigJsonCases() {
  std::vector<MalformedCase> cases;
  cases.push_back(CheckpointCase("no config", [](RawCheckpoint& c) { c.write_config = false; },
                                 kConfig, "config", "no such file"));
  cases.push_back(TextCase("empty config", "", "file", "is empty"));
  cases.push_back(TextCase("config is an array", "[1]", "config", "expected an object"));
  cases.push_back(TextCase("config is a string", "\"x\"", "config", "expected an object"));
  cases.push_back(TextCase("config cut short", "{\"model_type\": \"minimax_m1\"", "config",
                           "ends unexpectedly"));
  cases.push_back(TextCase("config with text behind", "{} {}", "config", "text after the end"));
  cases.push_back(TextCase("config nested 100000 deep", "{\"x\":" + std::string(100000, '['),
                           "config", "nested deeper than 64"));
  cases.push_back(TextCase("config of 2 MiB", std::string(2 << 20, ' ') + "{}", "file",
                           "at most 1048576"));
  cases.push_back(TextCase("config with a NUL", std::string("{\"a\":1\0}", 8), "config",
                           "malformed JSON"));
  cases.push_back(TextCase("config with a byte order mark", "\xef\xbb\xbf{}", "config",
                           "expected an object"));
  cases.push_back(TextCase("config in UTF-16", std::string("{\0\"\0", 4), "config",
                           "expected a key"));
  cases.push_back(TextCase("leading zero", "{\"a\":01}", "config", "leading zero"));
  cases.push_back(TextCase("NaN", "{\"a\":NaN}", "config", "expected a value"));
  cases.push_back(TextCase("single quotes", "{'a':1}", "config", "expected a key"));
  cases.push_back(CheckpointCase("duplicate key",
                                 [](RawCheckpoint& c) {
                                   c.config.emplace_back("hidden_size", "16");
                                 },
                                 kConfig, "\"hidden_size\"", "duplicate key"));

  // The kind of model.
  cases.push_back(SetCase("model_type", "\"llama\"", "\"llama\" is not supported"));
  cases.push_back(SetCase("model_type", "\"minimax_m2\"", "\"minimax_m2\" is not supported"));
  cases.push_back(SetCase("model_type", "1", "expected a string"));
  cases.push_back(SetCase("model_type", "null", "missing"));
  cases.push_back(SetCase("quantization_config", R"({"quant_method":"gptq","bits":4})",
                          "quantised checkpoint (quant_method \"gptq\")"));
  cases.push_back(SetCase("quantization_config", "{}", "quantised checkpoint"));
  cases.push_back(SetCase("quantization_config", R"({"quant_method":"compressed-tensors"})",
                          "without config_groups"));
  for (const auto& [weights, reason] :
       {std::pair{R"("num_bits":4,"strategy":"channel")", "4 bits of type \"int\""},
        {R"("num_bits":8,"type":"float","strategy":"channel")", "8 bits of type \"float\""},
        {R"("num_bits":8,"strategy":"group","group_size":128)", "strategy \"group\""},
        {R"("num_bits":8)", "strategy \"tensor\""},
        {R"("num_bits":8,"strategy":"channel"},"format":"pack-quantized","output_activations":{)",
         "format \"pack-quantized\""},
        {R"("num_bits":8,"strategy":"channel","symmetric":false)", "asymmetric weights"}}) {
    const std::string config = R"({"quant_method":"compressed-tensors","config_groups":{"g":)"
                               R"({"weights":{)" + std::string(weights) + "}}}}";
    cases.push_back(CheckpointCase(
        "compressed-tensors with " + std::string(weights),
        [=](RawCheckpoint& c) { c.Set("quantization_config", config); }, kConfig,
        "quantization_config", reason));
  }
  cases.push_back(SetCase("quantization_config", "4", "expected an object"));
  cases.push_back(SetCase("hidden_act", "\"gelu\"", "\"gelu\" is not supported"));
  cases.push_back(SetCase("sliding_window", "4096", "not supported"));
  cases.push_back(SetCase("rope_scaling", R"({"type":"yarn","factor":4})",
                          "\"yarn\" is not supported", "\"type\""));
  cases.push_back(SetCase("rope_parameters", R"({"rope_type":"linear"})",
                          "\"linear\" is not supported", "\"rope_type\""));

  // Sizes: missing, of the wrong type, 0, negative, fractional, the limit + 1, beyond 64 bits.
  for (const char* key :
       {"num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads",
        "num_key_value_heads", "intermediate_size", "num_local_experts", "num_experts_per_tok",
        "max_position_embeddings"}) {
    cases.push_back(CheckpointCase(std::string("no ") + key,
                                   [=](RawCheckpoint& c) { c.Remove(key); }, kConfig, key,
                                   "missing"));
    cases.push_back(SetCase(key, "0", "is 0, expected 1 to"));
    cases.push_back(SetCase(key, "-1", "is -1, expected an integer"));
    cases.push_back(SetCase(key, "\"8\"", "expected a number"));
    cases.push_back(SetCase(key, "8.0", "is 8.0, expected an integer"));
    cases.push_back(SetCase(key, "18446744073709551615", "is 18446744073709551615, expected"));
    cases.push_back(SetCase(key, "18446744073709551616", "expected an integer"));
  }
  cases.push_back(SetCase("num_hidden_layers", "1025", "expected 1 to 1024"));
  cases.push_back(SetCase("num_hidden_layers", "3", "has 2 entries for 3 layers",
                          "\"attn_type_list\""));
  cases.push_back(SetCase("num_local_experts", "1025", "expected 1 to 1024"));
  cases.push_back(SetCase("num_experts_per_tok", "3", "3 exceed the 2 experts",
                          "experts per token"));
  cases.push_back(SetCase("num_attention_heads", "4097", "expected 1 to 4096"));
  cases.push_back(SetCase("head_dim", "0", "expected 1 to 4096"));
  cases.push_back(SetCase("rotary_dim", "3", "even number", "rotary dimension"));
  cases.push_back(SetCase("rotary_dim", "8", "up to the head dimension 4", "rotary dimension"));
  cases.push_back(SetCase("rotary_dim", "null", "missing"));
  cases.push_back(SetCase("rope_theta", "null", "missing"));
  cases.push_back(SetCase("rope_theta", "0", "at least 1", "rope base"));
  cases.push_back(SetCase("rope_theta", "1e999", "no double represents"));
  cases.push_back(SetCase("rms_norm_eps", "0", "above 0", "norm epsilon"));
  cases.push_back(SetCase("rms_norm_eps", "-1", "above 0", "norm epsilon"));
  cases.push_back(SetCase("layernorm_mlp_alpha", "\"1\"", "expected a number"));
  cases.push_back(SetCase("layernorm_mlp_beta", "1e300", "out of range"));
  cases.push_back(SetCase("postnorm", "1", "expected true or false"));
  cases.push_back(SetCase("tie_word_embeddings", "\"no\"", "expected true or false"));
  cases.push_back(SetCase("shared_intermediate_size", "[8, 8]", "has 2 entries, expected 1"));
  cases.push_back(SetCase("shared_intermediate_size", "[]", "has 0 entries, expected 1"));
  cases.push_back(SetCase("shared_intermediate_size", "8", "missing",
                          "model.layers.0.shared_mlp.gate_proj.weight"));
  cases.back().file = "model.safetensors.index.json";

  // The layer pattern.
  cases.push_back(SetCase("attn_type_list", "[0, 2]", "is 2, expected 0 to 1"));
  cases.push_back(SetCase("attn_type_list", "[0]", "has 1 entries for 2 layers"));
  cases.push_back(SetCase("attn_type_list", "[0, 1, 0]", "has 3 entries for 2 layers"));
  cases.push_back(SetCase("attn_type_list", "\"01\"", "expected an array"));
  cases.push_back(SetCase("attn_type_list", "[false, true]", "expected a number"));
  cases.push_back(SetCase("attn_type_list", "null", "missing"));
  cases.push_back(SetCase("layer_types", "[\"full_attention\", \"linear_attention\"]",
                          "contradicts attn_type_list"));
  cases.push_back(SetCase("layer_types", "[\"linear_attention\", \"sliding_attention\"]",
                          "sliding_attention"));
  return cases;
}

}  // namespace stoker::test
