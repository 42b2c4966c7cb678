// A whole model on a team of two virtual nodes: the bits of one node, and how often the nodes meet.

#include <memory>
#include <string>
#include <vector>

#include "numa/affinity.h"
#include "runtime/cli/synth_plan.h"
#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/synth_model.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

class Collector : public ForwardSink {
 public:
  void OnLogits(int64_t, int64_t, std::span<const float> logits) override {
    values.insert(values.end(), logits.begin(), logits.end());
  }
  std::vector<float> values;
};

struct Outcome {
  std::vector<float> logits;
  uint32_t meetings_of_a_token = 0;  // the last one
};

Outcome RunOn(const std::string& model, const char* numa, MemoryMode mode) {
  EngineOptions options;
  options.model_path = model;
  options.n_threads = 2;
  options.n_ctx = 64;
  options.chunk_tokens = 16;
  options.mode = mode;
  options.need_tokenizer = false;
  options.numa = ParseNumaChoice(numa);
  const std::unique_ptr<Engine> engine = Engine::Open(std::move(options));
  SequenceState state = engine->model().NewState(64);
  const std::vector<TokenId> ids = {5, 9, 300, 3, 41, 12, 8, 200, 77, 1, 2};
  Collector sink;
  Outcome outcome;
  const auto feed = [&](std::span<const TokenId> tokens) {
    const TokenRun run{&state, tokens, LogitRows::kAll};
    const uint32_t before = engine->team().n_meetings();
    REQUIRE(engine->model().Forward({&run, 1}, sink));
    outcome.meetings_of_a_token = engine->team().n_meetings() - before;
  };
  feed(std::span(ids).first(10));
  feed(std::span(ids).subspan(10));
  outcome.logits = std::move(sink.values);
  return outcome;
}

TEST_CASE("two nodes give the bits of one, and meet three times a layer inside regions") {
  if (ProcessCpus().size() < 2) return;
  const TempDir dir;
  for (const char* type : {"q4_k_m", "q8_0", "bf16"}) {
    CAPTURE(type);
    SynthShape shape = DemoShape();
    shape.n_layers = 4;
    shape.hidden_size = 256;
    shape.expert_hidden_size = 256;
    shape.vocab_size = 512;
    shape.n_experts = 8;
    const std::string model = (dir / (std::string(type) + ".gguf")).string();
    testing::WriteModel(model, shape, type);
    const Outcome one = RunOn(model, "off", MemoryMode::kResident);
    CHECK(one.meetings_of_a_token == 0);
    for (const char* numa : {"virtual:2", "virtual:3,1"}) {
      CAPTURE(numa);
      const Outcome two = RunOn(model, numa, MemoryMode::kResident);
      CHECK(two.logits == one.logits);
      // Heads, attention output, intermediates; the experts' outputs meet at the region's end.
      CHECK(two.meetings_of_a_token == 3 * 4);
      CHECK(RunOn(model, numa, MemoryMode::kPaged).logits == one.logits);
      CHECK(RunOn(model, numa, MemoryMode::kMapped).logits == one.logits);
    }
  }
}

}  // namespace
}  // namespace stoker::test
