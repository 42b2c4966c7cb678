// Sessions and batches of a small model: where a prompt is cut changes no bit, whatever prefix was
// there, and sequences of one batch do not disturb each other on several nodes.

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <span>
#include <vector>

#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"
#include "tests/support/run_model.h"
#include "tests/support/synth_model.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

const std::filesystem::path& Model() {
  static const test::TempDir dir;
  static const std::filesystem::path path = [] {
    SynthShape shape = testing::SmallShape();
    shape.context_length = 16384;
    testing::WriteModel(dir / "model.gguf", shape, "q8_0");
    return dir / "model.gguf";
  }();
  return path;
}

EngineOptions Options(int64_t n_ctx) {
  EngineOptions options = testing::OptionsFor(Model());
  options.n_ctx = n_ctx;
  options.n_threads = 2;
  options.pin_threads = false;
  options.mode = MemoryMode::kResident;
  return options;
}

std::vector<TokenId> Tokens(int64_t n) {
  std::vector<TokenId> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<TokenId>((7 + 31 * i * i) % 512));
  return ids;
}

TEST_CASE("the length of chunks changes no bit of a prompt that goes on from an odd place") {
  const auto engine = Engine::Open(Options(512));
  const std::vector<TokenId> prompt = Tokens(400);
  const auto logits = [&](int64_t chunk) {
    const std::unique_ptr<Session> session = engine->NewSession();
    GenerateOptions options;
    session->Prefill(std::span(prompt).first(100), options);
    options.chunk_tokens = chunk;
    const GenerateStats stats = session->Prefill(prompt, options);
    CHECK(stats.reused_tokens == 100);
    CHECK(stats.prefilled_tokens == 300);
    return std::vector<float>(session->logits().begin(), session->logits().end());
  };
  const std::vector<float> expected = logits(512);
  for (const int64_t chunk : {70, 100, 128, 250}) {
    CAPTURE(chunk);
    CHECK(logits(chunk) == expected);
  }
}

TEST_CASE("a prompt that is there already is answered from its logits, again and again") {
  const auto engine = Engine::Open(Options(512));
  const std::vector<TokenId> prompt = Tokens(80);
  const std::unique_ptr<Session> session = engine->NewSession();
  session->Prefill(prompt, {});
  const std::vector<float> first(session->logits().begin(), session->logits().end());
  session->Feed(5);
  const std::vector<float> next(session->logits().begin(), session->logits().end());
  for (int again = 0; again < 2; ++again) {
    const GenerateStats stats = session->Prefill(prompt, {});
    CHECK(stats.reused_tokens == 80);
    CHECK(stats.prefilled_tokens == 0);
    CHECK(std::vector<float>(session->logits().begin(), session->logits().end()) == first);
    session->Feed(5);
    CHECK(std::vector<float>(session->logits().begin(), session->logits().end()) == next);
  }
}

TEST_CASE("deep sequences of one batch do not disturb each other on several nodes") {
  EngineOptions options = Options(9100);
  options.numa.virtual_nodes = 2;
  const auto engine = Engine::Open(options);
  static constexpr int64_t kDepths[] = {3000, 9000, 5000};
  const std::vector<TokenId> ids = Tokens(9000);
  struct Rows : ForwardSink {
    std::vector<std::vector<float>> logits = std::vector<std::vector<float>>(std::size(kDepths));
    void OnLogits(int64_t run, int64_t, std::span<const float> row) override {
      logits[static_cast<size_t>(run)].assign(row.begin(), row.end());
    }
  };
  std::vector<std::unique_ptr<SequenceState>> states;
  for (const int64_t depth : kDepths) {
    states.push_back(std::make_unique<SequenceState>(engine->model().NewState(9100)));
    Rows unused;
    const TokenRun run{states.back().get(), std::span(ids).first(static_cast<size_t>(depth)),
                       LogitRows::kNone};
    REQUIRE(engine->model().Forward({&run, 1}, unused));
  }
  for (TokenId id = 1; id <= 20; ++id) {
    CAPTURE(id);
    std::vector<SequenceState::Snapshot> before(std::size(kDepths));
    std::vector<TokenRun> runs;
    Rows alone;
    Rows batch;
    for (size_t i = 0; i < states.size(); ++i) {
      states[i]->Save(before[i]);
      runs.push_back({states[i].get(), {&id, 1}, LogitRows::kLast});
      Rows one;
      REQUIRE(engine->model().Forward({&runs.back(), 1}, one));
      alone.logits[i] = one.logits[0];
      states[i]->Restore(before[i]);
    }
    REQUIRE(engine->model().Forward(runs, batch));
    for (size_t i = 0; i < states.size(); ++i) {
      CHECK(test::RelativeError(batch.logits[i], alone.logits[i]) < 1e-5);
    }
  }
}

}  // namespace
}  // namespace stoker
