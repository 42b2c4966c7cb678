// The length of a prompt's chunks where nobody asks for one: 512, longer where measured rates say
// that prompts gain and memory and context allow it; and what was asked for otherwise.

#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "numa/bytes.h"
#include "runtime/chunk_length.h"
#include "runtime/cli/synth_plan.h"
#include "runtime/engine.h"
#include "runtime/memory_plan.h"
#include "tests/support/catch.h"
#include "tests/support/synth_model.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

const std::filesystem::path& Model() {
  static const test::TempDir dir;
  static const std::filesystem::path path = [] {
    testing::WriteModel(dir / "model.gguf", DemoShape(), "q8_0");
    return dir / "model.gguf";
  }();
  return path;
}

// What a plan with these rates chooses.
class Planner {
 public:
  Planner() : store_(WeightStore::Open(Model())) {
    pager_ = MakePager(IoBackend::kPread, PagerFiles(*store_, {}), {});
    rates.disk_bytes_per_second = [this] { return disk; };
  }

  int64_t ChunkTokens(MemoryMode mode, uint64_t memory_bytes, int64_t n_ctx = 8192) {
    EngineOptions options;
    options.n_ctx = n_ctx;
    options.mode = mode;
    options.memory_bytes = memory_bytes;
    options.chunk_tokens = asked;
    plan = PlanMemory(&options, *store_, pager_.get(), {WorkerPlace{}}, 16 * kGiB, rates);
    return options.chunk_tokens;
  }

  int64_t asked = 0;
  double disk = 1e9;
  PromptRates rates;
  MemoryPlan plan;

 private:
  std::unique_ptr<WeightStore> store_;
  std::unique_ptr<Pager> pager_;
};

ChunkCost Cost(int64_t tokens, double prompt, double decode) { return {tokens, prompt, decode}; }

TEST_CASE("a longer chunk is taken for what prompts gain by it") {
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 5.0)}) == 512);
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 0.0), Cost(1024, 0.98, 0.0)}) == 512);
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 0.0), Cost(1024, 0.9, 0.0)}) == 1024);
  // Eight tokens of a prompt for one that is decoded.
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 5.0), Cost(1024, 0.9, 5.7)}) == 1024);
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 5.0), Cost(1024, 0.9, 5.9)}) == 512);
  // A step that gains nothing is passed over, if the one behind it does.
  CHECK(ChooseChunk(std::vector{Cost(512, 1.0, 0.0), Cost(1024, 1.1, 0.0),
                                Cost(2048, 0.8, 0.0)}) == 2048);
}

TEST_CASE("chunks in memory: by how fast products are with more tokens for an expert") {
  Planner planner;
  CHECK(planner.ChunkTokens(MemoryMode::kResident, 4 * kGiB) == 512);
  // DemoShape has 32 experts, two a token: 32 tokens for each in a chunk of 512.
  for (size_t i = 1; i < ProductRates::kTokens.size(); ++i) {
    planner.rates.products.Set(DType::kQ8_0, i, 150e9);
  }
  CHECK(planner.ChunkTokens(MemoryMode::kResident, 4 * kGiB) == 1024);
  planner.rates.products.Set(DType::kQ8_0, ProductRates::kTokens.size() - 1, 250e9);
  CHECK(planner.ChunkTokens(MemoryMode::kResident, 4 * kGiB) == 4096);
  CHECK(planner.ChunkTokens(MemoryMode::kResident, 4 * kGiB, 2500) == 1024);
  CHECK(planner.plan.chunk_costs.size() == 3);
  planner.asked = 96;
  CHECK(planner.ChunkTokens(MemoryMode::kResident, 4 * kGiB) == 96);
  CHECK(planner.plan.chunk_costs.empty());
}

TEST_CASE("chunks of paged mode: by what reading costs them and what scratch costs the cache") {
  const auto store = WeightStore::Open(Model());
  PromptRates rates;
  double disk = 1e9;
  rates.disk_bytes_per_second = [&disk] { return disk; };
  const auto chosen = [&](uint32_t slots_of_512, uint32_t slots_of_1024) {
    return ChooseChunk(std::vector{EstimateChunk(*store, rates, 512, slots_of_512),
                                   EstimateChunk(*store, rates, 1024, slots_of_1024)});
  };
  CHECK(EstimateChunk(*store, rates, 512, 256).decode_seconds == 0.0);  // all experts
  // Half of the experts are read, in the time that 512 tokens are computed.
  const ChunkCost half = EstimateChunk(*store, rates, 512, 128);
  const double compute = EstimateChunk(*store, rates, 512, std::nullopt).prompt_seconds * 512;
  disk *= 128 * half.decode_seconds / (16 * 0.5) / compute;
  CHECK(Approx(EstimateChunk(*store, rates, 512, 128).prompt_seconds * 512) == 1.5 * compute);
  CHECK(Approx(EstimateChunk(*store, rates, 1024, 128).prompt_seconds * 1024) == 2.5 * compute);
  CHECK(chosen(128, 128) == 1024);
  CHECK(chosen(128, 126) == 1024);
  CHECK(chosen(128, 80) == 512);
  disk = std::numeric_limits<double>::infinity();
  CHECK(chosen(128, 128) == 512);
}

TEST_CASE("scratch leaves the cache some slots, and all weights their place") {
  Planner planner;
  planner.disk = 1e7;
  for (size_t i = 1; i < ProductRates::kTokens.size(); ++i) {
    planner.rates.products.Set(DType::kQ8_0, i, 1e9 * static_cast<double>(100 << i));
  }
  int64_t chunk = 0;
  for (uint64_t mib = 320; mib <= 1600; mib += 40) {
    CAPTURE(mib);
    chunk = planner.ChunkTokens(MemoryMode::kAuto, mib * kMiB);
    if (planner.plan.mode == MemoryMode::kPaged) CHECK(planner.plan.cache.n_slots >= 2);
    uint64_t sum = 0;
    for (const BudgetRow& row : planner.plan.rows) sum += row.bytes;
    CHECK(sum <= mib * kMiB);
  }
  CHECK(chunk == 4096);
}

// As a user meets it: rates of this machine, whatever they are.
TEST_CASE("the engine's plan has a length that was asked for, or one of those there are") {
  EngineOptions options;
  options.model_path = Model();
  options.n_threads = 1;
  options.memory_bytes = 2 * kGiB;
  const auto chunk_row = [&] {
    for (const BudgetRow& row : Engine::Plan(options).budget) {
      const std::string start = "workspace, chunks of ";
      if (row.what.starts_with(start)) return std::stoll(row.what.substr(start.size()));
    }
    return 0ll;
  };
  const int64_t chosen = chunk_row();
  CHECK(std::ranges::find(kChunkLengths, chosen) != std::end(kChunkLengths));
  options.chunk_tokens = 96;
  CHECK(chunk_row() == 96);
}

}  // namespace
}  // namespace stoker
