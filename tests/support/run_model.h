#pragma once

// A model, opened and run whole: what tests of engines share.

#include <cstdint>
#include <filesystem>
#include <span>

#include "runtime/engine.h"
#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"

namespace stoker::testing {

// Room for 512 positions and no tokenizer.
inline EngineOptions OptionsFor(const std::filesystem::path& path) {
  EngineOptions options;
  options.model_path = path;
  options.n_ctx = 512;
  options.need_tokenizer = false;
  return options;
}

// All logits of `ids`, and with `layers` what leaves every layer.
inline CollectingSink Run(Engine& engine, SequenceState& state, std::span<const int32_t> ids,
                          int64_t chunk = 0, bool layers = false) {
  CollectingSink sink(engine.config(), static_cast<int64_t>(ids.size()), layers);
  const TokenRun run{&state, ids, LogitRows::kAll};
  const bool whole = engine.model().Forward({&run, 1}, sink, chunk);  // errors are the caller's
  REQUIRE(whole);
  return sink;
}

}  // namespace stoker::testing
