// Well-formed GGUF files that are not a complete model of this kind, and split sets that do not
// fit together.

#include <cmath>
#include <cstdint>
#include <limits>

#include "tests/mmap/malformed_cases.h"

namespace stoker::test {
namespace {

// A valid model in two parts, changed.
MalformedCase SplitCase(std::string name, std::function<void(RawGguf&, RawGguf&)> change,
                        std::string file, std::string field, std::string reason,
                        bool write_second = true) {
  return {std::move(name),
          [=](const std::filesystem::path& directory) {
            RawGguf first = TinyGguf();
            RawGguf second;
            const auto half = first.tensors.begin() + 10;
            second.tensors.assign(half, first.tensors.end());
            first.tensors.erase(half, first.tensors.end());
            uint16_t number = 0;
            for (RawGguf* part : {&first, &second}) {
              part->Set("split.no", 2, Le(number++));
              part->Set("split.count", 2, Le<uint16_t>(2));
              part->Set("split.tensors.count", 5, Le<int32_t>(23));
            }
            change(first, second);
            WriteFile(directory / "m-00001-of-00002.gguf", first.Build());
            if (write_second) WriteFile(directory / "m-00002-of-00002.gguf", second.Build());
            return directory / "m-00001-of-00002.gguf";
          },
          std::move(file), std::move(field), std::move(reason)};
}

}  // namespace

std::vector<MalformedCase> GgufModelCases() {
  std::vector<MalformedCase> cases;
  const auto set_u32 = [&](std::string key, uint32_t value, std::string field,
                           std::string reason) {
    cases.push_back(GgufCase(
        key + " = " + std::to_string(value),
        [=](RawGguf& f) { f.SetU32("minimax-01." + key, value); }, std::move(field),
        std::move(reason)));
  };
  const auto set_f32 = [&](std::string key, float value, std::string field, std::string reason) {
    cases.push_back(GgufCase(
        key + " = " + std::to_string(value),
        [=](RawGguf& f) { f.SetF32("minimax-01." + key, value); }, std::move(field),
        std::move(reason)));
  };

  // Architecture.
  cases.push_back(GgufCase("architecture llama",
                           [](RawGguf& f) { f.SetString("general.architecture", "llama"); },
                           "general.architecture", "\"llama\" is not supported"));
  cases.push_back(GgufCase("architecture of the early branch",
                           [](RawGguf& f) { f.SetString("general.architecture", "minimax"); },
                           "general.architecture", "\"minimax\" is not supported"));
  cases.push_back(GgufCase("architecture missing",
                           [](RawGguf& f) { f.Remove("general.architecture"); },
                           "general.architecture", "missing"));
  cases.push_back(GgufCase("architecture is a number",
                           [](RawGguf& f) { f.SetU32("general.architecture", 1); },
                           "general.architecture", "is u32, expected string"));
  cases.push_back(GgufCase(
      "architecture with terminal escapes",
      [](RawGguf& f) { f.SetString("general.architecture", "\x1b]0;owned\x07\n\n"); },
      "general.architecture", "\\x1b]0;owned\\x07\\x0a"));
  cases.push_back(GgufCase("name is a number", [](RawGguf& f) { f.SetU32("general.name", 1); },
                           "general.name", "is u32, expected string"));

  // Hyperparameters: absent, of the wrong type, 0, the limit + 1, 2^32-1.
  for (const char* key :
       {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "rope.dimension_count", "expert_count", "expert_used_count", "context_length"}) {
    const std::string full = std::string("minimax-01.") + key;
    cases.push_back(GgufCase(full + " missing", [=](RawGguf& f) { f.Remove(full); }, full,
                             "missing"));
    cases.push_back(GgufCase(full + " is a string",
                             [=](RawGguf& f) { f.SetString(full, "8"); }, full,
                             "is string, expected an integer"));
    set_u32(key, 0, full, "is 0, expected");
    cases.push_back(GgufCase(full + " is negative",
                             [=](RawGguf& f) { f.Set(full, 5, Le<int32_t>(-1)); }, full,
                             "is -1, expected"));
    cases.push_back(GgufCase(full + " = 2^64-1",
                             [=](RawGguf& f) { f.Set(full, 10, Le(UINT64_MAX)); }, full,
                             "exceeds 2^63-1"));
  }
  for (const char* key :
       {"attention.layer_norm_rms_epsilon", "rope.freq_base", "residual_scale"}) {
    const std::string full = std::string("minimax-01.") + key;
    cases.push_back(GgufCase(full + " missing", [=](RawGguf& f) { f.Remove(full); }, full,
                             "missing"));
    cases.push_back(GgufCase(full + " is an integer", [=](RawGguf& f) { f.SetU32(full, 1); }, full,
                             "is u32, expected f32"));
  }
  // llama.cpp PR 25821: one layer more than a fixed-size array holds.
  set_u32("block_count", 1025, "minimax-01.block_count", "is 1025, expected 1 to 1024");
  set_u32("block_count", UINT32_MAX, "minimax-01.block_count", "4294967295");
  set_u32("block_count", 3, "blk.2.attn_norm.weight", "missing");
  set_u32("block_count", 1, "blk.1.attn_norm.weight", "layer 1 of a model with 1 layers");
  set_u32("expert_count", 1025, "minimax-01.expert_count", "is 1025");
  set_u32("expert_count", 3, "ffn_gate_inp.weight\" shape", "demands [3, 8]");
  set_u32("expert_used_count", 3, "experts per token", "3 exceed the 2 experts");
  set_u32("embedding_length", 16, "shape", "demands");
  set_u32("attention.head_count", 3, "shape", "demands");
  set_u32("attention.head_count_kv", 2, "blk.1.attn_k.weight\" shape", "demands [8, 8]");
  set_u32("rope.dimension_count", 3, "rotary dimension", "even");
  set_u32("rope.dimension_count", 6, "rotary dimension", "up to the head dimension 4");
  set_u32("attention.value_length", 8, "attention.value_length", "differs");
  set_u32("full_attention_interval", 0, "full_attention_interval", "is 0");
  set_u32("full_attention_interval", 1, "blk.0.attn_qkv.weight",
          "lightning attention tensor in a softmax layer");
  set_u32("full_attention_interval", 8, "blk.1.attn_q.weight",
          "softmax attention tensor in a lightning layer");
  set_u32("vocab_size", 5, "token_embd.weight\" shape", "demands [5, 8]");
  set_u32("expert_shared_feed_forward_length", 8, "ffn_gate_shexp.weight", "missing");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  set_f32("attention.layer_norm_rms_epsilon", nan, "norm epsilon", "is nan");
  set_f32("attention.layer_norm_rms_epsilon", 0.0f, "norm epsilon", "above 0");
  set_f32("attention.layer_norm_rms_epsilon", -1e-5f, "norm epsilon", "above 0");
  set_f32("rope.freq_base", nan, "rope base", "is nan");
  set_f32("rope.freq_base", -1.0f, "rope base", "finite number");
  set_f32("rope.freq_base", std::numeric_limits<float>::infinity(), "rope base", "is inf");
  set_f32("residual_scale", nan, "residual factor", "finite");
  cases.push_back(GgufCase(
      "rope scaling", [](RawGguf& f) { f.SetString("minimax-01.rope.scaling.type", "yarn"); },
      "rope.scaling.type", "\"yarn\" is not supported"));
  // GHSA-g4cc and relatives: arrays of the wrong type or count.
  const std::string recurrent = "minimax-01.attention.recurrent_layers";
  cases.push_back(GgufCase("recurrent_layers is a scalar",
                           [=](RawGguf& f) { f.SetU32(recurrent, 1); }, recurrent,
                           "expected an array"));
  cases.push_back(GgufCase("recurrent_layers of floats",
                           [=](RawGguf& f) { f.SetArray(recurrent, 6, 2, "abcdefgh"); },
                           recurrent, "is array of f32, expected an array of integers"));
  cases.push_back(GgufCase("recurrent_layers too short",
                           [=](RawGguf& f) { f.SetArray(recurrent, 7, 1, "\x01"); }, recurrent,
                           "has 1 elements, expected 2"));
  cases.push_back(GgufCase("tokens of integers",
                           [](RawGguf& f) {
                             f.SetArray("tokenizer.ggml.tokens", 0, 4, "abcd");
                           },
                           "tokenizer.ggml.tokens", "array of strings"));
  cases.push_back(GgufCase("no tokens",
                           [](RawGguf& f) { f.SetArray("tokenizer.ggml.tokens", 8, 0, ""); },
                           "tokenizer.ggml.tokens", "has 0 elements"));
  cases.push_back(GgufCase("one token more than the embedding has rows",
                           [](RawGguf& f) {
                             std::string data;
                             for (int i = 0; i < 5; ++i) data += LeString("t");
                             f.SetArray("tokenizer.ggml.tokens", 8, 5, data);
                           },
                           "token_embd.weight\" shape", "demands [5, 8]"));

  // Tensors.
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
        "blk.0.attn_qkv.weight", "blk.0.attn_gate.weight", "blk.0.attn_norm_2.weight",
        "blk.0.attn_output.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
        "blk.1.attn_v.weight", "blk.1.attn_output.weight", "blk.1.ffn_norm.weight",
        "blk.1.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight",
        "blk.1.ffn_down_exps.weight"}) {
    cases.push_back(GgufCase(std::string("no ") + name,
                             [=](RawGguf& f) { f.RemoveTensor(name); },
                             std::string("tensor \"") + name + "\"", "missing"));
  }
  cases.push_back(GgufCase("unknown tensor",
                           [](RawGguf& f) { f.AddF32("rope_freqs.weight", {2}); },
                           "rope_freqs.weight", "unknown name"));
  cases.push_back(GgufCase("bias", [](RawGguf& f) { f.AddF32("blk.0.attn_qkv.bias", {24}); },
                           "blk.0.attn_qkv.bias", "unknown name"));
  cases.push_back(GgufCase("layer number with a leading zero",
                           [](RawGguf& f) { f.AddF32("blk.01.attn_norm.weight", {8}); },
                           "blk.01.attn_norm.weight", "unknown name"));
  cases.push_back(GgufCase("layer number of twenty digits",
                           [](RawGguf& f) {
                             f.AddF32("blk.18446744073709551616.attn_norm.weight", {8});
                           },
                           "blk.18446744073709551616", "unknown name"));
  cases.push_back(GgufCase("shared expert without its size",
                           [](RawGguf& f) { f.AddF32("blk.0.ffn_gate_shexp.weight", {8, 8}); },
                           "blk.0.ffn_gate_shexp.weight", "without a shared expert"));
  cases.push_back(GgufCase("transposed matrix",
                           [](RawGguf& f) { f.Tensor("blk.0.attn_qkv.weight").ne = {24, 8}; },
                           "blk.0.attn_qkv.weight\" shape", "is [8, 24], the config demands [24"));
  cases.push_back(GgufCase("integer weights",
                           [](RawGguf& f) {
                             f.Tensor("blk.0.attn_qkv.weight").type = 26;  // I32
                           },
                           "blk.0.attn_qkv.weight\" type", "I32 cannot hold a weight"));

  // Split sets.
  const std::string first = "m-00001-of-00002.gguf", second = "m-00002-of-00002.gguf";
  cases.push_back(SplitCase("second part missing", [](RawGguf&, RawGguf&) {}, second,
                            "split part", "part 2 of 2 is missing", false));
  cases.push_back(SplitCase("parts swapped",
                            [](RawGguf& a, RawGguf& b) {
                              a.Set("split.no", 2, Le<uint16_t>(1));
                              b.Set("split.no", 2, Le<uint16_t>(0));
                            },
                            first, "split.no", "differs from 0"));
  cases.push_back(SplitCase("count differs from the name",
                            [](RawGguf& a, RawGguf&) {
                              a.Set("split.count", 2, Le<uint16_t>(3));
                            },
                            first, "split.count", "is 3, the file name says 2"));
  cases.push_back(SplitCase("count of the second part differs",
                            [](RawGguf&, RawGguf& b) {
                              b.Set("split.count", 2, Le<uint16_t>(5));
                            },
                            second, "split.count", "differs"));
  cases.push_back(SplitCase("second part without split keys",
                            [](RawGguf&, RawGguf& b) { b.entries.clear(); }, second,
                            "split.count", "missing"));
  cases.push_back(SplitCase("tensor count differs",
                            [](RawGguf& a, RawGguf&) {
                              a.Set("split.tensors.count", 5, Le<int32_t>(24));
                            },
                            first, "split.tensors.count", "is 24, the parts hold 23"));
  cases.push_back(SplitCase("same tensor in both parts",
                            [](RawGguf& a, RawGguf& b) {
                              for (RawGguf* part : {&a, &b}) part->Remove("split.tensors.count");
                              b.tensors.push_back(a.tensors[0]);
                            },
                            second, "token_embd.weight", "duplicate"));
  cases.push_back(SplitCase("split.count as a string",
                            [](RawGguf& a, RawGguf&) { a.SetString("split.count", "2"); }, first,
                            "split.count", "is string, expected an integer"));
  cases.push_back(SplitCase("split.count -1",
                            [](RawGguf& a, RawGguf&) {
                              a.Set("split.count", 3, Le<int16_t>(-1));
                            },
                            first, "split.count", "is -1"));
  cases.push_back(GgufCase("part under another name",
                           [](RawGguf& f) { f.Set("split.count", 2, Le<uint16_t>(2)); },
                           "file name", "must be named NAME-00001-of-00002.gguf"));
  return cases;
}

}  // namespace stoker::test
