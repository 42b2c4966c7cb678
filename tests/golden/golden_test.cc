// The forward pass against the reference checkpoints: logits, every layer's output, router choices,
// greedy decoding, lightning states, a longer prompt; and the equalities that must hold whatever
// the chunk length, thread count and memory mode. Tolerances are relative to the largest absolute
// expected value.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "numa/cpu_features.h"
#include "runtime/engine.h"
#include "runtime/layers/lightning_attention.h"
#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"
#include "tests/support/golden_file.h"
#include "tests/support/near.h"
#include "tests/support/run_model.h"

namespace stoker {
namespace {

using testing::CollectingSink;
using testing::GoldenArray;
using testing::GoldenDirectory;
using testing::OptionsFor;
using testing::ReadGolden;
using testing::Run;
using test::RelativeError;

constexpr double kLogitTolerance = 1e-4;

// Mean over rows of KL(softmax(expected) || softmax(got)).
double MeanKl(std::span<const float> got, std::span<const float> expected, int64_t vocab) {
  const int64_t rows = static_cast<int64_t>(got.size()) / vocab;
  const auto log_sum = [&](const float* x) {
    double max = x[0];
    for (int64_t i = 1; i < vocab; ++i) max = std::max<double>(max, x[i]);
    double sum = 0.0;
    for (int64_t i = 0; i < vocab; ++i) sum += std::exp(x[i] - max);
    return max + std::log(sum);
  };
  double total = 0.0;
  for (int64_t r = 0; r < rows; ++r) {
    const float* g = got.data() + r * vocab;
    const float* e = expected.data() + r * vocab;
    const double lg = log_sum(g);
    const double le = log_sum(e);
    for (int64_t i = 0; i < vocab; ++i) total += std::exp(e[i] - le) * ((e[i] - le) - (g[i] - lg));
  }
  return total / static_cast<double>(rows);
}

std::unique_ptr<Engine> OpenModel(const std::filesystem::path& path, Precision precision,
                                  int n_threads = 0, MemoryMode mode = MemoryMode::kAuto) {
  EngineOptions options = OptionsFor(path);
  options.n_threads = n_threads;
  options.precision = precision;
  options.mode = mode;
  return Engine::Open(options);
}

void CompareRouterIds(const ModelConfig& config, std::span<const int32_t> got,
                      const GoldenArray& expected, const GoldenArray& router_logits) {
  const int64_t experts = config.n_experts;
  const int64_t k = config.n_experts_per_token;
  int64_t compared = 0;
  for (size_t row = 0; row < expected.i32.size() / k; ++row) {
    std::vector<double> p(router_logits.f32.begin() + row * experts,
                          router_logits.f32.begin() + (row + 1) * experts);
    const double max = *std::max_element(p.begin(), p.end());
    double sum = 0.0;
    for (double& value : p) sum += value = std::exp(value - max);
    std::sort(p.rbegin(), p.rend());
    const double gap = (p[k - 1] - p[k]) / sum;
    const double order_gap = (p[0] - p[1]) / sum;
    if (gap <= 1e-4 || order_gap <= 1e-4) continue;
    for (int64_t i = 0; i < k; ++i) CHECK(got[row * k + i] == expected.i32[row * k + i]);
    ++compared;
  }
  CHECK(compared > static_cast<int64_t>(expected.i32.size() / k) * 9 / 10);
}

class Checkpoint {
 public:
  explicit Checkpoint(const std::string& name)
      : directory(GoldenDirectory() / name), file(directory / "golden.safetensors") {}
  GoldenArray Get(const std::string& key) const { return ReadGolden(file, key); }
  std::filesystem::path directory;
  std::filesystem::path file;
};

TEST_CASE("released checkpoint naming: prompt, layers, router, greedy, states, long prompt") {
  const std::string name = GENERATE(std::string("tiny"), std::string("tiny_ab"), std::string("kq"));
  CAPTURE(name);
  const Checkpoint golden(name);
  const auto engine = OpenModel(golden.directory, Precision::kFast);
  const ModelConfig& config = engine->config();
  SequenceState state = engine->model().NewState(512);

  const GoldenArray prompt = golden.Get("prompt_ids");
  const int64_t n = static_cast<int64_t>(prompt.i32.size());
  const CollectingSink sink = Run(*engine, state, prompt.i32, 0, true);
  CHECK(RelativeError(sink.logits, golden.Get("logits").f32) < kLogitTolerance);

  const GoldenArray positions = golden.Get("hidden_positions");
  std::vector<float> layer_out;
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    for (const int32_t position : positions.i32) {
      const float* row = sink.layer_out.data() + (layer * n + position) * config.hidden_size;
      layer_out.insert(layer_out.end(), row, row + config.hidden_size);
    }
  }
  CHECK(RelativeError(layer_out, golden.Get("layer_out").f32) < kLogitTolerance);
  CompareRouterIds(config, sink.router_ids, golden.Get("router_ids"), golden.Get("router_logits"));
  CHECK(RelativeError(sink.router_weights, golden.Get("router_weights").f32) < 1e-3);

  // Greedy: feed the argmax, compare the logits after each.
  const GoldenArray decode_ids = golden.Get("decode_ids");
  std::vector<float> last(sink.logits.end() - config.vocab_size, sink.logits.end());
  std::vector<float> decoded;
  for (const int32_t expected : decode_ids.i32) {
    const int32_t id =
        static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
    REQUIRE(id == expected);
    last = Run(*engine, state, {&id, 1}).logits;
    decoded.insert(decoded.end(), last.begin(), last.end());
  }
  CHECK(RelativeError(decoded, golden.Get("decode_logits").f32) < kLogitTolerance);

  const GoldenArray states = golden.Get("lightning_state_end");
  const float* lightning = state.Lightning(0, 0);
  CHECK(RelativeError(std::span(lightning, states.f32.size()), states.f32) < kLogitTolerance);

  SequenceState long_state = engine->model().NewState(512);
  const CollectingSink long_sink = Run(*engine, long_state, golden.Get("long_ids").i32);
  CHECK(RelativeError(long_sink.logits, golden.Get("long_logits").f32) < kLogitTolerance);
}

// How work is cut up and where weights come from is the same code at every level; the scalar
// kernels, ten times slower, see a part of the combinations only.
bool Scalar() { return ActiveIsaLevel() == IsaLevel::kScalar; }

TEST_CASE("chunk length, thread count and memory mode do not matter") {
  const std::string name = GENERATE(std::string("tiny"), std::string("tiny_ab"), std::string("kq"));
  CAPTURE(name);
  const Checkpoint golden(name);
  std::vector<int32_t> ids = golden.Get("long_ids").i32;
  if (Scalar()) ids.resize(name == "tiny" ? 100 : 40);
  const auto engine = OpenModel(golden.directory, Precision::kFast);
  SequenceState state = engine->model().NewState(512);
  const std::vector<float> whole = Run(*engine, state, ids).logits;
  for (const int64_t chunk : {1, 7, 16, 64, 256}) {
    CAPTURE(chunk);
    state.Reset();
    const std::vector<float> logits = Run(*engine, state, ids, chunk).logits;
    CHECK(RelativeError(logits, whole) < 1e-5);
    // Products of quantised weights have the same bits for every number of tokens.
    if (name == "kq" && chunk % kLightningBlock == 0) CHECK(logits == whole);
  }
  const auto one_thread = OpenModel(golden.directory, Precision::kFast, 1);
  SequenceState one_state = engine->model().NewState(512);
  CHECK(RelativeError(Run(*one_thread, one_state, ids).logits, whole) < 1e-5);
  const auto mapped = OpenModel(golden.directory, Precision::kFast, 0, MemoryMode::kMapped);
  SequenceState mapped_state = engine->model().NewState(512);
  CHECK(Run(*mapped, mapped_state, ids).logits == whole);
}

TEST_CASE("paged: any budget gives the bits of resident weights, in prefill and decode") {
  const Checkpoint golden("kq");
  const std::vector<int32_t> ids = golden.Get("prompt_ids").i32;
  const auto resident = OpenModel(golden.directory, Precision::kFast, 0, MemoryMode::kResident);
  SequenceState state = resident->model().NewState(512);
  const std::vector<float> prefill = Run(*resident, state, ids).logits;
  const std::vector<float> decode = Run(*resident, state, {ids.data(), 20}, 1).logits;

  EngineOptions options = OptionsFor(golden.directory);
  options.mode = MemoryMode::kPaged;
  uint64_t whole_budget = 0;
  uint64_t cache_bytes = 0;
  {
    const auto engine = Engine::Open(options);
    for (const BudgetRow& row : engine->budget()) whole_budget += row.bytes;
    cache_bytes = engine->cache()->memory_bytes();
  }
  for (const uint64_t eighths : {8, 4, 1}) {
    for (const char* policy : {"auto", "lru", "random"}) {
      if (Scalar() && std::string(policy) != "auto") continue;
      for (const IoBackend io : {IoBackend::kAuto, IoBackend::kPread, IoBackend::kMapped}) {
        if (Scalar() && io != IoBackend::kAuto) continue;
        CAPTURE(eighths, policy, IoBackendName(io));
        options.memory_bytes = whole_budget - cache_bytes + cache_bytes * eighths / 8;
        options.policy = policy;
        options.io = io;
        const auto engine = Engine::Open(options);
        SequenceState paged_state = engine->model().NewState(512);
        CHECK(Run(*engine, paged_state, ids).logits == prefill);
        CHECK(Run(*engine, paged_state, {ids.data(), 20}, 1).logits == decode);
        CHECK((engine->cache()->stats().evictions > 0) == (eighths < 8));
      }
    }
  }
}

TEST_CASE("several sequences in one batch give what each gives alone") {
  const Checkpoint golden("tiny");
  const std::vector<int32_t> ids = golden.Get("long_ids").i32;
  const auto engine = OpenModel(golden.directory, Precision::kFast);
  const ModelConfig& config = engine->config();
  const std::span<const int32_t> parts[] = {std::span(ids).first(40), std::span(ids).subspan(40, 1),
                                            std::span(ids).subspan(41, 130)};
  std::vector<std::unique_ptr<SequenceState>> states;
  std::vector<TokenRun> runs;
  for (const auto& part : parts) {
    states.push_back(std::make_unique<SequenceState>(engine->model().NewState(512)));
    runs.push_back({states.back().get(), part, LogitRows::kLast});
  }
  struct Last : ForwardSink {
    std::vector<std::vector<float>> logits = std::vector<std::vector<float>>(3);
    void OnLogits(int64_t run, int64_t, std::span<const float> row) override {
      logits[run].assign(row.begin(), row.end());
    }
  } batch;
  REQUIRE(engine->model().Forward(runs, batch, 64));
  for (size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    SequenceState alone = engine->model().NewState(512);
    const CollectingSink sink = Run(*engine, alone, parts[i]);
    const std::span<const float> last = std::span(sink.logits).last(config.vocab_size);
    CHECK(RelativeError(batch.logits[i], last) < 1e-5);
    CHECK(states[i]->position() == static_cast<int64_t>(parts[i].size()));
  }
}

TEST_CASE("GGUF: full-precision activations within 1e-3, integer activations within a KL bound") {
  struct Case {
    std::string file, golden, key;
    double max_kl;
  };
  const Case c = GENERATE(values<Case>({
      {"tiny-f32.gguf", "tiny-gguf-golden.safetensors", "f32", 1e-6},
      {"kq-q8_0.gguf", "kq-gguf-golden.safetensors", "q8_0", 0.01},
      {"kq-q6_k.gguf", "kq-gguf-golden.safetensors", "q6_k", 0.01},
      {"kq-q5_k_m.gguf", "kq-gguf-golden.safetensors", "q5_k_m", 0.08},
      {"kq-q4_k_m.gguf", "kq-gguf-golden.safetensors", "q4_k_m", 0.08},
      {"kq-q4_0.gguf", "kq-gguf-golden.safetensors", "q4_0", 0.08},
      {"kq-iq4_xs.gguf", "kq-gguf-golden.safetensors", "iq4_xs", 0.08},
      {"kq-q3_k_m.gguf", "kq-gguf-golden.safetensors", "q3_k_m", 0.08},
      {"kq-q2_k.gguf", "kq-gguf-golden.safetensors", "q2_k", 0.08},
  }));
  CAPTURE(c.file);
  const std::filesystem::path directory = GoldenDirectory();
  const GoldenArray prompt = ReadGolden(directory / c.golden, "prompt_ids");
  const GoldenArray logits = ReadGolden(directory / c.golden, c.key);

  const auto exact = OpenModel(directory / c.file, Precision::kExact);
  SequenceState exact_state = exact->model().NewState(512);
  const double error = RelativeError(Run(*exact, exact_state, prompt.i32).logits, logits.f32);
  CHECK(error < (c.key == "f32" ? kLogitTolerance : 1e-3));

  const auto fast = OpenModel(directory / c.file, Precision::kFast);
  SequenceState whole_state = fast->model().NewState(512);
  SequenceState step_state = fast->model().NewState(512);
  const double prefill_kl =
      MeanKl(Run(*fast, whole_state, prompt.i32).logits, logits.f32, fast->config().vocab_size);
  const double decode_kl =
      MeanKl(Run(*fast, step_state, prompt.i32, 1).logits, logits.f32, fast->config().vocab_size);
  std::printf("%-16s exact error %.2e   fast KL: prefill %.5f decode %.5f\n", c.file.c_str(), error,
              prefill_kl, decode_kl);
  CHECK(prefill_kl < c.max_kl);
  CHECK(decode_kl < c.max_kl);
}

}  // namespace
}  // namespace stoker
