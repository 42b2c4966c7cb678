#include "experts/trace.h"

#include "numa/check.h"

namespace stoker {

PolicyConfig TraceHeader::MakeConfig(uint32_t capacity_entries) const {
  PolicyConfig config;
  config.n_layers = n_layers;
  config.n_experts = n_experts;
  config.top_k = top_k;
  config.capacity = capacity_entries;
  config.seed = seed;
  config.layer_cost.assign(expert_bytes.begin(), expert_bytes.end());
  return config;
}

void Trace::Append(const TraceRequest& request) {
  STOKER_CHECK(request.routes.size() ==
               static_cast<size_t>(request.n_tokens) * request.routes_per_token);
  rows_.push_back({request.kind, request.phase, request.routes_per_token, request.layer,
                   request.token, request.time_us, request.n_tokens,
                   static_cast<uint32_t>(request.accesses.size()), accesses_.size(),
                   routes_.size()});
  accesses_.insert(accesses_.end(), request.accesses.begin(), request.accesses.end());
  routes_.insert(routes_.end(), request.routes.begin(), request.routes.end());
}

TraceRequest Trace::operator[](size_t i) const {
  const Row& row = rows_[i];
  return {row.kind,
          row.phase,
          row.layer,
          row.token,
          row.n_tokens,
          row.time_us,
          std::span(accesses_).subspan(row.first_access, row.n_accesses),
          row.routes_per_token,
          std::span(routes_).subspan(row.first_route,
                                     static_cast<size_t>(row.n_tokens) * row.routes_per_token)};
}

uint64_t Trace::memory_bytes() const {
  return rows_.size() * sizeof(Row) + accesses_.size() * sizeof(TraceAccess) +
         routes_.size() * sizeof(RouterChoice);
}

}  // namespace stoker
