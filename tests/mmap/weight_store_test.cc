// WeightStore on valid models made here: both formats, both config spellings, split sets, ties,
// shared experts, links.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "mmap/weight_store.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/gguf_builder.h"

namespace stoker::test {
namespace {

namespace fs = std::filesystem;

// The byte a builder filled tensor `index` of its file with, or 0 when the view is not uniform.
int Fill(const std::byte* data, uint64_t bytes) {
  for (uint64_t i = 1; i < bytes; ++i) {
    if (data[i] != data[0]) return 0;
  }
  return std::to_integer<int>(data[0]);
}

void CheckTinyConfig(const ModelConfig& config) {
  CHECK(config.n_layers == 2);
  CHECK(config.hidden_size == 8);
  CHECK(config.vocab_size == 4);
  CHECK(config.n_heads == 2);
  CHECK(config.n_kv_heads == 1);
  CHECK(config.head_dim == 4);
  CHECK(config.rotary_dim == 2);
  CHECK(config.rope_theta == 1e7);
  CHECK(config.expert_hidden_size == 8);
  CHECK(config.n_experts == 2);
  CHECK(config.n_experts_per_token == 2);
  CHECK(config.max_position == 128);
  CHECK(config.rms_norm_eps == 1e-5f);
  CHECK(config.postnorm);
  CHECK(config.attention ==
        std::vector<AttentionKind>{AttentionKind::kLightning, AttentionKind::kSoftmax});
  CHECK(config.n_lightning_layers() == 1);
  CHECK(config.n_softmax_layers() == 1);
}

RawCheckpoint HfCheckpoint() {
  RawCheckpoint checkpoint = TinyCheckpoint();
  for (const char* key :
       {"attn_type_list", "postnorm", "rotary_dim", "rope_theta", "shared_intermediate_size",
        "layernorm_linear_attention_alpha", "layernorm_linear_attention_beta",
        "layernorm_full_attention_alpha", "layernorm_full_attention_beta",
        "layernorm_mlp_alpha", "layernorm_mlp_beta"}) {
    checkpoint.Remove(key);
  }
  checkpoint.Set("model_type", "\"minimax\"");
  checkpoint.Set("layer_types", R"(["linear_attention", "full_attention"])");
  checkpoint.Set("block_size", "256");
  checkpoint.Set("linear_attn_alpha_factor", "1.5");
  checkpoint.Set("linear_attn_beta_factor", "1.25");
  checkpoint.Set("full_attn_alpha_factor", "1.75");
  checkpoint.Set("full_attn_beta_factor", "1");
  checkpoint.Set("mlp_alpha_factor", "2.0");
  checkpoint.Set("mlp_beta_factor", "0.5");
  checkpoint.Set("rope_parameters",
                 R"({"rope_type":"default","rope_theta":1e7,"partial_rotary_factor":0.5})");
  return checkpoint;
}

}  // namespace

TEST_CASE("a GGUF model opens with its config, tensors and experts") {
  TempDir directory;
  WriteFile(directory / "m.gguf", TinyGguf().Build());
  const auto store = WeightStore::Open(directory / "m.gguf");
  CHECK(store->format() == "GGUF v3");
  CHECK(store->directory() == directory.path());
  REQUIRE(store->gguf_metadata() != nullptr);
  CHECK(store->gguf_metadata()->String("general.name") == "Tiny");
  CheckTinyConfig(store->config());
  CHECK(store->config().architecture == "minimax-01");
  CHECK(store->config().name == "Tiny");
  CHECK(store->config().lightning_alpha == 1.5f);
  CHECK(store->config().softmax_alpha == 1.5f);
  CHECK(store->config().moe_alpha == 1.5f);
  CHECK(store->config().moe_beta == 1.0f);
  CHECK(store->config().lightning_norm_eps == 1e-5f);
  CHECK_FALSE(store->config().tied_embeddings);
  CHECK(store->tensors().size() == 23);

  const TensorView qkv = store->View(store->Get("blk.0.attn_qkv.weight"));
  CHECK(qkv.rows() == 24);
  CHECK(qkv.cols() == 8);
  CHECK(qkv.n_dims == 2);
  CHECK(Fill(qkv.data, qkv.bytes) == 3);
  CHECK(store->Find("blk.0.attn_q.weight") == nullptr);
  CHECK_THROWS_AS(store->Get("blk.0.attn_q.weight"), std::runtime_error);

  const StoredTensor& up = store->Get("blk.1.ffn_up_exps.weight");
  CHECK(up.shape == std::vector<int64_t>{2, 8, 8});
  for (const int expert : {0, 1}) {
    const ExpertPartExtent part = store->Expert({1, expert}, ExpertPart::kUp);
    CHECK(part.rows == 8);
    CHECK(part.cols == 8);
    CHECK(part.extent.bytes == 256);
    CHECK(part.extent.offset == up.extent.offset + 256u * static_cast<unsigned>(expert));
  }
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : store->tensors()) bytes += tensor.extent.bytes;
  CHECK(store->total_bytes() == bytes);
  char byte = 0;
  CHECK(::pread(store->fd(0), &byte, 1, static_cast<off_t>(up.extent.offset)) == 1);
  CHECK(static_cast<std::byte>(byte) == *store->Mapped(up.extent));
}

TEST_CASE("any part of a split GGUF opens the whole") {
  TempDir directory;
  RawGguf whole = TinyGguf();
  for (uint16_t number = 0; number < 3; ++number) {
    RawGguf part;
    if (number == 0) part.entries = whole.entries;
    part.Set("split.no", 2, Le(number));
    part.Set("split.count", 2, Le<uint16_t>(3));
    part.Set("split.tensors.count", 5, Le<int32_t>(23));
    // llama.cpp can leave the first part without tensors.
    if (number == 1) part.tensors.assign(whole.tensors.begin(), whole.tensors.begin() + 12);
    if (number == 2) part.tensors.assign(whole.tensors.begin() + 12, whole.tensors.end());
    WriteFile(directory / ("m-0000" + std::to_string(number + 1) + "-of-00003.gguf"),
              part.Build());
  }
  for (const char* name :
       {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    const auto store = WeightStore::Open(directory / name);
    CHECK(store->files().size() == 3);
    CHECK(store->tensors().size() == 23);
    CheckTinyConfig(store->config());
    CHECK(store->gguf_metadata()->String("general.name") == "Tiny");
    const StoredTensor& norm = store->Get("output_norm.weight");
    CHECK(norm.extent.file == 2);
    CHECK(Fill(store->Mapped(norm.extent), norm.extent.bytes) == 10);
  }
}

TEST_CASE("GGUF details: layer patterns, ties, trailing padding, shared experts") {
  TempDir directory;
  const fs::path path = directory / "m.gguf";
  RawGguf file = TinyGguf();
  SECTION("a list of recurrent layers beats the interval") {
    file.SetU32("minimax-01.full_attention_interval", 7);
    file.SetArray("minimax-01.attention.recurrent_layers", 7, 2, std::string("\x01\x00", 2));
    WriteFile(path, file.Build());
    CheckTinyConfig(WeightStore::Open(path)->config());
  }
  SECTION("without output.weight the embedding is the head") {
    file.RemoveTensor("output.weight");
    WriteFile(path, file.Build());
    const auto store = WeightStore::Open(path);
    CHECK(store->config().tied_embeddings);
    CHECK(store->Find("output.weight") == nullptr);
  }
  SECTION("the padding after the last tensor may be missing") {
    file.tensors.clear();
    for (const RawTensor& tensor : TinyGguf().tensors) {
      if (tensor.name != "blk.1.attn_norm.weight") file.tensors.push_back(tensor);
    }
    file.AddF32("blk.1.attn_norm.weight", {8});
    std::string bytes = file.Build();
    WriteFile(path, bytes);
    CHECK_NOTHROW(WeightStore::Open(path));
  }
  SECTION("the list of tokens gives the vocabulary") {
    std::string tokens;
    for (int i = 0; i < 4; ++i) tokens += LeString("t");
    file.SetArray("tokenizer.ggml.tokens", 8, 4, tokens);
    WriteFile(path, file.Build());
    CheckTinyConfig(WeightStore::Open(path)->config());
  }
  SECTION("shared expert") {
    file.SetU32("minimax-01.expert_shared_feed_forward_length", 16);
    for (const std::string b : {"blk.0.", "blk.1."}) {
      file.AddF32(b + "ffn_gate_shexp.weight", {8, 16});
      file.AddF32(b + "ffn_up_shexp.weight", {8, 16});
      file.AddF32(b + "ffn_down_shexp.weight", {16, 8});
      file.AddF32(b + "ffn_gate_inp_shexp.weight", {8});
    }
    WriteFile(path, file.Build());
    const auto store = WeightStore::Open(path);
    CHECK(store->config().shared_hidden_size == 16);
    CHECK(store->Get("blk.1.ffn_gate_inp_shexp.weight").shape == std::vector<int64_t>{1, 8});
  }
  SECTION("types that are not computed are still recognised") {
    file.Tensor("blk.0.ffn_gate_exps.weight").type = 39;  // MXFP4
    file.SetU32("minimax-01.embedding_length", 32);
    for (RawTensor& tensor : file.tensors) {
      for (uint64_t& n : tensor.ne) n = n == 8 || n == 24 ? n * 4 : n;
      tensor.bytes = tensor.type == 39 ? 2 * 32 * 17 : 4;
      if (tensor.type != 39) {
        for (const uint64_t n : tensor.ne) tensor.bytes *= n;
      }
    }
    file.SetU32("minimax-01.feed_forward_length", 32);
    file.SetU32("minimax-01.attention.key_length", 16);
    file.SetU32("minimax-01.attention.value_length", 16);
    file.Tensor("blk.1.attn_k.weight").ne = {32, 16};
    file.Tensor("blk.1.attn_v.weight").ne = {32, 16};
    file.Tensor("blk.1.attn_k.weight").bytes = file.Tensor("blk.1.attn_v.weight").bytes = 2048;
    WriteFile(path, file.Build());
    const auto store = WeightStore::Open(path);
    CHECK(Info(store->Get("blk.0.ffn_gate_exps.weight").type).name == "MXFP4");
    CHECK(store->Expert({0, 1}, ExpertPart::kGate).extent.bytes == 32 * 17);
  }
}

TEST_CASE("opening a file of 14 GB is immediate and touches no tensor data") {
  TempDir directory;
  const fs::path path = directory / "big.gguf";
  RawGguf file = TinyGguf();
  constexpr uint64_t kRows = 1 << 23;
  file.SetU32("minimax-01.embedding_length", 416);
  for (RawTensor& tensor : file.tensors) {
    // Widen the hidden dimension everywhere it occurs; the embedding holds nearly all bytes.
    const bool down = tensor.name.find("ffn_down") != std::string::npos;
    const bool output = tensor.name.find("attn_output") != std::string::npos;
    if (tensor.name.find("attn_norm_2") == std::string::npos) {
      tensor.ne[down || output ? 1 : 0] = 416;
    }
    if (tensor.name == "token_embd.weight") tensor.ne[1] = kRows;
    tensor.bytes = 4;
    for (const uint64_t n : tensor.ne) tensor.bytes *= n;
  }
  file.RemoveTensor("output.weight");
  WriteFile(path, file.Header());
  uint64_t data = 0;
  for (const RawTensor& tensor : file.tensors) data += (tensor.bytes + 31) / 32 * 32;
  fs::resize_file(path, fs::file_size(path) + data);  // sparse
  const auto store = WeightStore::Open(path);
  CHECK(store->total_bytes() > uint64_t{13} << 30);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK(status.st_blocks * 512 < 1 << 20);
}

TEST_CASE("a safetensors directory opens in both spellings of the config") {
  TempDir directory;
  RawCheckpoint checkpoint = TinyCheckpoint();
  SECTION("vendor") {}
  SECTION("vendor, Text-01") { checkpoint.Set("model_type", "\"minimax_text_01\""); }
  SECTION("a list for the shared size") { checkpoint.Set("shared_intermediate_size", "[0]"); }
  SECTION("-hf") { checkpoint = HfCheckpoint(); }
  SECTION("-hf with top-level rope keys") {
    checkpoint = HfCheckpoint();
    checkpoint.Remove("rope_parameters");
    checkpoint.Set("rope_theta", "10000000.0");
    checkpoint.Set("rotary_dim", "2");
    checkpoint.Set("rope_scaling", "null");
  }
  checkpoint.Write(directory.path());
  const auto store = WeightStore::Open(directory.path());
  CHECK(store->format() == "safetensors");
  CHECK(store->gguf_metadata() == nullptr);
  CHECK(store->directory() == directory.path());
  const ModelConfig& config = store->config();
  CheckTinyConfig(config);
  CHECK(config.lightning_alpha == 1.5f);
  CHECK(config.lightning_beta == 1.25f);
  CHECK(config.softmax_alpha == 1.75f);
  CHECK(config.softmax_beta == 1.0f);
  CHECK(config.moe_alpha == 2.0f);
  CHECK(config.moe_beta == 0.5f);
  CHECK(config.lightning_norm_eps == 1e-6f);
  CHECK(config.shared_hidden_size == 0);

  // The second expert of layer 0 straddles the shards.
  CHECK(store->Expert({0, 1}, ExpertPart::kGate).extent.file == 0);
  CHECK(store->Expert({0, 1}, ExpertPart::kDown).extent.file == 1);
  const TensorView down = store->ExpertView({0, 1}, ExpertPart::kDown);
  CHECK(down.rows() == 8);
  CHECK(Fill(down.data, down.bytes) == 1);
  CHECK(store->Get("blk.0.ffn_down.1.weight").file_name ==
        "model.layers.0.block_sparse_moe.experts.1.w2.weight");
  CHECK(store->Get("output.weight").file_name == "lm_head.weight");
  CHECK(store->Get("blk.1.attn_output.weight").file_name ==
        "model.layers.1.self_attn.o_proj.weight");
}

TEST_CASE("safetensors details: types, one file, ties, shared experts, postnorm, links") {
  TempDir directory;
  const fs::path root = directory / "model";
  fs::create_directory(root);
  RawCheckpoint checkpoint = TinyCheckpoint();
  RawShard& first = checkpoint.shards[0].second;
  RawShard& second = checkpoint.shards[1].second;
  SECTION("types differ between tensors") {
    RawShardTensor& qkv = first.Tensor("model.layers.0.self_attn.qkv_proj.weight");
    qkv.dtype = "BF16";
    qkv.bytes /= 2;
    checkpoint.Write(root);
    const auto store = WeightStore::Open(root);
    CHECK(store->Get("blk.0.attn_qkv.weight").type == DType::kBF16);
    CHECK(store->Get("blk.0.ffn_gate_inp.weight").type == DType::kF32);
  }
  SECTION("INT8 rows, each with its scale") {
    checkpoint = Int8Checkpoint();
    checkpoint.Write(root);
    const auto store = WeightStore::Open(root);
    const StoredTensor& tensor = store->Get("blk.0.ffn_gate.0.weight");
    CHECK(tensor.type == DType::kInt8Row);
    CHECK(tensor.extent.bytes == 32 * 32);
    CHECK(store->row_scale_bytes() == 32 * sizeof(float));
    const TensorView view = store->ExpertView({0, 0}, ExpertPart::kGate);
    CHECK(view.row_scales == store->View(tensor).row_scales);
    // Every byte of the scales is their tensor's number.
    const auto byte = static_cast<uint32_t>(checkpoint.shards[0].second.tensors.size());
    for (int row = 0; row < 32; ++row) {
      CHECK(view.row_scales[row] == std::bit_cast<float>(byte << 24 | byte << 16));
    }
    CHECK(store->ExpertView({0, 0}, ExpertPart::kUp).row_scales == nullptr);
  }
  SECTION("shards counted from one") {
    checkpoint.shards[0].first = "model-00001-of-00002.safetensors";
    checkpoint.shards[1].first = "model-00002-of-00002.safetensors";
    checkpoint.Write(root);
    CHECK(WeightStore::Open(root)->files().size() == 2);
  }
  SECTION("one file without an index") {
    first.tensors.insert(first.tensors.end(), second.tensors.begin(), second.tensors.end());
    checkpoint.shards.pop_back();
    checkpoint.shards[0].first = "model.safetensors";
    checkpoint.write_index = false;
    checkpoint.Write(root);
    CHECK(WeightStore::Open(root)->files().size() == 1);
  }
  SECTION("tied embeddings") {
    second.tensors.pop_back();
    checkpoint.Set("tie_word_embeddings", "true");
    checkpoint.Write(root);
    CHECK(WeightStore::Open(root)->config().tied_embeddings);
  }
  SECTION("shared expert") {
    checkpoint.Set("shared_intermediate_size", "[16]");
    for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
      second.AddF32(l + "shared_mlp.gate_proj.weight", {16, 8});
      second.AddF32(l + "shared_mlp.up_proj.weight", {16, 8});
      second.AddF32(l + "shared_mlp.down_proj.weight", {8, 16});
      second.AddF32(l + "coefficient.weight", {1, 8});
    }
    checkpoint.Write(root);
    const auto store = WeightStore::Open(root);
    CHECK(store->config().shared_hidden_size == 16);
    CHECK(store->Get("blk.1.ffn_down_shexp.weight").shape == std::vector<int64_t>{8, 16});
    CHECK(store->Find("blk.0.ffn_gate_inp_shexp.weight") != nullptr);
  }
  SECTION("postnorm false") {
    checkpoint.Set("postnorm", "false");
    checkpoint.Write(root);
    CHECK_FALSE(WeightStore::Open(root)->config().postnorm);
  }
  SECTION("a saved table of rotary frequencies is ignored") {
    second.AddF32("model.layers.1.self_attn.rotary_emb.inv_freq", {1});
    checkpoint.Write(root);
    CHECK_NOTHROW(WeightStore::Open(root));
  }
  SECTION("links inside the directory") {
    checkpoint.Write(root);
    fs::rename(root / checkpoint.shards[1].first, root / "data.safetensors");
    fs::create_symlink("data.safetensors", root / checkpoint.shards[1].first);
    CHECK_NOTHROW(WeightStore::Open(root));
  }
  SECTION("a download cache of links into blobs") {
    const fs::path snapshot = directory / "snapshots/0123abc";
    fs::create_directories(snapshot);
    fs::create_directory(directory / "blobs");
    checkpoint.Write(snapshot);
    int number = 0;
    for (const char* name : {"config.json", "model.safetensors.index.json",
                             "model-00000-of-00002.safetensors",
                             "model-00001-of-00002.safetensors"}) {
      const std::string blob = "b" + std::to_string(number++);
      fs::rename(snapshot / name, directory.path() / "blobs" / blob);
      fs::create_symlink("../../blobs/" + blob, snapshot / name);
    }
    CHECK_NOTHROW(WeightStore::Open(snapshot));
  }
}

}  // namespace stoker::test
