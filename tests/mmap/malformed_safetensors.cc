// Shards whose header breaks a rule of the reference implementation, and the differentials
// between readers that became advisories.

#include <cstdint>

#include "mmap/format_error.h"
#include "tests/mmap/malformed_cases.h"

namespace stoker::test {
namespace {

const std::string kShard = "model-00000-of-00002.safetensors";

// A change to the first shard.
MalformedCase ShardCase(std::string name, std::function<void(RawShard&)> change,
                        std::string field, std::string reason) {
  return CheckpointCase(
      std::move(name), [=](RawCheckpoint& c) { change(c.shards[0].second); }, kShard,
      std::move(field), std::move(reason));
}

// A single model.safetensors of exactly these bytes beside a valid config.
MalformedCase FileCase(std::string name, std::string bytes, std::string field,
                       std::string reason) {
  return {std::move(name),
          [=](const std::filesystem::path& directory) {
            RawCheckpoint checkpoint = TinyCheckpoint();
            checkpoint.shards.clear();
            checkpoint.write_index = false;
            checkpoint.Write(directory);
            WriteFile(directory / "model.safetensors", bytes);
            return directory;
          },
          "model.safetensors", std::move(field), std::move(reason)};
}

MalformedCase HeaderCase(std::string name, std::string header, std::string field,
                         std::string reason, std::string data = "") {
  return FileCase(std::move(name), Le<uint64_t>(header.size()) + header + data, std::move(field),
                  std::move(reason));
}

// A change to the checkpoint with an INT8 matrix.
MalformedCase Int8Case(std::string name, std::function<void(RawCheckpoint&)> change,
                       std::string file, std::string field, std::string reason,
                       uint64_t size = 32) {
  return CheckpointCase(
      std::move(name),
      [=](RawCheckpoint& c) {
        c = Int8Checkpoint(size);
        change(c);
      },
      std::move(file), std::move(field), std::move(reason));
}

void AddInt8Cases(std::vector<MalformedCase>& cases) {
  const auto shard = [](RawCheckpoint& c) -> RawShard& { return c.shards[0].second; };
  const std::string weight = Printable(kInt8Weight);
  const std::string scales = Printable(kInt8Scales);
  cases.push_back(Int8Case("INT8 without scales",
                           [=](RawCheckpoint& c) { shard(c).tensors.pop_back(); },
                           "model.safetensors.index.json", weight,
                           "_scale\" is missing from the model's files"));
  cases.push_back(Int8Case("scales across the columns",
                           [=](RawCheckpoint& c) {
                             shard(c).Tensor(kInt8Scales).shape = {1, 32};
                           },
                           kShard, scales, "one scale per row is [32, 1]"));
  cases.push_back(Int8Case("scales of integers",
                           [=](RawCheckpoint& c) { shard(c).Tensor(kInt8Scales).dtype = "I16"; },
                           kShard, scales, "I16 cannot hold scales"));
  cases.push_back(Int8Case("a scale that is no number",
                           [=](RawCheckpoint& c) { shard(c).Tensor(kInt8Scales).fill = '\xff'; },
                           kShard, scales, "scale of row 0 is not a number"));
  cases.push_back(Int8Case("scales of F32 weights",
                           [=](RawCheckpoint& c) {
                             RawShardTensor& tensor = shard(c).Tensor(kInt8Weight);
                             tensor.dtype = "F32";
                             tensor.bytes *= 4;
                           },
                           kShard, scales, "scales of weights of type F32"));
  cases.push_back(Int8Case("scales of nothing",
                           [=](RawCheckpoint& c) {
                             shard(c).Tensor(kInt8Scales).name = "model.layers.9.w1.weight_scale";
                           },
                           kShard, "model.layers.9.w1.weight_scale",
                           "scales of a tensor that this model has not"));
  cases.push_back(Int8Case("scales in two files",
                           [=](RawCheckpoint& c) {
                             c.shards[1].second.tensors.push_back(shard(c).Tensor(kInt8Scales));
                             c.write_index = true;
                           },
                           "model.safetensors.index.json", scales, "duplicate"));
  cases.push_back(Int8Case("INT8 rows of eight columns", [](RawCheckpoint&) {}, kShard, weight,
                           "must be multiples of 32 columns", 8));
  cases.push_back(Int8Case("an INT8 embedding",
                           [=](RawCheckpoint& c) {
                             RawShardTensor& tensor = shard(c).Tensor("model.embed_tokens.weight");
                             tensor.dtype = "I8";
                             tensor.bytes /= 4;
                           },
                           kShard, "model.embed_tokens.weight", "I8 cannot hold a weight"));
  cases.push_back(Int8Case("zero points",
                           [=](RawCheckpoint& c) {
                             shard(c).Tensor(kInt8Scales).name =
                                 std::string(kInt8Weight) + "_zero_point";
                           },
                           kShard, "_zero_point", "asymmetric weights are not supported"));
}

}  // namespace

std::vector<MalformedCase> SafetensorsCases() {
  std::vector<MalformedCase> cases;
  const std::string x = "tensor \"x\"";
  AddInt8Cases(cases);

  // Length of the header.
  cases.push_back(FileCase("empty shard", "", "file", "is empty"));
  cases.push_back(FileCase("seven bytes", "1234567", "header length", "truncated"));
  cases.push_back(FileCase("header length 0", Le<uint64_t>(0), "header", "does not start"));
  cases.push_back(FileCase("header length 1 past the end", Le<uint64_t>(3) + "{}",
                           "header length", "passes the end"));
  for (const uint64_t length :
       {uint64_t{100'000'001}, uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX - 7, UINT64_MAX}) {
    // fastllm 712: length + 8 wraps.
    cases.push_back(FileCase("header length " + std::to_string(length), Le(length) + "{}",
                             "header length", "exceeds 100000000"));
  }

  // JSON.
  cases.push_back(HeaderCase("header is an array", "[]", "header", "does not start"));
  cases.push_back(HeaderCase("header starts with a space", " {}", "header", "does not start"));
  cases.push_back(HeaderCase("header ends early", "{\"x\":", "header", "ends unexpectedly"));
  cases.push_back(HeaderCase("header ends inside a string", "{\"x", "header", "inside a string"));
  cases.push_back(HeaderCase("text after the header", "{}x", "header", "text after the end"));
  cases.push_back(HeaderCase("two headers", "{}{}", "header", "text after the end"));
  cases.push_back(HeaderCase("trailing comma", "{\"__metadata__\":{},}", "header",
                             "expected a key"));
  cases.push_back(HeaderCase("comment", "{/**/}", "header", "expected a key"));
  cases.push_back(HeaderCase("not UTF-8", "{\"\xff\":1}", "header", "UTF-8"));
  cases.push_back(HeaderCase("overlong UTF-8", "{\"\xc0\xaf\":1}", "header", "UTF-8"));
  cases.push_back(HeaderCase("UTF-8 surrogate", "{\"\xed\xa0\x80\":1}", "header", "UTF-8"));
  cases.push_back(HeaderCase("lone surrogate escape", "{\"\\ud800\":1}", "header",
                             "lone surrogate"));
  cases.push_back(HeaderCase("control character in a name", "{\"a\nb\":1}", "header",
                             "control character"));
  cases.push_back(HeaderCase("unknown escape", "{\"a\\q\":1}", "header", "unknown escape"));
  cases.push_back(HeaderCase("metadata value is a number", "{\"__metadata__\":{\"a\":1}}",
                             "header", "expected a string"));
  cases.push_back(HeaderCase("metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}",
                             "__metadata__", "duplicate key"));
  cases.push_back(HeaderCase("deeply nested",
                             "{\"x\":{\"shape\":" + std::string(100000, '[') + "}}", "header",
                             "expected a number"));
  cases.push_back(HeaderCase("tensor is a number", "{\"x\":1}", "header", "expected an object"));

  // One tensor's entry.
  const auto entry = [&](std::string name, std::string json, std::string field,
                         std::string reason, std::string data = "abcd") {
    cases.push_back(HeaderCase(std::move(name), "{\"x\":" + json + "}", std::move(field),
                               std::move(reason), std::move(data)));
  };
  entry("no dtype", R"({"shape":[1],"data_offsets":[0,4]})", x, "lacks");
  entry("no shape", R"({"dtype":"F32","data_offsets":[0,4]})", x, "lacks");
  entry("no offsets", R"({"dtype":"F32","shape":[1]})", x, "lacks");
  entry("unknown key", R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"file":"y"})", x,
        "unknown key \"file\"");
  entry("dtype twice", R"({"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]})",
        x + " dtype", "duplicate key");
  entry("shape twice", R"({"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]})",
        x + " shape", "duplicate key");
  entry("unknown dtype", R"({"dtype":"F7","shape":[1],"data_offsets":[0,4]})", x + " dtype",
        "unknown type \"F7\"");
  entry("dtype in lower case", R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})",
        x + " dtype", "unknown type \"f32\"");
  entry("dtype is a number", R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})", "header",
        "expected a string");
  entry("negative dimension", R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "header",
        "is -1, expected an integer");
  entry("fractional dimension", R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})",
        "header", "is 1.0, expected an integer");
  entry("dimension in exponent form", R"({"dtype":"F32","shape":[1e0],"data_offsets":[0,4]})",
        "header", "is 1e0, expected an integer");
  entry("dimension 2^63", R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]})",
        x + " shape", "above 2^63-1");
  entry("dimension 2^64", R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]})",
        "header", "expected an integer");
  entry("nine dimensions", R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})",
        x + " shape", "more than 8");
  entry("shape of strings", R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})", "header",
        "expected a number");
  // safetensors-cpp: the product wraps to 4.
  entry("shape product wraps",
        R"({"dtype":"U8","shape":[4194305,4194305,211106198978564],"data_offsets":[0,4]})",
        x + " shape", "exceeds 2^64-1");
  entry("byte product wraps",
        R"({"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]})", x + " shape",
        "exceeds 2^64-1");
  entry("one offset", R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", x + " data_offsets",
        "has 1 entries");
  entry("three offsets", R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,4]})",
        x + " data_offsets", "has 3 entries");
  // audio.cpp 138, mlx 3363: reversed or negative offsets.
  entry("reversed offsets", R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})",
        x + " data_offsets", "before begin");
  entry("negative offset", R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", "header",
        "is -4");
  entry("offsets at the top of 64 bits",
        R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]})",
        x + " data_offsets", "span 3 bytes");
  entry("offsets past the end",
        R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615]})",
        x + " data_offsets", "leaves a hole");
  entry("more bytes than the shape needs", R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})",
        x + " data_offsets", "span 8 bytes, type and shape need 4", "abcdefgh");
  entry("tensor past the end", R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", x,
        "truncated");
  entry("hole at the start", R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})",
        x + " data_offsets", "leaves a hole", "abcdefgh");
  entry("trailing bytes", R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", "data",
        "1 bytes after the last tensor", "abcde");

  // Several tensors.
  const std::string y = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  // The 118-byte file of the duplicate-key differential.
  entry("duplicate name", y + R"(,"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})", x,
        "duplicate tensor name");
  entry("duplicate name, one escaped", y + ",\"\\u0078\":" + y, x, "duplicate tensor name");
  // lattice 752: two names for the same bytes.
  entry("aliased range", y + ",\"y\":" + y, "tensor \"y\" data_offsets", "overlaps");
  entry("hole between tensors",
        y + R"(,"y":{"dtype":"U8","shape":[2],"data_offsets":[6,8]})",
        "tensor \"y\" data_offsets", "leaves a hole", "abcdefgh");
  entry("partial overlap", y + R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]})",
        "tensor \"y\" data_offsets", "overlaps", "abcdef");

  // Inside an otherwise complete model.
  cases.push_back(ShardCase("shard cut short",
                            [](RawShard& s) { s.tensors.back().bytes -= 1; },
                            "data_offsets", "span 255 bytes"));
  cases.push_back(ShardCase("bytes appended", [](RawShard& s) { s.trailing = "x"; }, "data",
                            "1 bytes after"));
  cases.push_back(ShardCase("header length one too large",
                            [](RawShard& s) { s.header_length = s.Header().size() + 1; },
                            "header", ""));
  cases.push_back(ShardCase("header length one too small",
                            [](RawShard& s) { s.header_length = s.Header().size() - 1; },
                            "header", "ends unexpectedly"));
  cases.push_back(ShardCase("zero-size tensor that the model does not have",
                            [](RawShard& s) {
                              s.tensors.push_back({"zero", {0, 4}, "F32", 0, {}});
                            },
                            "tensor \"zero\"", "unknown name"));
  return cases;
}

}  // namespace stoker::test
