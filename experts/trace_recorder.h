#pragma once

// Writes what an ExpertSource tells its observer into a trace: joins what the router decided with
// what the cache did. Owns the writer. After construction nothing is allocated on the token path.
// Engine-thread only.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "experts/access_observer.h"
#include "experts/trace_io.h"

namespace stoker {

// The header of a trace of this model; `policy` and `capacity` of the cache that runs, "" and 0
// without one. The hash covers names, types and places of all tensors, not their values.
TraceHeader TraceHeaderFor(const WeightStore& store, const std::string& policy, uint32_t capacity,
                           uint64_t seed);

class TraceRecorder final : public AccessObserver {
 public:
  // max_tokens: of one forward pass; longer ones are recorded without their routes.
  // Throws as TraceWriter does.
  TraceRecorder(const std::filesystem::path& path, const TraceHeader& header, uint32_t max_tokens,
                uint16_t max_routes_per_token);

  bool wants_all_routes() const noexcept override { return true; }
  void OnRouting(const RequestInfo& info) noexcept override;
  void OnAccesses(std::span<const ExpertAccess> accesses) noexcept override;
  void OnExpected(std::span<const ExpertId> ids) noexcept override;
  void OnSpeculativeRead(const SpeculativeRead& read) noexcept override;

  // As TraceWriter::Close.
  void Close() { writer_.Close(); }
  uint64_t n_records() const { return writer_.n_records(); }

 private:
  uint64_t Now() const;

  const PolicyConfig shape_;
  const std::chrono::steady_clock::time_point start_;
  std::vector<TraceAccess> accesses_;  // [n_experts] at most
  std::vector<RouterChoice> routes_;   // [max_tokens, routes_per_token]
  size_t n_routes_ = 0;
  uint16_t routes_per_token_ = 0;
  uint32_t n_tokens_ = 1;
  int64_t token_ = 0;  // of the last request
  Phase phase_ = Phase::kDecode;
  TraceWriter writer_;
};

}  // namespace stoker
