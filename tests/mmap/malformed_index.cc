// Directories whose parts do not fit together: the index, the shards' names, links, tensors of the
// model that are missing or in the wrong place.

#include "tests/mmap/malformed_cases.h"

namespace stoker::test {
namespace {

const std::string kIndex = "model.safetensors.index.json";
const std::string kFirst = "model-00000-of-00002.safetensors";
const std::string kSecond = "model-00001-of-00002.safetensors";
const std::string kQkv = "model.layers.0.self_attn.qkv_proj.weight";

MalformedCase IndexText(std::string name, std::string text, std::string field,
                        std::string reason) {
  return CheckpointCase(
      std::move(name), [=](RawCheckpoint& c) { c.index_text = text; }, kIndex, std::move(field),
      std::move(reason));
}

// The index places one more tensor in a file of this name.
MalformedCase FileNameCase(std::string name, std::string file_json, std::string reason) {
  return CheckpointCase(
      std::move(name),
      [=](RawCheckpoint& c) { c.extra_index.emplace_back("extra", file_json); }, kIndex,
      "weight_map \"extra\"", std::move(reason));
}

void RemoveTensor(RawShard& shard, const std::string& name) {
  std::erase_if(shard.tensors, [&](const auto& tensor) { return tensor.name == name; });
}

}  // namespace

std::vector<MalformedCase> IndexCases() {
  std::vector<MalformedCase> cases;

  // The index as JSON.
  cases.push_back(IndexText("empty index", " ", "index", "ends unexpectedly"));
  cases.push_back(IndexText("index is an array", "[]", "index", "expected an object"));
  cases.push_back(IndexText("index without weight_map", "{\"metadata\":{}}", "weight_map",
                            "missing"));
  cases.push_back(IndexText("weight_map empty", "{\"weight_map\":{}}", "weight_map",
                            "names no tensor"));
  cases.push_back(IndexText("weight_map is a list", "{\"weight_map\":[]}", "index",
                            "expected an object"));
  cases.push_back(IndexText("weight_map twice",
                            R"({"weight_map":{"a":"b.safetensors"},"weight_map":{}})",
                            "weight_map", "duplicate key"));
  cases.push_back(IndexText("tensor twice",
                            R"({"weight_map":{"a":"b.safetensors","a":"c.safetensors"}})",
                            "weight_map \"a\"", "duplicate key"));
  cases.push_back(IndexText("file is a number", R"({"weight_map":{"a":1}})", "weight_map \"a\"",
                            "is not a file name"));
  cases.push_back(IndexText("file is null", R"({"weight_map":{"a":null}})", "weight_map \"a\"",
                            "is not a file name"));
  cases.push_back(IndexText("index nested 100000 deep",
                            "{\"metadata\":" + std::string(100000, '[') + "}", "index",
                            "nested deeper than 64"));
  cases.push_back(IndexText("index nested 65 deep in objects",
                            [] {
                              std::string text = "{\"metadata\":";
                              for (int i = 0; i < 65; ++i) text += "{\"a\":";
                              return text;
                            }(),
                            "index", "nested deeper than 64"));
  cases.push_back(IndexText("index cut short", R"({"weight_map":{"a":"b.safetensors")", "index",
                            "ends unexpectedly"));
  cases.push_back(IndexText("index with text behind", "{\"weight_map\":{}} x", "index",
                            "text after the end"));
  cases.push_back(IndexText("index of one key repeated 10000 times",
                            [] {
                              std::string text = "{\"weight_map\":{\"a\":\"b.safetensors\"";
                              for (int i = 0; i < 10000; ++i) text += ",\"a\":\"b.safetensors\"";
                              return text + "}}";
                            }(),
                            "weight_map \"a\"", "duplicate key"));
  cases.push_back(IndexText("index of 5000 files",
                            [] {
                              std::string text = "{\"weight_map\":{\"a\":\"b.safetensors\"";
                              for (int i = 0; i < 5000; ++i) {
                                const std::string n = std::to_string(i);
                                text += ",\"a" + n + "\":\"" + n + ".safetensors\"";
                              }
                              return text + "}}";
                            }(),
                            "weight_map \"a4095\"", "more than 4096 files"));

  // Names that lead elsewhere.
  const std::string plain = "not a plain file name";
  cases.push_back(FileNameCase("path upwards", "../outside.safetensors", plain));
  cases.push_back(FileNameCase("path through a subdirectory", "a/../../b.safetensors", plain));
  cases.push_back(FileNameCase("absolute path", "/etc/passwd", plain));
  cases.push_back(FileNameCase("dot", ".", plain));
  cases.push_back(FileNameCase("dot dot", "..", plain));
  cases.push_back(FileNameCase("path with an escaped slash", "..\\u002fb.safetensors", plain));
  cases.push_back(FileNameCase("empty name", "", "names no file"));
  cases.push_back(FileNameCase("name with a NUL", "a\\u0000.safetensors", plain));
  cases.push_back(FileNameCase("another kind of file", "config.json",
                               "not a .safetensors file"));
  cases.push_back({"shard is a link out of the directory",
                   [](const std::filesystem::path& directory) {
                     std::filesystem::create_directory(directory / "model");
                     TinyCheckpoint().Write(directory / "model");
                     std::filesystem::rename(directory / "model" / kSecond,
                                             directory / "outside.safetensors");
                     std::filesystem::create_symlink("../outside.safetensors",
                                                     directory / "model" / kSecond);
                     return directory / "model";
                   },
                   kSecond, "path", "outside the model's directory"});
  cases.push_back({"config is a link out of the directory",
                   [](const std::filesystem::path& directory) {
                     std::filesystem::create_directory(directory / "model");
                     TinyCheckpoint().Write(directory / "model");
                     std::filesystem::rename(directory / "model" / "config.json",
                                             directory / "config.json");
                     std::filesystem::create_symlink("../config.json",
                                                     directory / "model" / "config.json");
                     return directory / "model";
                   },
                   "config.json", "path", "outside the model's directory"});
  cases.push_back({"shard is a link to itself",
                   [](const std::filesystem::path& directory) {
                     TinyCheckpoint().Write(directory);
                     std::filesystem::remove(directory / kSecond);
                     std::filesystem::create_symlink(kSecond, directory / kSecond);
                     return directory;
                   },
                   kSecond, "cannot open", ""});
  cases.push_back({"shard is a directory",
                   [](const std::filesystem::path& directory) {
                     TinyCheckpoint().Write(directory);
                     std::filesystem::remove(directory / kSecond);
                     std::filesystem::create_directory(directory / kSecond);
                     return directory;
                   },
                   kSecond, "file", "not a regular file"});

  // Shards against the index.
  cases.push_back(CheckpointCase("shard missing",
                                 [](RawCheckpoint& c) {
                                   c.index_text = c.IndexText();
                                   c.shards.pop_back();
                                 },
                                 kSecond, "cannot open", "No such file"));
  cases.push_back(CheckpointCase("no shards and no index",
                                 [](RawCheckpoint& c) {
                                   c.write_index = false;
                                   c.shards.clear();
                                 },
                                 kIndex, "index", "no such file, and no model.safetensors"));
  cases.push_back(CheckpointCase("shards without an index",
                                 [](RawCheckpoint& c) { c.write_index = false; }, kIndex, "index",
                                 "no such file"));
  cases.push_back(CheckpointCase("tensor in no shard",
                                 [](RawCheckpoint& c) {
                                   c.index_text = c.IndexText();
                                   RemoveTensor(c.shards[0].second, kQkv);
                                 },
                                 kIndex, "weight_map \"" + kQkv, "which has no such tensor"));
  cases.push_back(CheckpointCase("tensor in another shard than the index says",
                                 [](RawCheckpoint& c) {
                                   c.index_text = c.IndexText();
                                   RemoveTensor(c.shards[0].second, kQkv);
                                   c.shards[1].second.AddF32(kQkv, {24, 8});
                                 },
                                 kSecond, kQkv, "the index does not say so"));
  cases.push_back(CheckpointCase("same tensor in two shards",
                                 [](RawCheckpoint& c) {
                                   c.index_text = c.IndexText();
                                   c.shards[1].second.AddF32(kQkv, {24, 8});
                                 },
                                 kSecond, kQkv, "the index does not say so"));
  cases.push_back(CheckpointCase("tensor the index does not know",
                                 [](RawCheckpoint& c) {
                                   c.index_text = c.IndexText();
                                   c.shards[0].second.AddF32("extra", {1});
                                 },
                                 kFirst, "tensor \"extra\"", "the index does not say so"));

  // Tensors against the config.
  const auto without = [&](const std::string& tensor, size_t shard) {
    cases.push_back(CheckpointCase("no " + tensor,
                                   [=](RawCheckpoint& c) {
                                     RemoveTensor(c.shards[shard].second, tensor);
                                   },
                                   kIndex, "tensor \"" + tensor + "\"", "missing"));
  };
  without("model.embed_tokens.weight", 0);
  without("lm_head.weight", 1);
  without("model.norm.weight", 1);
  without(kQkv, 0);
  without("model.layers.1.self_attn.k_proj.weight", 1);
  without("model.layers.0.block_sparse_moe.experts.1.w2.weight", 1);
  without("model.layers.0.block_sparse_moe.gate.weight", 0);
  cases.push_back(CheckpointCase("bias",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second.AddF32(
                                       "model.layers.0.self_attn.qkv_proj.bias", {24});
                                 },
                                 kFirst, "qkv_proj.bias", "unknown name"));
  cases.push_back(CheckpointCase("expert 2 of 2",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second.AddF32(
                                       "model.layers.0.block_sparse_moe.experts.2.w1.weight",
                                       {8, 8});
                                 },
                                 kFirst, "experts.2.w1", "expert 2 of a model with 2 experts"));
  cases.push_back(CheckpointCase("layer 2 of 2",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second.AddF32(
                                       "model.layers.2.input_layernorm.weight", {8});
                                 },
                                 kFirst, "layers.2", "layer 2 of a model with 2 layers"));
  cases.push_back(CheckpointCase("transposed expert matrix of another inner size",
                                 [](RawCheckpoint& c) {
                                   RawShardTensor& t = c.shards[0].second.Tensor(
                                       "model.layers.0.block_sparse_moe.experts.0.w1.weight");
                                   t.shape = {4, 16};
                                 },
                                 kFirst, "experts.0.w1.weight\" shape",
                                 "is [4, 16], the config demands [8, 8]"));
  cases.push_back(CheckpointCase("vector as a square",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second
                                       .Tensor("model.layers.0.input_layernorm.weight")
                                       .shape = {2, 4};
                                 },
                                 kFirst, "input_layernorm.weight\" shape", "demands [8]"));
  cases.push_back(CheckpointCase("integer weights",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second.Tensor(kQkv).dtype = "I32";
                                 },
                                 kFirst, kQkv + "\" type", "I32 cannot hold a weight"));
  cases.push_back(CheckpointCase("unsigned weights",
                                 [](RawCheckpoint& c) {
                                   c.shards[0].second.Tensor(kQkv).dtype = "U32";
                                 },
                                 kFirst, kQkv + "\" type", "U32 cannot hold a weight"));
  cases.push_back(CheckpointCase("8-bit floats without scales",
                                 [](RawCheckpoint& c) {
                                   RawShardTensor& t = c.shards[0].second.Tensor(kQkv);
                                   t.dtype = "F8_E4M3";
                                   t.bytes /= 4;
                                 },
                                 kFirst, kQkv + "\" type", "F8_E4M3 cannot hold a weight"));
  return cases;
}

}  // namespace stoker::test
