// The pieces below WeightStore: element types, JSON, GGUF metadata, safetensors headers, names.

#include <nlohmann/json.hpp>

#include <chrono>
#include <random>
#include <set>
#include <string>

#include "mmap/dtype.h"
#include "mmap/format_error.h"
#include "mmap/gguf_reader.h"
#include "mmap/json_reader.h"
#include "mmap/safetensors_reader.h"
#include "mmap/tensor_names.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/gguf_builder.h"

namespace stoker::test {
namespace {

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

bool OursAccepts(const std::string& text) {
  try {
    JsonReader reader(text, "f", "w");
    reader.Skip();
    reader.End();
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

}  // namespace

TEST_CASE("element types have ggml's numbers and block sizes") {
  struct Row {
    const char* name;
    uint32_t id, elements, bytes;
  };
  // As printed by gguf-py (GGML_QUANT_SIZES).
  const Row rows[] = {{"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"Q4_0", 2, 32, 18},
                      {"Q4_1", 3, 32, 20},      {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},
                      {"Q8_0", 8, 32, 34},      {"Q8_1", 9, 32, 36},      {"Q2_K", 10, 256, 84},
                      {"Q3_K", 11, 256, 110},   {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},
                      {"Q6_K", 14, 256, 210},   {"Q8_K", 15, 256, 292},   {"IQ2_XXS", 16, 256, 66},
                      {"IQ2_XS", 17, 256, 74},  {"IQ3_XXS", 18, 256, 98}, {"IQ1_S", 19, 256, 50},
                      {"IQ4_NL", 20, 32, 18},   {"IQ3_S", 21, 256, 110},  {"IQ2_S", 22, 256, 82},
                      {"IQ4_XS", 23, 256, 136}, {"I8", 24, 1, 1},         {"I16", 25, 1, 2},
                      {"I32", 26, 1, 4},        {"I64", 27, 1, 8},        {"F64", 28, 1, 8},
                      {"IQ1_M", 29, 256, 56},   {"BF16", 30, 1, 2},       {"TQ1_0", 34, 256, 54},
                      {"TQ2_0", 35, 256, 66},   {"MXFP4", 39, 32, 17},    {"NVFP4", 40, 64, 36},
                      {"Q1_0", 41, 128, 18},    {"Q2_0", 42, 64, 18}};
  std::set<uint32_t> known;
  for (const Row& row : rows) {
    CAPTURE(row.name);
    known.insert(row.id);
    const std::optional<DType> type = DTypeFromGgufId(row.id);
    REQUIRE(type.has_value());
    CHECK(Info(*type).name == row.name);
    CHECK(Info(*type).block_elements == row.elements);
    CHECK(Info(*type).block_bytes == row.bytes);
    CHECK(DTypeFromName(row.name) == type);
    CHECK(TypedBytes(*type, uint64_t{row.elements} * 3) == uint64_t{row.bytes} * 3);
    if (row.elements > 1) CHECK(TypedBytes(*type, row.elements - 1) == std::nullopt);
  }
  for (uint32_t id = 0; id < 100; ++id) {
    CHECK(DTypeFromGgufId(id).has_value() == known.contains(id));
  }
  CHECK(DTypeFromName("q4_k") == DType::kQ4_K);
  CHECK(DTypeFromSafetensors("BF16") == DType::kBF16);
  CHECK(DTypeFromSafetensors("Q4_K") == std::nullopt);
  CHECK(DTypeFromSafetensors("") == std::nullopt);
  // Every type of safetensors but F4 and F6, which have no whole number of bytes.
  for (const auto& [name, bytes] : std::vector<std::pair<std::string, uint64_t>>{
           {"BOOL", 1},    {"U8", 1},      {"I8", 1},          {"F8_E5M2", 1},     {"F8_E4M3", 1},
           {"F8_E8M0", 1}, {"I16", 2},     {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}, {"U16", 2},
           {"F16", 2},     {"BF16", 2},    {"I32", 4},         {"U32", 4},         {"F32", 4},
           {"C64", 8},     {"F64", 8},     {"I64", 8},         {"U64", 8}}) {
    CAPTURE(name);
    const std::optional<DType> type = DTypeFromSafetensors(name);
    REQUIRE(type.has_value());
    CHECK(Info(*type).name == name);
    CHECK(TypedBytes(*type, 3) == 3 * bytes);
  }
  CHECK(TypedBytes(DType::kF64, uint64_t{1} << 61) == std::nullopt);
  CHECK(TypedBytes(DType::kQ8_1, UINT64_MAX / 32 * 32) == std::nullopt);
}

TEST_CASE("errors are one printable line, and paths keep their script") {
  const FormatError error("/models/\xe6\xa8\xa1\xe5\x9e\x8b/caf\xc3\xa9\n\x1b.gguf", "magic",
                          "bad");
  CHECK(std::string(error.what()) ==
        "/models/\xe6\xa8\xa1\xe5\x9e\x8b/caf\xc3\xa9\\x0a\\x1b.gguf: magic: bad");
  // C1 controls, overlong forms, stray bytes.
  CHECK(PrintablePath("\xc2\x9b\xe0\x80\x8a\xff") == "\\xc2\\x9b\\xe0\\x80\\x8a\\xff");
  CHECK(PrintablePath("\xe6\xa8") == "\\xe6\\xa8");
  // Surrogates and what lies beyond U+10FFFF; their neighbours are characters.
  CHECK(PrintablePath("\xed\xa0\x80\xf4\x90\x80\x80") ==
        "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80");
  CHECK(PrintablePath("\xed\x9f\xbf\xf4\x8f\xbf\xbf") == "\xed\x9f\xbf\xf4\x8f\xbf\xbf");
  CHECK(Printable("caf\xc3\xa9 \"x\"") == "caf\\xc3\\xa9 \\x22x\\x22");
  CHECK(Printable(std::string(1000, 'a')).size() == 83);
}

TEST_CASE("JSON is accepted exactly where nlohmann accepts it") {
  const std::string seeds[] = {
      R"({"a":[1,-2.5e+3,true,null,"x\u00e9\ud83d\ude00\n"],"b":{"c":{}}})",
      R"([0,-0,0.1e-2,[],{}])",
      R"("text")",
      "12",
      "nul",
      "[1,]",
      "{\"a\" 1}",
      "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
      ""};
  const uint64_t seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const std::string alphabet = "{}[]\",:0123456789.eE+-truefalsnl\\u\xc3\xa9 \x01";
  for (int i = 0; i < 20000; ++i) {
    std::string text = seeds[random() % std::size(seeds)];
    for (uint64_t edits = random() % 4; edits > 0 && !text.empty(); --edits) {
      const size_t at = random() % text.size();
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 3) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.insert(at, 1, c);
          break;
        default:
          text.erase(at, 1);
      }
    }
    CAPTURE(Printable(text, 400));
    bool theirs = true;
    try {
      [[maybe_unused]] const auto parsed = nlohmann::json::parse(text);
    } catch (const nlohmann::json::out_of_range&) {
      continue;  // a number of the grammar that no double holds: nlohmann alone refuses it
    } catch (const nlohmann::json::exception&) {
      theirs = false;
    }
    if (OursAccepts(text) != theirs) FAIL("the two disagree");
  }
}

TEST_CASE("JSON values are read as they are meant") {
  const std::string text =
      R"( {"s":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00","n":-1.5e2,)"
      R"("u":18446744073709551615,"b":false,"z":null,"l":[1,[2],{}],"skip":{"a":[{}]}} )";
  JsonReader reader(text, "f", "w");
  std::string key;
  reader.BeginObject();
  REQUIRE(reader.NextKey(key));
  CHECK(reader.String() == "\"\\/\b\f\n\r\tA\xc3\xa9\xf0\x9f\x98\x80");
  REQUIRE(reader.NextKey(key));
  CHECK(reader.Number() == -150.0);
  REQUIRE(reader.NextKey(key));
  CHECK(reader.Unsigned() == UINT64_MAX);
  REQUIRE(reader.NextKey(key));
  CHECK_FALSE(reader.Bool());
  REQUIRE(reader.NextKey(key));
  reader.Null();
  REQUIRE(reader.NextKey(key));
  CHECK(reader.Skip() == "[1,[2],{}]");
  REQUIRE(reader.NextKey(key));
  CHECK(key == "skip");
  CHECK(reader.Skip() == R"({"a":[{}]})");
  CHECK_FALSE(reader.NextKey(key));
  reader.End();
  CHECK(OursAccepts(std::string(64, '[') + std::string(64, ']')));
  CHECK_FALSE(OursAccepts(std::string(65, '[') + std::string(65, ']')));
}

TEST_CASE("GGUF metadata of every type is read with its type checked") {
  RawGguf file;
  file.Set("u8", 0, Le<uint8_t>(200));
  file.Set("i8", 1, Le<int8_t>(-100));
  file.Set("u16", 2, Le<uint16_t>(60000));
  file.Set("i16", 3, Le<int16_t>(-30000));
  file.Set("u32", 4, Le<uint32_t>(4000000000));
  file.Set("i32", 5, Le<int32_t>(-2000000000));
  file.Set("f32", 6, Le(1.5f));
  file.Set("bool", 7, Le<uint8_t>(1));
  file.SetString("string", "caf\xc3\xa9");
  file.Set("u64", 10, Le(UINT64_MAX));
  file.Set("i64", 11, Le(INT64_MIN));
  file.Set("f64", 12, Le(2.5));
  file.SetArray("strings", 8, 3, LeString("a") + LeString("") + LeString("ccc"));
  file.SetArray("ints", 3, 2, Le<int16_t>(-1) + Le<int16_t>(2));
  file.SetArray("floats", 6, 2, Le(0.5f) + Le(-4.0f));
  file.SetArray("bools", 7, 2, std::string("\x01\x00", 2));
  file.SetArray("empty", 8, 0, "");
  file.SetArray("nested", 9, 1, Le<uint32_t>(0) + Le<uint64_t>(3) + "xyz");
  const std::string bytes = file.Build();
  const GgufFile parsed = ParseGguf(Bytes(bytes), "f.gguf");
  const GgufMetadata& metadata = parsed.metadata;
  CHECK(metadata.entries().size() == file.entries.size());
  CHECK(metadata.Int("u8") == 200);
  CHECK(metadata.Int("i8") == -100);
  CHECK(metadata.Int("u16") == 60000);
  CHECK(metadata.Int("i16") == -30000);
  CHECK(metadata.Int("u32") == 4000000000);
  CHECK(metadata.Int("i32") == -2000000000);
  CHECK(metadata.Int("i64") == INT64_MIN);
  CHECK(metadata.Float("f32") == 1.5);
  CHECK(metadata.Float("f64") == 2.5);
  CHECK(metadata.FindBool("bool") == true);
  CHECK(metadata.String("string") == "caf\xc3\xa9");
  CHECK(metadata.Strings("strings") == std::vector<std::string_view>{"a", "", "ccc"});
  CHECK(metadata.FindInts("ints") == std::vector<int64_t>{-1, 2});
  CHECK(metadata.FindInts("bools") == std::vector<int64_t>{1, 0});
  CHECK(metadata.FindFloats("floats", 2) == std::vector<float>{0.5f, -4.0f});
  CHECK(metadata.Strings("empty").empty());
  CHECK(metadata.Find("nested")->element == GgufType::kArray);
  CHECK(metadata.FindInt("absent") == std::nullopt);
  CHECK(metadata.FindStrings("absent") == std::nullopt);
  CHECK_FALSE(metadata.Has("absent"));

  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const FormatError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message([&] { metadata.Int("u64"); }) == "f.gguf: metadata key \"u64\": exceeds 2^63-1");
  CHECK(message([&] { metadata.Int("f32"); }).ends_with("is f32, expected an integer"));
  CHECK(message([&] { metadata.Int("u8", 0, 199); }).ends_with("is 200, expected 0 to 199"));
  CHECK(message([&] { metadata.Int("absent"); }).ends_with("\"absent\": missing"));
  CHECK(message([&] { metadata.Float("u8"); }).ends_with("is u8, expected f32 or f64"));
  CHECK(message([&] { metadata.FindBool("u8"); }).ends_with("is u8, expected bool"));
  CHECK(message([&] {
          metadata.String("strings");
        }).ends_with("is array of string, expected string"));
  CHECK(message([&] { metadata.Strings("ints"); }).ends_with("expected an array of strings"));
  CHECK(message([&] { metadata.Strings("string"); }).ends_with("is string, expected an array"));
  CHECK(message([&] { metadata.FindInts("floats"); }).ends_with("expected an array of integers"));
  CHECK(message([&] { metadata.FindFloats("ints"); }).ends_with("expected an array of f32 or f64"));
  CHECK(message([&] { metadata.FindInts("ints", 3); }).ends_with("has 2 elements, expected 3"));
}

TEST_CASE("a vocabulary of M1's size is read in milliseconds, without copies") {
  constexpr int kTokens = 200064;
  std::string data;
  for (int i = 0; i < kTokens; ++i) data += LeString("token" + std::to_string(i));
  RawGguf file;
  file.SetArray("tokenizer.ggml.tokens", 8, kTokens, data);
  file.SetArray("tokenizer.ggml.merges", 8, kTokens, data);
  const std::string bytes = file.Build();
  const auto begin = std::chrono::steady_clock::now();
  const GgufFile parsed = ParseGguf(Bytes(bytes), "f");
  const std::vector<std::string_view> tokens = parsed.metadata.Strings("tokenizer.ggml.tokens");
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  REQUIRE(tokens.size() == kTokens);
  CHECK(tokens[kTokens - 1] == "token200063");
  CHECK(tokens[0].data() > bytes.data());
  CHECK(tokens[0].data() < bytes.data() + bytes.size());
  // Generous: sanitizers and a busy machine included.
  CHECK(elapsed < std::chrono::seconds(1));
}

TEST_CASE("GGUF tensors keep ggml's order of dimensions and lie where the table says") {
  RawGguf file = TinyGguf();
  file.SetU32("general.alignment", 64);
  file.alignment = 64;
  const std::string bytes = file.Build();
  const GgufFile parsed = ParseGguf(Bytes(bytes), "f");
  CHECK(parsed.alignment == 64);
  REQUIRE(parsed.tensors.size() == file.tensors.size());
  for (size_t i = 0; i < parsed.tensors.size(); ++i) {
    const GgufTensorInfo& info = parsed.tensors[i];
    CHECK(info.name == file.tensors[i].name);
    CHECK(info.offset % 64 == 0);
    CHECK(info.bytes == file.tensors[i].bytes);
    CHECK(bytes[info.offset] == static_cast<char>(i + 1));
    CHECK(bytes[info.offset + info.bytes - 1] == static_cast<char>(i + 1));
  }
  CHECK(parsed.tensors[2].ne == std::array<int64_t, 4>{8, 24, 1, 1});
}

TEST_CASE("safetensors headers may hold scalars, empty tensors and any order of offsets") {
  const std::string header = R"({"b":{"dtype":"F32","shape":[],"data_offsets":[2,6]},)"
                             R"("e":{"data_offsets":[2,2],"shape":[0,5],"dtype":"I64"},)"
                             R"("a":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}  )";
  const std::string bytes = Le<uint64_t>(header.size()) + header + "abcdef";
  const auto infos = ParseSafetensors(Bytes(bytes), "f");
  REQUIRE(infos.size() == 3);
  CHECK(infos[0].name == "b");
  CHECK(infos[0].shape.empty());
  CHECK(infos[0].offset == 8 + header.size() + 2);
  CHECK(infos[1].bytes == 0);
  CHECK(infos[2].type == DType::kBF16);
}

TEST_CASE("tensor names map both ways between the formats") {
  ModelConfig config;
  config.n_layers = 80;
  config.n_experts = 32;
  config.hidden_size = 6144;
  config.vocab_size = 200064;
  config.n_heads = 64;
  config.n_kv_heads = 8;
  config.head_dim = 128;
  config.expert_hidden_size = 9216;
  for (int i = 0; i < 80; ++i) {
    config.attention.push_back(i % 8 == 7 ? AttentionKind::kSoftmax : AttentionKind::kLightning);
  }
  // The released checkpoint has 8243 tensors; stacked, 2560 experts x 3 become 80 x 3.
  int single = 0;
  int stacked = 0;
  int64_t parameters = 0;
  std::set<std::string> names;
  ForEachExpectedTensor(config, false, [&](const TensorKey& key) {
    const std::optional<TensorKey> parsed = ParseSafetensorsName(SafetensorsName(key));
    REQUIRE(parsed.has_value());
    CHECK(parsed->rule == key.rule);
    CHECK(parsed->layer == key.layer);
    CHECK(parsed->expert == key.expert);
    names.insert(CanonicalName(key));
    int64_t elements = 1;
    for (const int64_t n : ExpectedShape(key, config)) elements *= n;
    parameters += elements;
    ++single;
    return true;
  });
  CHECK(single == 8243);
  CHECK(names.size() == 8243);
  CHECK(parameters == 456'089'655'296);
  ForEachExpectedTensor(config, true, [&](const TensorKey& key) {
    const std::optional<TensorKey> parsed = ParseGgufName(CanonicalName(key), config);
    REQUIRE(parsed.has_value());
    CHECK(parsed->rule == key.rule);
    ++stacked;
    return true;
  });
  CHECK(stacked == 8243 - 2560 * 3 + 80 * 3);
  const TensorKey gate =
      *ParseSafetensorsName("model.layers.7.block_sparse_moe.experts.31.w1.weight");
  CHECK(CanonicalName(gate) == "blk.7.ffn_gate.31.weight");
  CHECK(ExpectedShape(gate, config) == std::vector<int64_t>{9216, 6144});
  CHECK(CanonicalName(*ParseSafetensorsName("model.layers.7.self_attn.o_proj.weight")) ==
        "blk.7.attn_output.weight");

  // Numbers of layers and experts have one spelling.
  CHECK(ParseGgufName("blk.0.attn_norm.weight", config).has_value());
  CHECK(ParseSafetensorsName("model.layers.0.input_layernorm.weight").has_value());
  for (const std::string number : {"-0", "-1", "+0", "00", "01", "", " 0", "0x0", "1234567890"}) {
    CAPTURE(number);
    CHECK_FALSE(ParseGgufName("blk." + number + ".attn_norm.weight", config).has_value());
    CHECK_FALSE(
        ParseSafetensorsName("model.layers." + number + ".input_layernorm.weight").has_value());
  }
}

}  // namespace stoker::test
