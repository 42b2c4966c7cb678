#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "mmap/atomic_file.h"
#include "mmap/weight_store.h"
#include "runtime/cli/sample_text.h"
#include "runtime/cli/synth_blocks.h"
#include "runtime/cli/synth_plan.h"
#include "runtime/cli/synth_vocabulary.h"
#include "runtime/cli/synth_writer.h"
#include "runtime/kernels/dequantize.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

DType TypeOf(const std::vector<SynthTensor>& plan, const std::string& name) {
  for (const SynthTensor& tensor : plan) {
    if (tensor.name == name) return tensor.type;
  }
  FAIL("no tensor " << name);
  return DType::kCount;
}

SynthShape SmallShape() {
  SynthShape shape = DemoShape();
  shape.n_layers = 4;
  shape.n_experts = 4;
  shape.vocab_size = 600;
  return shape;
}

SynthRequest SmallRequest(const std::filesystem::path& path) {
  SynthRequest request;
  request.path = path;
  request.shape = SmallShape();
  request.mix = FindTypeMix("q4_k_m");
  return request;
}

TEST_CASE("repeated experts take turns among the first layers of their own type") {
  SynthShape shape = SmallShape();
  shape.n_layers = 16;
  std::vector<SynthTensor> plan = PlanTensors(shape, *FindTypeMix("q4_k_m"), {});
  RepeatExperts(2, &plan);
  std::map<std::string, int> own, repeated;
  for (const SynthTensor& tensor : plan) {
    if (tensor.name.find("_exps.") == std::string::npos) {
      CHECK(tensor.same_as == -1);
      continue;
    }
    const std::string matrix = tensor.name.substr(tensor.name.find("ffn_"));
    const std::string kind = matrix + " " + std::string(Info(tensor.type).name);
    if (tensor.same_as < 0) {
      ++own[kind];
      continue;
    }
    ++repeated[kind];
    const SynthTensor& source = plan[static_cast<size_t>(tensor.same_as)];
    CHECK(source.same_as == -1);
    CHECK(source.type == tensor.type);
    CHECK(source.bytes == tensor.bytes);
    CHECK(source.name.ends_with(matrix));
  }
  // llama-quantize gives half of the layers' down projections six bits.
  const std::map<std::string, int> two = {{"ffn_gate_exps.weight Q4_K", 2},
                                          {"ffn_up_exps.weight Q4_K", 2},
                                          {"ffn_down_exps.weight Q4_K", 2},
                                          {"ffn_down_exps.weight Q6_K", 2}};
  CHECK(own == two);
  CHECK(repeated["ffn_up_exps.weight Q4_K"] == 14);
  CHECK(repeated["ffn_down_exps.weight Q4_K"] + repeated["ffn_down_exps.weight Q6_K"] == 12);
}

TEST_CASE("experts are repeated on the disk or the file system is named") {
  const test::TempDir directory;
  SynthRequest request = SmallRequest(directory / "repeated.gguf");
  request.distinct_expert_layers = 1;
  bool can_share = false;
  {
    AtomicFile probe(directory / "probe");
    can_share = probe.CanShareBlocks();
    CHECK(probe.size() == 0);
  }
  if (!can_share) {
    CHECK_THROWS_WITH(WriteSynthModel(request),
                      test::HasText("repeated.gguf: this file system cannot") &&
                          test::HasText("XFS or Btrfs"));
    CHECK(std::filesystem::is_empty(directory.path()));
    request.distinct_expert_layers = request.shape.n_layers;  // nothing to share
    const SynthResult whole = WriteSynthModel(request);
    CHECK(whole.written_bytes == whole.file_bytes);
    return;
  }
  const SynthResult result = WriteSynthModel(request);
  CHECK(result.written_bytes < result.file_bytes / 2);
}

TEST_CASE("random blocks of every type have the asked spread and no bias") {
  for (int i = 0; i < static_cast<int>(DType::kCount); ++i) {
    const auto type = static_cast<DType>(i);
    if (!CanFillRandom(type)) continue;
    CAPTURE(Info(type).name);
    constexpr int64_t kValues = 256 * 1024;
    const float stddev = 1.0f / std::sqrt(6144.0f);  // M1's: the scales are tiny halves
    std::vector<std::byte> blocks(*TypedBytes(type, kValues));
    FastRandom random(7);
    FillRandom(type, 0.0f, stddev, random, blocks);
    std::vector<float> values(kValues);
    DequantizeRow(type, blocks.data(), values.data(), kValues);
    double sum = 0, squares = 0;
    bool finite = true;
    for (const float v : values) {
      finite = finite && std::isfinite(v);
      sum += v;
      squares += static_cast<double>(v) * v;
    }
    CHECK(finite);
    CHECK(test::Near(std::sqrt(squares / kValues) / stddev, 1.0, 0.03));
    CHECK(std::fabs(sum / kValues) / stddev < 0.02);
  }
}

TEST_CASE("random blocks depend on the seed only") {
  std::vector<std::byte> a(144 * 8), b(144 * 8), c(144 * 8);
  FastRandom first(1), again(1), other(2);
  FillRandom(DType::kQ4_K, 0.0f, 1.0f, first, a);
  FillRandom(DType::kQ4_K, 0.0f, 1.0f, again, b);
  FillRandom(DType::kQ4_K, 0.0f, 1.0f, other, c);
  CHECK(a == b);
  CHECK(a != c);
}

TEST_CASE("a slice of four layers has a softmax layer, M1's depth has every eighth") {
  SynthShape shape;
  CHECK(shape.interval() == 4);
  CHECK(shape.is_softmax(3));
  CHECK_FALSE(shape.is_softmax(2));
  shape.n_layers = 80;
  CHECK(shape.interval() == 8);
  CHECK(shape.is_softmax(79));
  CHECK_FALSE(shape.is_softmax(3));
}

TEST_CASE("the type mix is llama-quantize's") {
  const SynthShape shape;  // four layers: 0 and 2..3 by llama.cpp's rule of more bits
  const auto q4 = PlanTensors(shape, *FindTypeMix("Q4_K_M"), {});
  CHECK(TypeOf(q4, "token_embd.weight") == DType::kQ4_K);
  CHECK(TypeOf(q4, "output.weight") == DType::kQ6_K);
  CHECK(TypeOf(q4, "blk.0.ffn_gate_inp.weight") == DType::kF32);
  CHECK(TypeOf(q4, "blk.0.attn_norm.weight") == DType::kF32);
  CHECK(TypeOf(q4, "blk.0.ffn_gate_exps.weight") == DType::kQ4_K);
  CHECK(TypeOf(q4, "blk.3.attn_v.weight") == DType::kQ6_K);
  CHECK(TypeOf(q4, "blk.3.ffn_down_exps.weight") == DType::kQ6_K);
  CHECK(TypeOf(q4, "blk.0.ffn_down_exps.weight") == DType::kQ4_K);

  const auto q2 = PlanTensors(shape, *FindTypeMix("q2_k"), {});
  CHECK(TypeOf(q2, "blk.0.attn_qkv.weight") == DType::kQ4_K);
  CHECK(TypeOf(q2, "blk.0.attn_output.weight") == DType::kQ3_K);
  CHECK(TypeOf(q2, "blk.0.ffn_down_exps.weight") == DType::kQ3_K);

  const auto f16 = PlanTensors(shape, *FindTypeMix("f16"), {});
  CHECK(TypeOf(f16, "output.weight") == DType::kF16);

  const std::vector<TypeOverride> overrides = {{"_exps", DType::kQ2_K}};
  const auto mixed = PlanTensors(shape, *FindTypeMix("q4_k_m"), overrides);
  CHECK(TypeOf(mixed, "blk.3.ffn_down_exps.weight") == DType::kQ2_K);
  CHECK(TypeOf(mixed, "blk.3.attn_v.weight") == DType::kQ6_K);
  // The second never decides, and is no mistake.
  const std::vector<TypeOverride> both = {{"_exps", DType::kQ2_K}, {"down_exps", DType::kQ6_K}};
  CHECK(TypeOf(PlanTensors(shape, *FindTypeMix("q4_k_m"), both), "blk.3.ffn_down_exps.weight") ==
        DType::kQ2_K);
  const std::vector<TypeOverride> unknown = {{"_exps", DType::kQ2_K}, {"nosuch", DType::kQ6_K}};
  CHECK_THROWS_WITH(PlanTensors(shape, *FindTypeMix("q4_k_m"), unknown), test::HasText("nosuch"));
}

TEST_CASE("impossible shapes are refused by the flag's name") {
  SynthShape shape;
  shape.n_layers = 1;
  CHECK_THROWS_AS(PlanTensors(shape, *FindTypeMix("q8_0"), {}), std::runtime_error);
  shape = SynthShape();
  shape.hidden_size = 6150;
  CHECK_THROWS_AS(PlanTensors(shape, *FindTypeMix("q8_0"), {}), std::runtime_error);
  CHECK(FindTypeMix("q9_k") == nullptr);
}

TEST_CASE("M1's special tokens lie at M1's ids") {
  const SynthVocabulary vocabulary = MakeSynthVocabulary(200064);
  REQUIRE(vocabulary.tokens.size() == 200064);
  CHECK(vocabulary.merges.size() == 199744);
  CHECK(vocabulary.bos_id == 200019);
  CHECK(vocabulary.eos_id == 200020);
  CHECK(vocabulary.tokens[200019] == "<beginning_of_sentence>");
  CHECK(vocabulary.tokens[200020] == "<end_of_sentence>");
  CHECK(vocabulary.tokens[200034] == "<begin_of_document>");
  CHECK(vocabulary.tokens[200063] == "[PAD200063]");
  CHECK(vocabulary.types[200034] == 3);
  CHECK(vocabulary.types[200063] == 5);
  const std::set<std::string> distinct(vocabulary.tokens.begin(), vocabulary.tokens.end());
  CHECK(distinct.size() == vocabulary.tokens.size());
}

TEST_CASE("the file opens as what was asked for, whatever the number of threads") {
  const test::TempDir dir;
  SynthRequest request = SmallRequest(dir / "a.gguf");
  const SynthResult result = WriteSynthModel(request);
  CHECK(result.complete);
  CHECK(result.file_bytes == std::filesystem::file_size(dir / "a.gguf"));
  const auto store = WeightStore::Open(dir / "a.gguf");
  CHECK(store->config().n_layers == 4);
  CHECK(store->config().attention[3] == AttentionKind::kSoftmax);
  CHECK(store->config().attention[2] == AttentionKind::kLightning);
  CHECK(store->config().n_experts == 4);

  request.path = dir / "b.gguf";
  request.n_threads = 3;
  WriteSynthModel(request);
  CHECK(test::ReadFile(dir / "a.gguf") == test::ReadFile(dir / "b.gguf"));
}

TEST_CASE("an interrupted file leaves nothing behind") {
  const test::TempDir dir;
  SynthRequest request = SmallRequest(dir / "a.gguf");
  const std::atomic<bool> stop = true;
  request.stop = &stop;
  CHECK_FALSE(WriteSynthModel(request).complete);
  CHECK(std::filesystem::is_empty(dir.path()));
}

TEST_CASE("the sample text is a few kilobytes") {
  CHECK(SampleText().size() > 5000);
  CHECK(SampleText().size() < 10000);
}

}  // namespace
}  // namespace stoker
