// The length of a prompt's chunks where nobody asks for one: 512, longer in paged mode as far as
// memory and context allow, and what was asked for otherwise.

#include <string>

#include "runtime/cli/synth_plan.h"
#include "runtime/cli/synth_writer.h"
#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

const std::filesystem::path& Model() {
  static const test::TempDir dir;
  static const std::filesystem::path path = [] {
    SynthRequest request;
    request.path = dir / "model.gguf";
    request.shape = DemoShape();
    request.mix = FindTypeMix("q8_0");
    WriteSynthModel(request);
    return dir / "model.gguf";
  }();
  return path;
}

EngineOptions Options(MemoryMode mode, uint64_t memory_bytes, int64_t n_ctx) {
  EngineOptions options;
  options.model_path = Model();
  options.n_threads = 1;
  options.n_ctx = n_ctx;
  options.mode = mode;
  options.memory_bytes = memory_bytes;
  return options;
}

// From the row of the budget table.
int64_t ChunkTokens(const EngineOptions& options) {
  for (const BudgetRow& row : Engine::Plan(options).budget) {
    const std::string start = "workspace, chunks of ";
    if (row.what.starts_with(start)) return std::stoll(row.what.substr(start.size()));
  }
  return 0;
}

TEST_CASE("chunks: 512 in memory, whatever the budget") {
  CHECK(ChunkTokens(Options(MemoryMode::kResident, 2ull << 30, 8192)) == 512);
}

TEST_CASE("chunks of paged mode grow with the budget, up to 4096 and the context") {
  int64_t before = 512;
  for (const uint64_t mib : {400, 800, 1600, 3200, 6400}) {
    const int64_t chunk = ChunkTokens(Options(MemoryMode::kPaged, mib << 20, 8192));
    CAPTURE(mib);
    CHECK(chunk >= before);
    before = chunk;
  }
  CHECK(before == 4096);
  CHECK(ChunkTokens(Options(MemoryMode::kPaged, 6400ull << 20, 1500)) == 1024);
  CHECK(ChunkTokens(Options(MemoryMode::kPaged, 6400ull << 20, 300)) == 512);
}

TEST_CASE("a length that was asked for is kept") {
  EngineOptions options = Options(MemoryMode::kPaged, 6400ull << 20, 8192);
  options.chunk_tokens = 96;
  CHECK(ChunkTokens(options) == 96);
}

}  // namespace
}  // namespace stoker
