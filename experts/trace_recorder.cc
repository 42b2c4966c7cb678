#include "experts/trace_recorder.h"

#include <algorithm>

namespace stoker {
namespace {

uint32_t Saturated(uint64_t value) {
  return static_cast<uint32_t>(std::min<uint64_t>(value, UINT32_MAX));
}

}  // namespace

TraceRecorder::TraceRecorder(const std::filesystem::path& path, const TraceHeader& header,
                             uint32_t max_tokens, uint16_t routes_per_token)
    : shape_(header.MakeConfig(header.capacity)),
      routes_per_token_(routes_per_token),
      start_(std::chrono::steady_clock::now()),
      accesses_(static_cast<size_t>(header.n_experts)),
      routes_(static_cast<size_t>(max_tokens) * routes_per_token),
      writer_(path, header) {
  next_.layer = -1;
}

void TraceRecorder::DescribeRouting(int32_t layer, int64_t token, uint32_t n_tokens, Phase phase,
                                    std::span<const RouterChoice> choices) noexcept {
  next_.layer = layer;
  next_.token = token;
  next_.n_tokens = n_tokens;
  next_.phase = phase;
  const bool fits = choices.size() <= routes_.size() &&
                    choices.size() == static_cast<size_t>(n_tokens) * routes_per_token_;
  n_routes_ = fits ? choices.size() : 0;
  std::copy_n(choices.begin(), n_routes_, routes_.begin());
}

void TraceRecorder::OnAccesses(std::span<const ExpertAccess> accesses) noexcept {
  if (accesses.empty()) return;
  const AccessContext& context = accesses.front().context;
  TraceRequest request;
  request.layer = accesses.front().id.layer;
  request.token = context.token;
  request.phase = context.phase;
  if (next_.layer == request.layer) {
    request.token = next_.token;
    request.n_tokens = next_.n_tokens;
    request.phase = next_.phase;
    request.routes = std::span(routes_).first(n_routes_);
    request.routes_per_token = n_routes_ > 0 ? routes_per_token_ : 0;
  }
  next_.layer = -1;
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  request.time_us =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
  const size_t n = std::min(accesses.size(), accesses_.size());
  for (size_t i = 0; i < n; ++i) {
    const ExpertAccess& access = accesses[i];
    accesses_[i] = {.entry = shape_.Entry(access.id),
                    .victim = access.victim,
                    .gate_weight = access.context.gate_weight,
                    .bytes = Saturated(access.bytes),
                    .wait_us = Saturated(access.wait_ns / 1000),
                    .rank = static_cast<uint8_t>(std::clamp(access.context.rank, 0, 255)),
                    .outcome = access.hit ? AccessOutcome::kHit : AccessOutcome::kMiss};
  }
  request.accesses = std::span(accesses_).first(n);
  writer_.Append(request);
}

}  // namespace stoker
