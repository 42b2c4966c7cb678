// Sessions on a reference model: greedy generation, and reuse of whatever prefix the state can
// stand on, which must never change a result.

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <vector>

#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/golden_file.h"
#include "tests/support/near.h"

namespace stoker {
namespace {

using testing::GoldenDirectory;
using testing::ReadGolden;

constexpr int64_t kContext = 128;

std::unique_ptr<Engine> OpenTiny() {
  EngineOptions options;
  options.model_path = GoldenDirectory() / "tiny";
  options.n_ctx = kContext;
  options.need_tokenizer = false;
  return Engine::Open(options);
}

std::vector<int32_t> Golden(const char* name) {
  return ReadGolden(GoldenDirectory() / "tiny" / "golden.safetensors", name).i32;
}

// The logits after `prompt` in a session that knows nothing.
std::vector<float> Fresh(Engine& engine, std::span<const TokenId> prompt) {
  const std::unique_ptr<Session> session = engine.NewSession();
  session->Prefill(prompt, {});
  return {session->logits().begin(), session->logits().end()};
}

bool Same(std::span<const float> a, std::span<const float> b) {
  return test::RelativeError(a, b) <= 1e-5;
}

TEST_CASE("greedy generation gives the reference ids and says why it stopped") {
  const auto engine = OpenTiny();
  const std::vector<int32_t> prompt = Golden("prompt_ids");
  const std::vector<int32_t> expected = Golden("decode_ids");
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  Sampler sampler(greedy, engine->config().vocab_size);
  std::vector<int32_t> ids;
  GenerateOptions options;
  options.max_tokens = static_cast<int64_t>(expected.size());
  options.on_token = [&](TokenId id) { ids.push_back(id); };
  const auto session = engine->NewSession();
  const GenerateStats stats = session->Generate(prompt, sampler, options);
  CHECK(ids == expected);
  CHECK(stats.stop_reason == StopReason::kLength);
  CHECK(stats.generated_tokens == 16);
  CHECK(stats.decode_steps == 15);
  CHECK(stats.prompt_tokens == 70);

  const TokenId end[] = {expected[3]};
  options.end_tokens = end;
  ids.clear();
  const GenerateStats ended = session->Generate(prompt, sampler, options);
  CHECK(ended.stop_reason == StopReason::kEndToken);
  CHECK(ended.reused_tokens == 70);  // the snapshot at the prompt's end
  const auto first_end = std::find(expected.begin(), expected.end(), expected[3]);
  CHECK(ids == std::vector<int32_t>(expected.begin(), first_end));
}

TEST_CASE("a full context ends the generation") {
  const auto engine = OpenTiny();
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  Sampler sampler(greedy, engine->config().vocab_size);
  const auto session = engine->NewSession();
  const GenerateStats stats = session->Generate(Golden("prompt_ids"), sampler, {});
  CHECK(stats.stop_reason == StopReason::kContextFull);
  CHECK(session->tokens().size() == kContext);
}

TEST_CASE("reuse of prefixes never changes the logits") {
  const auto engine = OpenTiny();
  const std::vector<int32_t> all = Golden("long_ids");
  const std::span<const int32_t> ids = std::span(all).first(100);
  const auto session = engine->NewSession();

  CHECK(session->Prefill(ids.first(50), {}).reused_tokens == 0);
  session->Feed(ids[50]);
  session->Feed(ids[51]);
  CHECK(session->Prefill(ids.first(60), {}).reused_tokens == 52);  // the whole state
  CHECK(Same(session->logits(), Fresh(*engine, ids.first(60))));

  CHECK(session->Prefill(ids.first(60), {}).reused_tokens == 60);  // nothing to do
  CHECK(Same(session->logits(), Fresh(*engine, ids.first(60))));

  session->Feed(1);
  session->Feed(2);
  CHECK(session->Prefill(ids.first(60), {}).reused_tokens == 60);  // back to the snapshot
  CHECK(Same(session->logits(), Fresh(*engine, ids.first(60))));

  session->Feed(1);
  CHECK(session->Prefill(ids.first(80), {}).reused_tokens == 60);
  CHECK(Same(session->logits(), Fresh(*engine, ids.first(80))));

  CHECK(session->Prefill(ids.first(70), {}).reused_tokens == 0);  // a state cannot be cut back
  CHECK(Same(session->logits(), Fresh(*engine, ids.first(70))));
}

TEST_CASE("refusals and interrupts leave a session usable") {
  const auto engine = OpenTiny();
  const std::vector<int32_t> all = Golden("long_ids");
  const auto session = engine->NewSession();
  CHECK_THROWS_AS(session->Prefill({}, {}), std::invalid_argument);
  CHECK_THROWS_AS(session->Prefill(all, {}), std::invalid_argument);  // 300 in a context of 128
  const std::vector<int32_t> unknown = {1, 2, 100000};
  CHECK_THROWS_AS(session->Prefill(unknown, {}), std::invalid_argument);

  const std::span<const int32_t> prompt = std::span(all).first(90);
  std::atomic<bool> stop{false};
  GenerateOptions options;
  options.chunk_tokens = 30;
  options.stop = &stop;
  options.on_prefill = [&](int64_t done, int64_t) { stop = done >= 60; };
  CHECK(session->Prefill(prompt, options).stop_reason == StopReason::kInterrupted);
  CHECK(session->tokens().size() == 60);
  const GenerateStats rest = session->Prefill(prompt, {});
  CHECK(rest.reused_tokens == 60);
  CHECK(Same(session->logits(), Fresh(*engine, prompt)));
}

}  // namespace
}  // namespace stoker
