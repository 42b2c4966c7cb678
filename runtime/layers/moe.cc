#include "runtime/layers/moe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "numa/check.h"
#include "runtime/kernels/vector_ops.h"
#include "runtime/layers/projections_ahead.h"

namespace stoker {
namespace {

// Experts told to policies and traces beyond the top_k of a token: nearly chosen, and therefore
// likelier than others next time.
constexpr int64_t kRunnerUps = 2;

// Rows of an arriving matrix multiplied at a time, at least: whole strips for every worker. What is
// left at the end is not cut off if it is less, since few rows would be taken for a small matrix.
constexpr int64_t kArrivingRows = 256;

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
    const Worker local = worker.OnNode();
    NodeWorkspace& node = ws.nodes[static_cast<size_t>(worker.node)];
    node.expert_acts.Gather(local, node.hidden_acts, rows, in_forms);
    local.Barrier();
    matmul.Multiply(worker, expert.gate, node.expert_acts, ws.expert_gate, f);
    matmul.Multiply(worker, expert.up, node.expert_acts, ws.expert_up, f);
    // Gate and up are cut alike, so what a worker needs here it has just computed itself.
    const auto [begin, end] = RowShare(worker, expert.gate);
    for (int64_t row = 0; row < m; ++row) {
      float* gate = ws.expert_gate + row * f + begin;
      SwiGlu(gate, ws.expert_up + row * f + begin, gate, end - begin);
    }
    worker.Barrier();  // exchange: the intermediate
    node.middle_acts.Prepare(local, ws.expert_gate, m, f, f, middle_forms);
    local.Barrier();
    matmul.Multiply(worker, expert.down, node.middle_acts, out, config.hidden_size);
  });
}

// The two experts of one token side by side: the nodes then meet once between the products, not
// once for each expert. The same products as RunExpert's.
struct PairedExpert {
  const ExpertView* view;
  float* out;   // [H]
  float* gate;  // [F] scratch
  float* up;    // [F] scratch
};

void RunPair(LayerContext& context, const std::array<PairedExpert, 2>& pair) {
  const ModelConfig& config = context.config;
  MatmulBackend& matmul = context.matmul;
  const int64_t f = config.expert_hidden_size;
  context.team.Run([&](const Worker& worker) {
    const Worker local = worker.OnNode();
    NodeWorkspace& node = context.ws.nodes[static_cast<size_t>(worker.node)];
    const std::array<Activations*, 2> middle = {&node.middle_acts, &node.second_middle_acts};
    for (const PairedExpert& expert : pair) {
      const auto [begin, end] = RowShare(worker, expert.view->gate);
      matmul.Multiply(worker, expert.view->gate, node.hidden_acts, expert.gate, f);
      matmul.Multiply(worker, expert.view->up, node.hidden_acts, expert.up, f);
      SwiGlu(expert.gate + begin, expert.up + begin, expert.gate + begin, end - begin);
    }
    worker.Barrier();  // exchange: the intermediates
    for (size_t i = 0; i < pair.size(); ++i) {
      middle[i]->Prepare(local, pair[i].gate, 1, f, f, matmul.FormsFor(pair[i].view->down.type, 1));
    }
    local.Barrier();
    for (size_t i = 0; i < pair.size(); ++i) {
      matmul.Multiply(worker, pair[i].view->down, *middle[i], pair[i].out, config.hidden_size);
    }
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

int64_t RoutesPerToken(const ModelConfig& config) {
  return std::min(config.n_experts_per_token + kRunnerUps, config.n_experts);
}

// The one with the largest logit of those that are not `taken`; of equals the first, and NaN is
// never larger. -1 when all are.
template <typename Taken>
int32_t BestExpert(std::span<const float> logits, Taken&& taken) {
  int32_t best = -1;
  for (int32_t e = 0; e < static_cast<int32_t>(logits.size()); ++e) {
    if (best >= 0 && !(logits[e] > logits[best])) continue;
    if (!taken(e)) best = e;
  }
  return best;
}

// The best of one token, descending, with their share of the softmax over all experts.
void AppendRoutes(std::span<const float> logits, int64_t count, std::vector<RouterChoice>& out) {
  const float max = *std::max_element(logits.begin(), logits.end());
  float total = 0.0f;
  for (const float logit : logits) total += std::exp(logit - max);
  const size_t first = out.size();
  for (int64_t rank = 0; rank < count; ++rank) {
    const int32_t best = BestExpert(logits, [&](int32_t e) {
      return std::any_of(out.begin() + first, out.end(),
                         [e](const RouterChoice& c) { return c.expert == e; });
    });
    out.push_back({static_cast<uint16_t>(best), std::exp(logits[best] - max) / total});
  }
}

void DescribeRoutes(const LayerContext& context, bool all_tokens, ExpertRequest& request) {
  const int64_t n_experts = context.config.n_experts;
  request.routes.clear();
  for (int64_t row = all_tokens ? 0 : context.n_tokens - 1; row < context.n_tokens; ++row) {
    AppendRoutes({context.ws.router_logits + row * n_experts, static_cast<size_t>(n_experts)},
                 RoutesPerToken(context.config), request.routes);
  }
}

// What f returns; the time that it takes is added to *seconds.
template <typename F>
auto Timed(double* seconds, F&& f) {
  const auto start = std::chrono::steady_clock::now();
  auto result = f();
  *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

// y = W x for rows of W as they arrive.
void MultiplyArriving(LayerContext& context, const ExpertHandle& handle, ExpertPart part,
                      const TensorView& weight, const Activations& acts, float* y,
                      int64_t y_stride, double* wait_seconds) {
  int64_t done = 0;
  while (done < weight.rows()) {
    const bool last = weight.rows() - done < 2 * kArrivingRows;
    const int64_t least = last ? weight.rows() : done + kArrivingRows;
    int64_t ready = Timed(wait_seconds, [&] {
      int64_t rows = done;
      while (rows < least) rows = handle.WaitRows(part, rows);
      return rows;
    });
    if (ready < weight.rows()) {
      ready = std::min(ready, weight.rows() - kArrivingRows) / kArrivingRows * kArrivingRows;
    }
    const TensorView rows = weight.Rows(done, ready);
    context.team.Run([&](const Worker& worker) {
      context.matmul.Multiply(worker, rows, acts, y + done, y_stride);
    });
    done = ready;
  }
}

// RunExpert on an expert whose bytes are still coming. Same products, row for row; for teams of one
// node, because the rows of others come later.
void RunArriving(LayerContext& context, const ExpertHandle& handle, std::span<const int32_t> rows,
                 float* out, double* wait_seconds) {
  Workspace& ws = context.ws;
  MatmulBackend& matmul = context.matmul;
  const ExpertView& expert = handle.view();
  const int64_t m = static_cast<int64_t>(rows.size());
  const int64_t f = context.config.expert_hidden_size;
  const uint32_t in_forms =
      matmul.FormsFor(expert.gate.type, m) | matmul.FormsFor(expert.up.type, m);
  NodeWorkspace& node = ws.nodes.front();
  context.team.Run([&](const Worker& worker) {
    node.expert_acts.Gather(worker, node.hidden_acts, rows, in_forms);
  });
  MultiplyArriving(context, handle, ExpertPart::kGate, expert.gate, node.expert_acts,
                   ws.expert_gate, f, wait_seconds);
  MultiplyArriving(context, handle, ExpertPart::kUp, expert.up, node.expert_acts, ws.expert_up, f,
                   wait_seconds);
  context.team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(m * f, 64);
    SwiGlu(ws.expert_gate + begin, ws.expert_up + begin, ws.expert_gate + begin, end - begin);
    worker.Barrier();
    node.middle_acts.Prepare(worker, ws.expert_gate, m, f, f, matmul.FormsFor(expert.down.type, m));
  });
  MultiplyArriving(context, handle, ExpertPart::kDown, expert.down, node.middle_acts, out,
                   context.config.hidden_size, wait_seconds);
}

// What products have made of the expert's matrices.
void NoteLayouts(const LayerContext& context, ExpertHandle& handle) {
  const MatmulBackend& matmul = context.matmul;
  const ExpertView& view = handle.view();
  handle.SetLayouts(matmul.LayoutAfter(view.gate), matmul.LayoutAfter(view.up),
                    matmul.LayoutAfter(view.down));
}

// Until all rows are there; their number.
int64_t WaitComplete(const ExpertHandle& handle) {
  return handle.WaitRows(ExpertPart::kGate, handle.view().gate.rows() - 1) +
         handle.WaitRows(ExpertPart::kUp, handle.view().up.rows() - 1) +
         handle.WaitRows(ExpertPart::kDown, handle.view().down.rows() - 1);
}

// An expert that has been handed out: as it comes when its tokens fit into the scratch, else piece
// by piece when it is complete. Several nodes wait for all of it: the rows of later ones come last.
void RunHandle(LayerContext& context, ExpertHandle& handle, const ExpertGroups& groups,
               ExpertCosts& costs) {
  const int32_t expert = handle.id().expert;
  const std::span<const int32_t> rows = groups.rows(expert);
  const int64_t hidden = context.config.hidden_size;
  float* out = context.ws.expert_out + groups.first_slot(expert) * hidden;
  const bool one_node = context.ws.nodes.size() == 1;
  if (!handle.complete() && one_node && std::ssize(rows) <= kPieceTokens) {
    RunArriving(context, handle, rows, out, &costs.wait_seconds);
    NoteLayouts(context, handle);
    return;
  }
  if (!handle.complete()) {
    Timed(&costs.wait_seconds, [&] { return WaitComplete(handle); });
  }
  constexpr auto kRows = static_cast<size_t>(kPieceTokens);
  for (size_t first = 0; first < rows.size(); first += kRows) {
    const auto piece = rows.subspan(first, std::min(kRows, rows.size() - first));
    RunExpert(context, handle.view(), piece, out + static_cast<int64_t>(first) * hidden);
    NoteLayouts(context, handle);
  }
}

// One token's two experts. Holding the first while the second is asked for is allowed, because two
// slots are the fewest a cache has.
void RunTokenPair(LayerContext& context, ExpertSource& source, const ExpertGroups& groups,
                  ExpertCosts& costs) {
  ExpertHandle first = Timed(&costs.wait_seconds, [&] { return source.Next(); });
  ExpertHandle second = Timed(&costs.wait_seconds, [&] { return source.NextArriving(); });
  for (const ExpertHandle* handle : {&first, &second}) {
    const ExpertView& view = handle->view();
    costs.weight_bytes += view.gate.bytes + view.up.bytes + view.down.bytes;
  }
  if (!second.complete()) {
    RunHandle(context, first, groups, costs);
    RunHandle(context, second, groups, costs);
    return;
  }
  Workspace& ws = context.ws;
  const int64_t hidden = context.config.hidden_size;
  const int64_t f = context.config.expert_hidden_size;
  RunPair(context,
          {{{&first.view(), ws.expert_out + groups.first_slot(first.id().expert) * hidden,
             ws.expert_gate, ws.expert_up},
            {&second.view(), ws.expert_out + groups.first_slot(second.id().expert) * hidden,
             ws.expert_gate + f, ws.expert_up + f}}});
  NoteLayouts(context, first);
  NoteLayouts(context, second);
}

}  // namespace

void PickExperts(std::span<const float> logits, std::span<int32_t> ids, std::span<float> weights) {
  float total = 0.0f;
  for (size_t rank = 0; rank < ids.size(); ++rank) {
    const int32_t best = BestExpert(logits, [&](int32_t e) {
      return std::find(ids.begin(), ids.begin() + rank, e) != ids.begin() + rank;
    });
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

ExpertRequest::ExpertRequest(const ModelConfig& config, int64_t max_tokens) {
  ids.reserve(static_cast<size_t>(config.n_experts));
  contexts.reserve(static_cast<size_t>(config.n_experts));
  routes.reserve(static_cast<size_t>(max_tokens * RoutesPerToken(config)));
}

void AddExperts(const LayerContext& context, const ExpertGroups& groups, const NodeWorkspace& node,
                int64_t row, float* x) {
  const ModelConfig& config = context.config;
  const int64_t hidden = config.hidden_size;
  const int64_t top_k = config.n_experts_per_token;
  const float* const residual = (config.postnorm ? node.h : node.y) + row * hidden;
  std::fill_n(x, hidden, 0.0f);
  for (int64_t rank = 0; rank < top_k; ++rank) {
    Axpy(context.ws.router_weights[static_cast<size_t>(row * top_k + rank)],
         context.ws.expert_out + groups.slot(row, rank) * hidden, x, hidden);
  }
  ScaleAdd(config.moe_alpha, residual, config.moe_beta, x, x, hidden);
}

void RunExperts(LayerContext& context, int64_t layer, int64_t first_token,
                const ExpertGroups& groups, ExpertSource& source, ExpertRequest& request,
                ProjectionsAhead& ahead, ExpertCosts& costs) {
  DescribeExperts(context, layer, first_token, groups, request);
  DescribeRoutes(context, source.wants_all_routes(), request);
  source.DescribeRequest({request.contexts, request.routes,
                          static_cast<uint16_t>(RoutesPerToken(context.config)),
                          static_cast<uint32_t>(context.n_tokens)});
  source.Request(request.ids);
  source.Poll();
  if (context.n_tokens == 1 && request.ids.size() == 2) {
    RunTokenPair(context, source, groups, costs);
    return;
  }
  for (size_t i = 0; i < request.ids.size(); ++i) {
    while (ahead.CanRun() && !source.Ready()) ahead.Run(context, groups);
    // The last one can be multiplied while it arrives; before it there is another to compute on.
    const bool last = i + 1 == request.ids.size();
    ExpertHandle handle = Timed(&costs.wait_seconds,
                                [&] { return last ? source.NextArriving() : source.Next(); });
    const ExpertView& view = handle.view();
    costs.weight_bytes += view.gate.bytes + view.up.bytes + view.down.bytes;
    RunHandle(context, handle, groups, costs);
    ahead.ExpertDone(groups.rows(handle.id().expert));
  }
}

}  // namespace stoker
