#pragma once

// Joins what the router decided with what the cache did, and writes it to a trace: the engine calls
// DescribeRouting before each request, the cache calls OnAccesses when the request is over. Owns
// the writer. After construction nothing is allocated on the token path. Engine-thread only.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "experts/expert_cache.h"
#include "experts/trace_io.h"

namespace stoker {

class TraceRecorder final : public AccessObserver {
 public:
  // max_tokens: of one forward pass; routing of more is recorded without its choices.
  // routes_per_token: top_k and runner-ups. Throws as TraceWriter does.
  TraceRecorder(const std::filesystem::path& path, const TraceHeader& header, uint32_t max_tokens,
                uint16_t routes_per_token);

  // What the router of `layer` chose for tokens [token, token + n_tokens): [n_tokens,
  // routes_per_token], best first. Optional; belongs to the next OnAccesses of that layer.
  void DescribeRouting(int32_t layer, int64_t token, uint32_t n_tokens, Phase phase,
                       std::span<const RouterChoice> choices) noexcept;
  void OnAccesses(std::span<const ExpertAccess> accesses) noexcept override;

  // As TraceWriter::Close.
  void Close() { writer_.Close(); }
  uint64_t n_records() const { return writer_.n_records(); }

 private:
  const PolicyConfig shape_;
  const uint16_t routes_per_token_;
  const std::chrono::steady_clock::time_point start_;
  std::vector<TraceAccess> accesses_;  // [n_experts] at most
  std::vector<RouterChoice> routes_;   // [max_tokens, routes_per_token]
  size_t n_routes_ = 0;
  TraceRequest next_;  // described, layer -1 = not
  TraceWriter writer_;
};

}  // namespace stoker
