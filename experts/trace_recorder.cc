#include "experts/trace_recorder.h"

#include <xxhash.h>

#include <algorithm>

namespace stoker {
namespace {

uint32_t Saturated(uint64_t value) {
  return static_cast<uint32_t>(std::min<uint64_t>(value, UINT32_MAX));
}

uint64_t HashOf(const WeightStore& store) {
  std::string text;
  for (const StoredTensor& tensor : store.tensors()) {
    text += tensor.name + ' ' + std::string(Info(tensor.type).name) + ' ' +
            std::to_string(tensor.extent.file) + ' ' + std::to_string(tensor.extent.offset) + ' ' +
            std::to_string(tensor.extent.bytes) + '\n';
  }
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace

TraceHeader TraceHeaderFor(const WeightStore& store, const std::string& policy, uint32_t capacity,
                           uint64_t seed) {
  const ModelConfig& config = store.config();
  TraceHeader header;
  header.model_hash = HashOf(store);
  header.n_layers = static_cast<int32_t>(config.n_layers);
  header.n_experts = static_cast<int32_t>(config.n_experts);
  header.top_k = static_cast<int32_t>(config.n_experts_per_token);
  header.capacity = capacity;
  header.seed = seed;
  header.policy = policy;
  header.model = store.files().front().path.filename().string();
  std::vector<std::string> types;
  for (int32_t layer = 0; layer < header.n_layers; ++layer) {
    uint64_t bytes = 0;
    std::string of_layer;
    for (int p = 0; p < kExpertParts; ++p) {
      const ExpertPartExtent part = store.Expert({layer, 0}, static_cast<ExpertPart>(p));
      bytes += part.extent.bytes;
      of_layer += (p > 0 ? "/" : "") + std::string(Info(part.type).name);
    }
    header.expert_bytes.push_back(bytes);
    if (std::find(types.begin(), types.end(), of_layer) == types.end()) types.push_back(of_layer);
  }
  for (const std::string& of_layer : types) {
    header.types += (header.types.empty() ? "" : ", ") + of_layer;
  }
  return header;
}

TraceRecorder::TraceRecorder(const std::filesystem::path& path, const TraceHeader& header,
                             uint32_t max_tokens, uint16_t max_routes_per_token)
    : shape_(header.MakeConfig(header.capacity)),
      start_(std::chrono::steady_clock::now()),
      accesses_(static_cast<size_t>(header.n_experts)),
      routes_(static_cast<size_t>(max_tokens) * max_routes_per_token),
      writer_(path, header) {}

uint64_t TraceRecorder::Now() const {
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
}

void TraceRecorder::OnRouting(const RequestInfo& info) noexcept {
  n_tokens_ = info.n_tokens;
  routes_per_token_ = info.routes_per_token;
  const bool fits =
      info.routes.size() <= routes_.size() &&
      info.routes.size() == static_cast<size_t>(info.n_tokens) * info.routes_per_token;
  n_routes_ = fits ? info.routes.size() : 0;
  std::copy_n(info.routes.begin(), n_routes_, routes_.begin());
}

void TraceRecorder::OnAccesses(std::span<const ExpertAccess> accesses) noexcept {
  if (!accesses.empty()) {
    token_ = accesses.front().context.token;
    phase_ = accesses.front().context.phase;
    TraceRequest request;
    request.layer = accesses.front().id.layer;
    request.token = token_;
    request.phase = phase_;
    request.n_tokens = n_tokens_;
    request.time_us = Now();
    request.routes = std::span(routes_).first(n_routes_);
    request.routes_per_token = n_routes_ > 0 ? routes_per_token_ : 0;
    const size_t n = std::min(accesses.size(), accesses_.size());
    for (size_t i = 0; i < n; ++i) {
      const ExpertAccess& access = accesses[i];
      AccessOutcome outcome = access.hit ? AccessOutcome::kHit : AccessOutcome::kMiss;
      if (!access.known) outcome = AccessOutcome::kUnknown;
      accesses_[i] = {.entry = shape_.Entry(access.id),
                      .victim = access.victim,
                      .gate_weight = access.context.gate_weight,
                      .bytes = Saturated(access.bytes),
                      .wait_us = Saturated(access.wait_ns / 1000),
                      .rank = static_cast<uint8_t>(std::clamp(access.context.rank, 0, 255)),
                      .outcome = outcome};
    }
    request.accesses = std::span(accesses_).first(n);
    writer_.Append(request);
  }
  n_tokens_ = 1;
  n_routes_ = 0;
}

void TraceRecorder::OnExpected(std::span<const ExpertId> ids) noexcept {
  if (ids.empty()) return;
  TraceRequest request;
  request.kind = TraceKind::kProtect;
  request.layer = ids.front().layer;
  request.token = token_;
  request.phase = phase_;
  request.time_us = Now();
  const size_t n = std::min(ids.size(), accesses_.size());
  for (size_t i = 0; i < n; ++i) {
    accesses_[i] = TraceAccess{};
    accesses_[i].entry = shape_.Entry(ids[i]);
  }
  request.accesses = std::span(accesses_).first(n);
  writer_.Append(request);
}

void TraceRecorder::OnSpeculativeRead(const SpeculativeRead& read) noexcept {
  TraceRequest request;
  request.kind = TraceKind::kPrefetch;
  request.layer = read.id.layer;
  request.token = token_;
  request.phase = phase_;
  request.time_us = Now();
  accesses_[0] = TraceAccess{};
  accesses_[0].entry = shape_.Entry(read.id);
  accesses_[0].bytes = Saturated(read.bytes);
  accesses_[0].outcome = read.used ? AccessOutcome::kHitPrefetched : AccessOutcome::kMiss;
  request.accesses = std::span(accesses_).first(1);
  writer_.Append(request);
}

}  // namespace stoker
