#include "runtime/layers/moe.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "numa/check.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {
namespace {

void RunExpert(LayerContext& context, const ExpertView& expert, std::span<const int32_t> rows,
               float* out) {
  const ModelConfig& config = context.config;
  Workspace& ws = context.ws;
  MatmulBackend& matmul = context.matmul;
  const int64_t m = static_cast<int64_t>(rows.size());
  const int64_t f = config.expert_hidden_size;
  const uint32_t in_forms =
      matmul.FormsFor(expert.gate.type, m) | matmul.FormsFor(expert.up.type, m);
  const uint32_t middle_forms = matmul.FormsFor(expert.down.type, m);
  context.team.Run([&](const Worker& worker) {
    ws.expert_acts.Gather(worker, ws.hidden_acts, rows, in_forms);
    worker.Barrier();
    matmul.Multiply(worker, expert.gate, ws.expert_acts, ws.expert_gate, f);
    matmul.Multiply(worker, expert.up, ws.expert_acts, ws.expert_up, f);
    worker.Barrier();
    const auto [begin, end] = worker.Share(m * f, 64);
    SwiGlu(ws.expert_gate + begin, ws.expert_up + begin, ws.expert_gate + begin, end - begin);
    worker.Barrier();
    ws.middle_acts.Prepare(worker, ws.expert_gate, m, f, f, middle_forms);
    worker.Barrier();
    matmul.Multiply(worker, expert.down, ws.middle_acts, out, config.hidden_size);
  });
}

// Fills the request: ids ascending, and what the router thinks of each.
void DescribeExperts(const LayerContext& context, int64_t layer, int64_t first_token,
                     const ExpertGroups& groups, ExpertRequest& request) {
  const int64_t top_k = context.config.n_experts_per_token;
  const bool prefill = std::any_of(context.segments.begin(), context.segments.end(),
                                   [](const Segment& segment) { return segment.n_tokens > 1; });
  request.ids.clear();
  request.contexts.clear();
  for (const int32_t expert : groups.touched()) {
    AccessContext access;
    access.layer = static_cast<int32_t>(layer);
    access.token = first_token;
    access.rank = static_cast<int32_t>(top_k);
    access.phase = prefill ? Phase::kPrefill : Phase::kDecode;
    for (const int32_t row : groups.rows(expert)) {
      for (int64_t rank = 0; rank < top_k; ++rank) {
        if (context.ws.router_ids[row * top_k + rank] != expert) continue;
        access.rank = std::min(access.rank, static_cast<int32_t>(rank));
        access.gate_weight =
            std::max(access.gate_weight, context.ws.router_weights[row * top_k + rank]);
      }
    }
    request.ids.push_back({access.layer, expert});
    request.contexts.push_back(access);
  }
}

}  // namespace

void PickExperts(std::span<const float> logits, std::span<int32_t> ids, std::span<float> weights) {
  const int32_t n = static_cast<int32_t>(logits.size());
  float total = 0.0f;
  for (size_t rank = 0; rank < ids.size(); ++rank) {
    int32_t best = -1;
    for (int32_t e = 0; e < n; ++e) {
      const bool taken = std::find(ids.begin(), ids.begin() + rank, e) != ids.begin() + rank;
      if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    STOKER_CHECK(best >= 0);
    ids[rank] = best;
    weights[rank] = std::exp(logits[best] - logits[ids[0]]);
    total += weights[rank];
  }
  for (float& weight : weights) weight /= total;
}

ExpertGroups::ExpertGroups(int64_t n_experts, int64_t max_tokens, int64_t top_k)
    : n_experts_(n_experts),
      top_k_(top_k),
      offsets_(static_cast<size_t>(n_experts + 1)),
      cursor_(static_cast<size_t>(n_experts)),
      rows_(static_cast<size_t>(max_tokens * top_k)),
      slots_(static_cast<size_t>(max_tokens * top_k)) {
  touched_.reserve(static_cast<size_t>(n_experts));
}

void ExpertGroups::Assign(std::span<const int32_t> router_ids, int64_t n_tokens) {
  std::fill(offsets_.begin(), offsets_.end(), 0);
  for (int64_t i = 0; i < n_tokens * top_k_; ++i) ++offsets_[router_ids[i] + 1];
  touched_.clear();
  for (int64_t e = 0; e < n_experts_; ++e) {
    if (offsets_[e + 1] > 0) touched_.push_back(static_cast<int32_t>(e));
    offsets_[e + 1] += offsets_[e];
    cursor_[e] = offsets_[e];
  }
  for (int64_t row = 0; row < n_tokens; ++row) {
    for (int64_t rank = 0; rank < top_k_; ++rank) {
      const int64_t i = row * top_k_ + rank;
      const int64_t slot = cursor_[router_ids[i]]++;
      rows_[slot] = static_cast<int32_t>(row);
      slots_[i] = slot;
    }
  }
}

ExpertRequest::ExpertRequest(int64_t n_experts) {
  ids.reserve(static_cast<size_t>(n_experts));
  contexts.reserve(static_cast<size_t>(n_experts));
}

void RunExperts(LayerContext& context, int64_t layer, int64_t first_token,
                const ExpertGroups& groups, ExpertSource& source, ExpertRequest& request,
                ExpertCosts& costs) {
  DescribeExperts(context, layer, first_token, groups, request);
  source.DescribeRequest(request.contexts);
  source.Request(request.ids);
  for (size_t i = 0; i < request.ids.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    const ExpertHandle handle = source.Next();
    costs.wait_seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const ExpertView& view = handle.view();
    costs.weight_bytes += view.gate.bytes + view.up.bytes + view.down.bytes;
    const int32_t expert = handle.id().expert;
    RunExpert(context, view, groups.rows(expert),
              context.ws.expert_out + groups.first_slot(expert) * context.config.hidden_size);
  }
}

}  // namespace stoker
