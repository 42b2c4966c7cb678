#include "runtime/layers/projections_ahead.h"

#include <algorithm>
#include <array>
#include <utility>

#include "numa/check.h"
#include "runtime/kernels/vector_ops.h"

namespace stoker {
namespace {

// The widest set of projections of a layer.
int64_t ProjectedColumns(const ModelConfig& config) {
  const int64_t attn_width = config.n_heads * config.head_dim;
  return std::max(4 * attn_width, attn_width + 2 * config.n_kv_heads * config.head_dim);
}

// The forms that these products of m tokens read.
uint32_t FormsFor(const MatmulBackend& matmul, std::span<const Projection> projections, int64_t m) {
  uint32_t forms = 0;
  for (const Projection& projection : projections) {
    forms |= matmul.FormsFor(projection.weight->type, m);
  }
  return forms;
}

}  // namespace

ProjectionsAhead::ProjectionsAhead(const WorkspaceSize& size) : capacity_(size.rows_ahead) {
  if (capacity_ == 0) return;
  next_.reserve(4);
  experts_left_.reserve(static_cast<size_t>(size.max_tokens));
  finished_.reserve(static_cast<size_t>(size.max_tokens));
  stored_at_.reserve(static_cast<size_t>(size.max_tokens));
}

int64_t ProjectionsAhead::StoreFloats(const ModelConfig& config, const WorkspaceSize& size) {
  return size.rows_ahead * ProjectedColumns(config);
}

int64_t ProjectionsAhead::InputFloats(const ModelConfig& config, const WorkspaceSize& size) {
  return size.rows_ahead > 0 ? kGroupTokens * config.hidden_size : 0;
}

void ProjectionsAhead::Begin(const LayerContext& context, std::span<const Projection> next,
                             const float* gain) {
  STOKER_CHECK(n_stored_ == 0);
  if (capacity_ == 0 || context.n_tokens <= kPieceTokens) return;
  if ((FormsFor(context.matmul, next, kGroupTokens) & kActF32) != 0) return;
  next_.assign(next.begin(), next.end());
  gain_ = gain;
  const auto n_tokens = static_cast<size_t>(context.n_tokens);
  experts_left_.assign(n_tokens, static_cast<int32_t>(context.config.n_experts_per_token));
  stored_at_.assign(n_tokens, kNone);
}

int64_t ProjectionsAhead::Forget() {
  next_.clear();
  finished_.clear();
  stored_at_.clear();
  return std::exchange(n_stored_, 0);
}

void ProjectionsAhead::ExpertDone(std::span<const int32_t> rows) {
  if (next_.empty()) return;
  for (const int32_t row : rows) {
    if (--experts_left_[static_cast<size_t>(row)] == 0) finished_.push_back(row);
  }
}

void ProjectionsAhead::Run(LayerContext& context, const ExpertGroups& groups) {
  STOKER_CHECK(CanRun());
  const int64_t hidden = context.config.hidden_size;
  Workspace& ws = context.ws;
  NodeWorkspace& node = ws.nodes.front();
  const std::span<const int32_t> rows = std::span(finished_).last(kGroupTokens);
  const uint32_t forms = FormsFor(context.matmul, next_, kGroupTokens);
  context.team.Run([&](const Worker& worker) {
    const auto [begin, end] = worker.Share(kGroupTokens);
    for (int64_t i = begin; i < end; ++i) {
      float* const h = ws.ahead_input + i * hidden;
      AddExperts(context, groups, node, rows[static_cast<size_t>(i)], h);
      RmsNorm(h, gain_, context.config.rms_norm_eps, h, hidden);
    }
    worker.Barrier();
    node.expert_acts.Prepare(worker, ws.ahead_input, kGroupTokens, hidden, hidden, forms);
    worker.Barrier();
    int64_t columns = 0;
    for (const Projection& projection : next_) {
      const int64_t width = projection.weight->rows();
      context.matmul.Multiply(worker, *projection.weight, node.expert_acts,
                              Stored(ws, columns) + n_stored_ * width, width);
      columns += width;
    }
  });
  for (const int32_t row : rows) {
    stored_at_[static_cast<size_t>(row)] = static_cast<int32_t>(n_stored_++);
  }
  finished_.resize(finished_.size() - kGroupTokens);
}

void ProjectionsAhead::Project(const Worker& worker, LayerContext& piece, int64_t first_row,
                               std::span<const Projection> projections) const {
  const Worker local = worker.OnNode();
  NodeWorkspace& node = piece.ws.nodes[static_cast<size_t>(worker.node)];
  const int64_t hidden = piece.config.hidden_size;
  node.hidden_acts.Prepare(local, node.h + first_row * hidden, piece.n_tokens, hidden, hidden,
                           FormsFor(piece.matmul, projections, piece.n_tokens));
  local.Barrier();
  const Activations* acts = &node.hidden_acts;
  int64_t n_computed = piece.n_tokens;
  if (n_stored_ > 0) {
    std::array<int32_t, kPieceTokens> computed;
    n_computed = 0;
    for (int64_t i = 0; i < piece.n_tokens; ++i) {
      if (stored_at_[static_cast<size_t>(first_row + i)] != kNone) continue;
      computed[static_cast<size_t>(n_computed++)] = static_cast<int32_t>(i);
    }
    node.expert_acts.Gather(local, node.hidden_acts,
                            std::span(computed).first(static_cast<size_t>(n_computed)),
                            node.hidden_acts.forms() & ~kActF32);
    local.Barrier();
    acts = &node.expert_acts;
  }
  int64_t columns = 0;
  for (const Projection& projection : projections) {
    const int64_t width = projection.weight->rows();
    piece.matmul.Multiply(worker, *projection.weight, *acts, projection.out, width);
    if (n_computed < piece.n_tokens) {
      TakeStored(worker, projection, Stored(piece.ws, columns), first_row, piece.n_tokens,
                 n_computed);
    }
    columns += width;
  }
}

// The rows computed lie one behind the other; from the last on each goes where it belongs, and what
// is stored into the gaps. A worker moves the columns that it has computed.
void ProjectionsAhead::TakeStored(const Worker& worker, const Projection& projection,
                                  const float* stored, int64_t first_row, int64_t n_tokens,
                                  int64_t n_computed) const {
  const int64_t width = projection.weight->rows();
  const auto [begin, end] = RowShare(worker, *projection.weight);
  int64_t computed = n_computed;
  for (int64_t i = n_tokens - 1; i >= 0; --i) {
    const int32_t at = stored_at_[static_cast<size_t>(first_row + i)];
    const float* const from =
        at != kNone ? stored + at * width : projection.out + --computed * width;
    float* const to = projection.out + i * width;
    if (from != to) std::copy_n(from + begin, end - begin, to + begin);
  }
}

}  // namespace stoker
