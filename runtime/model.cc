#include "runtime/model.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "numa/check.h"
#include "runtime/kernels/dequantize.h"
#include "runtime/kernels/vector_ops.h"
#include "runtime/layers/expert_guess.h"
#include "runtime/layers/lightning_attention.h"
#include "runtime/layers/moe.h"
#include "runtime/layers/projections_ahead.h"
#include "runtime/layers/rope.h"
#include "runtime/layers/softmax_attention.h"
#include "runtime/layers/workspace.h"

namespace stoker {
namespace {

using Clock = std::chrono::steady_clock;

// Adds the time since the last call to one of the stage sums; read and written by worker 0 only.
class StageClock {
 public:
  void Add(double& sum) {
    const Clock::time_point now = Clock::now();
    sum += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  Clock::time_point last_ = Clock::now();
};

// Norm gains in f32, whatever the file has.
std::vector<float> Gains(const TensorView& tensor) {
  std::vector<float> gains(static_cast<size_t>(tensor.cols()));
  if (!gains.empty() && tensor.data != nullptr) {
    DequantizeRow(tensor.type, tensor.data, gains.data(), tensor.cols());
  }
  return gains;
}

struct LayerGains {
  std::vector<float> attention;  // [H]
  std::vector<float> moe;        // [H]
  std::vector<float> lightning;  // [nh D], empty for softmax layers
};

// The norm gains of a model; every node has a copy of its own, made by its first worker.
struct NodeGains {
  std::vector<LayerGains> layers;
  std::vector<float> output;  // [H]
};

NodeGains CollectGains(const ModelConfig& config, const ModelWeights& weights) {
  NodeGains gains;
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    const LayerWeights& of_layer = weights.layers[layer];
    const bool lightning = config.attention[layer] == AttentionKind::kLightning;
    gains.layers.push_back({Gains(of_layer.attn_norm), Gains(of_layer.ffn_norm),
                            lightning ? Gains(of_layer.lightning_norm) : std::vector<float>()});
  }
  gains.output = Gains(weights.output_norm);
  return gains;
}

// Tokens of a chunk that go through attention together. Where they end lightning attention finds
// the end of a block, as at the end of a chunk.
static_assert(kPieceTokens % kLightningBlock == 0);
struct AttentionPiece {
  int64_t first_row = 0;  // of the chunk
  int64_t n_tokens = 0;
  size_t first_segment = 0;  // of piece_segments_
  size_t n_segments = 0;
};

}  // namespace

class Model::Impl {
 public:
  explicit Impl(Parts parts);
  ~Impl() { parts_.matmul->SetPoll(nullptr); }

  bool Forward(std::span<const TokenRun> runs, ForwardSink& sink, int64_t chunk_tokens,
               const std::atomic<bool>* stop);

  Parts parts_;
  ForwardStats stats_;
  Workspace ws_;

 private:
  void CheckRuns(std::span<const TokenRun> runs) const;
  void ForwardChunk(std::span<const TokenRun> runs, ForwardSink& sink);
  void CutPieces();
  void Embed(std::span<const TokenRun> runs);
  void AttentionBlock(LayerContext& context, int64_t layer);
  struct LayerProjections {
    std::array<Projection, 3> list;
    size_t count;
    std::span<const Projection> all() const { return std::span(list).first(count); }
  };
  LayerProjections ProjectionsOf(const LayerContext& context, int64_t layer) const;
  void LightningBlock(const Worker& worker, LayerContext& context, int64_t layer,
                      int64_t first_row);
  void SoftmaxBlock(const Worker& worker, LayerContext& context, int64_t layer, int64_t first_row);
  template <typename F>
  void Guarded(F&& call);
  void ThrowPollError() {
    if (poll_error_) std::rethrow_exception(std::exchange(poll_error_, nullptr));
  }
  NodeWorkspace& NodeOf(const Worker& worker) {
    return ws_.nodes[static_cast<size_t>(worker.node)];
  }
  void MoeBlock(LayerContext& context, int64_t layer);
  void ReportLayer(LayerContext& context, int64_t layer, ForwardSink& sink) const;
  void Head(std::span<const TokenRun> runs, ForwardSink& sink);

  const ModelConfig& config() const { return parts_.config; }

  Rope rope_;
  std::vector<int64_t> kind_index_;        // [n_layers] index among layers of the same kind
  std::vector<std::vector<float>> decay_;  // [n_layers] empty for softmax layers
  std::vector<NodeGains> gains_;           // by Worker::node
  ExpertGroups groups_;
  ExpertRequest request_;
  ProjectionsAhead ahead_;
  std::optional<ExpertGuess> guess_;  // when the experts' source wants guesses
  int64_t tokens_seen_ = 0;  // before the current chunk, over all sequences
  std::vector<Segment> whole_runs_;  // of the call
  std::vector<Segment> segments_;    // of the chunk
  std::vector<Segment> piece_segments_;
  std::vector<AttentionPiece> pieces_;
  std::vector<TokenId> ids_;  // of the chunk, row by row
  // Rows whose logits are wanted and not yet computed.
  struct Wanted {
    int64_t run, token, row;
  };
  std::vector<Wanted> wanted_;
  std::exception_ptr poll_error_;
  StageClock clock_;
};

Model::Impl::Impl(Parts parts)
    : parts_(std::move(parts)),
      ws_(parts_.config, parts_.size, parts_.team->partition()),
      rope_(parts_.config.rotary_dim, parts_.config.rope_theta),
      groups_(parts_.config.n_experts, parts_.size.max_tokens, parts_.config.n_experts_per_token),
      request_(parts_.config, parts_.size.max_tokens),
      ahead_(parts_.size) {
  if (parts_.experts->wants_guesses()) guess_.emplace(config(), parts_.size.max_tokens);
  if (parts_.experts->wants_polls()) {
    parts_.matmul->SetPoll([this] { Guarded([this] { parts_.experts->Poll(); }); });
  }
  const auto max_tokens = static_cast<size_t>(parts_.size.max_tokens);
  whole_runs_.reserve(max_tokens);
  segments_.reserve(max_tokens);
  pieces_.reserve(max_tokens);
  piece_segments_.reserve(2 * max_tokens);
  ids_.reserve(max_tokens);
  wanted_.reserve(static_cast<size_t>(parts_.size.max_logit_rows));
  int64_t n_lightning = 0;
  int64_t n_softmax = 0;
  for (int64_t layer = 0; layer < config().n_layers; ++layer) {
    const bool lightning = config().attention[layer] == AttentionKind::kLightning;
    kind_index_.push_back(lightning ? n_lightning++ : n_softmax++);
    decay_.push_back(lightning ? LightningDecay(config().n_heads, layer, config().n_layers)
                               : std::vector<float>());
  }
  gains_.resize(ws_.nodes.size());
  parts_.team->Run([&](const Worker& worker) {
    if (worker.OnNode().index != 0) return;
    gains_[static_cast<size_t>(worker.node)] = CollectGains(config(), parts_.weights);
  });
}

// On the engine's thread, inside a region, which no exception may leave.
template <typename F>
void Model::Impl::Guarded(F&& call) {
  try {
    call();
  } catch (...) {
    poll_error_ = std::current_exception();
  }
}

void Model::Impl::CheckRuns(std::span<const TokenRun> runs) const {
  for (const TokenRun& run : runs) {
    STOKER_CHECK(run.state != nullptr);
    for (const TokenRun* other = runs.data(); other != &run; ++other) {
      STOKER_CHECK_MSG(other->state != run.state, "two runs of one sequence in a batch");
    }
    const int64_t end = run.state->position() + static_cast<int64_t>(run.ids.size());
    if (end > run.state->n_ctx()) {
      throw std::invalid_argument("context of " + std::to_string(run.state->n_ctx()) +
                                  " tokens is too short for " + std::to_string(end) + "; raise -c");
    }
    for (const TokenId id : run.ids) {
      if (id < 0 || id >= config().vocab_size) {
        throw std::invalid_argument("token id " + std::to_string(id) + " is outside [0, " +
                                    std::to_string(config().vocab_size) + ")");
      }
    }
  }
}

bool Model::Impl::Forward(std::span<const TokenRun> runs, ForwardSink& sink, int64_t chunk_tokens,
                          const std::atomic<bool>* stop) {
  CheckRuns(runs);
  const int64_t limit =
      chunk_tokens > 0 ? std::min(chunk_tokens, parts_.size.max_tokens) : parts_.size.max_tokens;
  whole_runs_.clear();
  for (size_t run = 0; run < runs.size(); ++run) {
    whole_runs_.push_back({.run = static_cast<int64_t>(run),
                           .n_tokens = static_cast<int64_t>(runs[run].ids.size()),
                           .position = runs[run].state->position(),
                           .state = runs[run].state});
  }
  SegmentCursor cursor;
  while (true) {
    segments_.clear();
    if (TakeRows(whole_runs_, limit, cursor, segments_) == 0) break;
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) return false;
    ForwardChunk(runs, sink);
    for (const Segment& segment : segments_) segment.state->Advance(segment.n_tokens);
  }
  return true;
}

void Model::Impl::CutPieces() {
  pieces_.clear();
  piece_segments_.clear();
  SegmentCursor cursor;
  for (AttentionPiece piece;; piece.first_row += piece.n_tokens) {
    piece.first_segment = piece_segments_.size();
    piece.n_tokens = TakeRows(segments_, kPieceTokens, cursor, piece_segments_);
    if (piece.n_tokens == 0) return;
    piece.n_segments = piece_segments_.size() - piece.first_segment;
    pieces_.push_back(piece);
  }
}

void Model::Impl::ForwardChunk(std::span<const TokenRun> runs, ForwardSink& sink) {
  const Segment& last = segments_.back();
  const int64_t n_tokens = last.first_row + last.n_tokens;
  LayerContext context{config(), *parts_.matmul, *parts_.team, ws_, segments_, n_tokens};
  clock_ = StageClock();
  CutPieces();
  ahead_.Forget();  // a call before may have thrown
  poll_error_ = nullptr;
  Embed(runs);
  clock_.Add(stats_.other_seconds);
  for (int64_t layer = 0; layer < config().n_layers; ++layer) {
    AttentionBlock(context, layer);
    MoeBlock(context, layer);
    ThrowPollError();
    if (sink.wants_layers()) ReportLayer(context, layer, sink);
  }
  Head(runs, sink);
  ThrowPollError();
  clock_.Add(stats_.head_seconds);
  stats_.tokens += n_tokens;
  tokens_seen_ += n_tokens;
}

void Model::Impl::Embed(std::span<const TokenRun> runs) {
  const TensorView& table = parts_.weights.embedding;
  ids_.clear();
  for (const Segment& segment : segments_) {
    const auto ids = runs[segment.run].ids.subspan(static_cast<size_t>(segment.first_token),
                                                   static_cast<size_t>(segment.n_tokens));
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }
  if (parts_.embedding != nullptr) parts_.embedding->Read(ids_);
  for (size_t i = 0; i < ids_.size(); ++i) {
    const std::byte* row = parts_.embedding != nullptr
                               ? parts_.embedding->row(static_cast<int64_t>(i))
                               : table.row(ids_[i]);
    const int64_t offset = static_cast<int64_t>(i) * config().hidden_size;
    float* const x = ws_.nodes.front().x + offset;
    DequantizeRow(table.type, row, x, config().hidden_size);
    for (size_t node = 1; node < ws_.nodes.size(); ++node) {
      std::copy_n(x, config().hidden_size, ws_.nodes[node].x + offset);
    }
  }
}

// Norm, attention, residual, norm and router in one parallel region. Every node makes the inputs of
// its products for itself from what is exchanged: the heads' output, and that of the output matrix.
// The router, and guesses of it, are the first node's business.
void Model::Impl::AttentionBlock(LayerContext& context, int64_t layer) {
  const LayerWeights& weights = parts_.weights.layers[layer];
  const bool lightning = config().attention[layer] == AttentionKind::kLightning;
  const float alpha = lightning ? config().lightning_alpha : config().softmax_alpha;
  const float beta = lightning ? config().lightning_beta : config().softmax_beta;
  const int64_t hidden = config().hidden_size;
  const int64_t n_tokens = context.n_tokens;
  MatmulBackend& matmul = context.matmul;

  parts_.team->Run([&](const Worker& worker) {
    const Worker local = worker.OnNode();
    NodeWorkspace& node = NodeOf(worker);
    const LayerGains& gains = gains_[static_cast<size_t>(worker.node)].layers[layer];
    const auto [row_begin, row_end] = local.Share(n_tokens);
    // 1. h = RMS(x; g_in)
    for (int64_t row = row_begin; row < row_end; ++row) {
      RmsNorm(node.x + row * hidden, gains.attention.data(), config().rms_norm_eps,
              node.h + row * hidden, hidden);
    }
    local.Barrier();
    if (guess_ && worker.node == 0) {
      guess_->Compute(local, context, node.h, nullptr, gains.moe.data(), weights.router);
      if (worker.index == 0) {
        Guarded([&] {
          parts_.experts->Expect(guess_->Pick(layer));
          parts_.experts->Poll();
        });
      }
    }
    // 2. y = Attn(h)
    for (const AttentionPiece& piece : pieces_) {
      LayerContext part{context.config, matmul, context.team, ws_,
                        std::span<const Segment>(piece_segments_)
                            .subspan(piece.first_segment, piece.n_segments),
                        piece.n_tokens};
      if (lightning) {
        LightningBlock(worker, part, layer, piece.first_row);
      } else {
        SoftmaxBlock(worker, part, layer, piece.first_row);
      }
      worker.Barrier();  // exchange: the attention output
    }
    // 3. y = alpha residual + beta y;  h = RMS(y; g_post)
    const float* residual = config().postnorm ? node.h : node.x;
    for (int64_t row = row_begin; row < row_end; ++row) {
      float* y = node.y + row * hidden;
      ScaleAdd(alpha, residual + row * hidden, beta, ws_.y + row * hidden, y, hidden);
      RmsNorm(y, gains.moe.data(), config().rms_norm_eps, node.h + row * hidden, hidden);
    }
    local.Barrier();
    if (worker.index == 0) clock_.Add(stats_.attention_seconds);
    // 4. router logits, by the first node alone; h also gets the forms that the experts will read
    const uint32_t forms =
        matmul.FormsFor(weights.router.type, n_tokens) | parts_.experts_input_forms;
    node.hidden_acts.Prepare(local, node.h, n_tokens, hidden, hidden, forms);
    local.Barrier();
    if (worker.node != 0) return;
    matmul.Multiply(local, weights.router, node.hidden_acts, ws_.router_logits, config().n_experts);
    if (guess_ && layer + 1 < config().n_layers) {
      const LayerGains& next = gains_.front().layers[layer + 1];
      guess_->Compute(local, context, config().postnorm ? node.h : node.y, next.attention.data(),
                      next.moe.data(), parts_.weights.layers[layer + 1].router);
      if (worker.index == 0) Guarded([&] { parts_.experts->Expect(guess_->Pick(layer + 1)); });
    }
  });
}

// The first products of a layer's attention, for the tokens of `context`.
Model::Impl::LayerProjections Model::Impl::ProjectionsOf(const LayerContext& context,
                                                         int64_t layer) const {
  const LayerWeights& weights = parts_.weights.layers[layer];
  if (config().attention[layer] == AttentionKind::kLightning) {
    return {{{{&weights.qkv, ws_.qkv}, {&weights.gate, ws_.gate}}}, 2};
  }
  const SoftmaxProjections out = SoftmaxLayout(context);
  return {{{{&weights.q, out.q}, {&weights.k, out.k}, {&weights.v, out.v}}}, 3};
}

// One piece, from `first_row` of the chunk on: from the nodes' h to ws.y.
void Model::Impl::LightningBlock(const Worker& worker, LayerContext& context, int64_t layer,
                                 int64_t first_row) {
  const LayerWeights& weights = parts_.weights.layers[layer];
  const int64_t hidden = config().hidden_size;
  const int64_t attn_width = config().n_heads * config().head_dim;
  const int64_t n_tokens = context.n_tokens;
  MatmulBackend& matmul = context.matmul;
  const Worker local = worker.OnNode();
  NodeWorkspace& node = NodeOf(worker);
  const std::vector<float>& gain = gains_[static_cast<size_t>(worker.node)].layers[layer].lightning;
  ahead_.Project(worker, context, first_row, ProjectionsOf(context, layer).all());
  local.Barrier();  // of the node: it computed q, k and v of whole heads
  LightningHeads(worker, context, kind_index_[layer], decay_[layer]);
  worker.Barrier();  // exchange: heads and gate
  // One norm over all heads at once, then the output gate.
  const auto [row_begin, row_end] = local.Share(n_tokens);
  for (int64_t row = row_begin; row < row_end; ++row) {
    float* attn = node.attn + row * attn_width;
    RmsNorm(ws_.attn + row * attn_width, gain.data(), config().lightning_norm_eps, attn,
            attn_width);
    SigmoidMul(ws_.gate + row * attn_width, attn, attn_width);
  }
  local.Barrier();
  node.attn_acts.Prepare(local, node.attn, n_tokens, attn_width, attn_width,
                         matmul.FormsFor(weights.out.type, n_tokens));
  local.Barrier();
  matmul.Multiply(worker, weights.out, node.attn_acts, ws_.y + first_row * hidden, hidden);
}

void Model::Impl::SoftmaxBlock(const Worker& worker, LayerContext& context, int64_t layer,
                               int64_t first_row) {
  const LayerWeights& weights = parts_.weights.layers[layer];
  const int64_t hidden = config().hidden_size;
  const int64_t attn_width = config().n_heads * config().head_dim;
  const int64_t n_tokens = context.n_tokens;
  MatmulBackend& matmul = context.matmul;
  const Worker local = worker.OnNode();
  NodeWorkspace& node = NodeOf(worker);
  ahead_.Project(worker, context, first_row, ProjectionsOf(context, layer).all());
  local.Barrier();  // of the node: it computed its kv heads and their queries
  RotateAndStore(worker, context, rope_, kind_index_[layer]);
  local.Barrier();
  SoftmaxHeads(worker, context, kind_index_[layer]);
  worker.Barrier();  // exchange: the heads
  node.attn_acts.Prepare(local, ws_.attn, n_tokens, attn_width, attn_width,
                         matmul.FormsFor(weights.out.type, n_tokens));
  local.Barrier();
  matmul.Multiply(worker, weights.out, node.attn_acts, ws_.y + first_row * hidden, hidden);
}

// Top-k, experts, and x = alpha residual + beta sum over ranks.
void Model::Impl::MoeBlock(LayerContext& context, int64_t layer) {
  const int64_t hidden = config().hidden_size;
  const int64_t top_k = config().n_experts_per_token;
  const int64_t n_experts = config().n_experts;
  const int64_t n_tokens = context.n_tokens;
  for (int64_t row = 0; row < n_tokens; ++row) {
    PickExperts({ws_.router_logits + row * n_experts, static_cast<size_t>(n_experts)},
                std::span(ws_.router_ids).subspan(row * top_k, top_k),
                std::span(ws_.router_weights).subspan(row * top_k, top_k));
  }
  groups_.Assign(ws_.router_ids, n_tokens);
  clock_.Add(stats_.router_seconds);

  stats_.tokens_ahead += ahead_.Forget();
  if (layer + 1 < config().n_layers) {
    ahead_.Begin(context, ProjectionsOf(context, layer + 1).all(),
                 gains_.front().layers[static_cast<size_t>(layer + 1)].attention.data());
  }
  ExpertCosts costs;
  RunExperts(context, layer, tokens_seen_, groups_, *parts_.experts, request_, ahead_, costs);
  stats_.expert_wait_seconds += costs.wait_seconds;
  stats_.expert_weight_bytes += costs.weight_bytes;

  // Exchange: the experts' outputs, which every node adds up for itself.
  parts_.team->Run([&](const Worker& worker) {
    NodeWorkspace& node = NodeOf(worker);
    const auto [row_begin, row_end] = worker.OnNode().Share(n_tokens);
    for (int64_t row = row_begin; row < row_end; ++row) {
      AddExperts(context, groups_, node, row, node.x + row * hidden);
    }
  });
  clock_.Add(stats_.experts_seconds);
}

void Model::Impl::ReportLayer(LayerContext& context, int64_t layer, ForwardSink& sink) const {
  const int64_t top_k = config().n_experts_per_token;
  for (const Segment& segment : context.segments) {
    sink.OnLayer({segment.run, layer, segment.first_token, segment.n_tokens,
                  ws_.nodes.front().x + segment.first_row * config().hidden_size,
                  ws_.router_ids.data() + segment.first_row * top_k,
                  ws_.router_weights.data() + segment.first_row * top_k});
  }
}

// Final norm and output matrix for the rows whose logits are wanted, some at a time.
void Model::Impl::Head(std::span<const TokenRun> runs, ForwardSink& sink) {
  wanted_.clear();  // a call before may have thrown
  const int64_t hidden = config().hidden_size;
  const int64_t vocab = config().vocab_size;
  const TensorView& output = parts_.weights.output;
  const auto flush = [&] {
    const int64_t n_rows = std::ssize(wanted_);
    if (n_rows == 0) return;
    // The head's rounding error ends in the logits; no router amplifies it.
    const uint32_t forms = WithoutResidual(parts_.matmul->FormsFor(output.type, n_rows));
    parts_.team->Run([&](const Worker& worker) {
      const Worker local = worker.OnNode();
      NodeWorkspace& node = NodeOf(worker);
      const std::vector<float>& gain = gains_[static_cast<size_t>(worker.node)].output;
      const auto [begin, end] = local.Share(n_rows);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = wanted_[static_cast<size_t>(i)].row;
        RmsNorm(node.x + row * hidden, gain.data(), config().rms_norm_eps,
                node.head_in + i * hidden, hidden);
      }
      local.Barrier();
      node.hidden_acts.Prepare(local, node.head_in, n_rows, hidden, hidden, forms);
      local.Barrier();
      parts_.matmul->Multiply(worker, output, node.hidden_acts, ws_.logits, vocab);
    });
    for (int64_t i = 0; i < n_rows; ++i) {
      const Wanted& wanted = wanted_[static_cast<size_t>(i)];
      sink.OnLogits(wanted.run, wanted.token,
                    {ws_.logits + i * vocab, static_cast<size_t>(vocab)});
    }
    wanted_.clear();
  };
  for (const Segment& segment : segments_) {
    const TokenRun& run = runs[segment.run];
    const int64_t last_token = static_cast<int64_t>(run.ids.size()) - 1;
    for (int64_t i = 0; i < segment.n_tokens; ++i) {
      const int64_t token = segment.first_token + i;
      const bool wanted =
          run.logits == LogitRows::kAll || (run.logits == LogitRows::kLast && token == last_token);
      if (!wanted) continue;
      wanted_.push_back({segment.run, token, segment.first_row + i});
      if (std::ssize(wanted_) == parts_.size.max_logit_rows) flush();
    }
  }
  flush();
}

Model::Model(Parts parts) : impl_(std::make_unique<Impl>(std::move(parts))) {}
Model::~Model() = default;

const ModelConfig& Model::config() const { return impl_->parts_.config; }
int64_t Model::max_chunk_tokens() const { return impl_->parts_.size.max_tokens; }
const ForwardStats& Model::stats() const { return impl_->stats_; }
void Model::ResetStats() { impl_->stats_ = ForwardStats(); }

uint64_t Model::WorkspaceBytes(const ModelConfig& config, const WorkspaceSize& size, int n_nodes,
                               int n_workers) {
  return Workspace::BytesFor(config, size, n_nodes, n_workers);
}

bool Model::Forward(std::span<const TokenRun> runs, ForwardSink& sink, int64_t chunk_tokens,
                    const std::atomic<bool>* stop) {
  return impl_->Forward(runs, sink, chunk_tokens, stop);
}

SequenceState Model::NewState(int64_t n_ctx) const {
  STOKER_CHECK(n_ctx <= impl_->parts_.size.n_ctx);
  return SequenceState(config(), n_ctx, impl_->parts_.kv, impl_->parts_.team);
}

TokenBytes Model::BytesPerToken(int64_t depth) const {
  const ModelConfig& config = impl_->parts_.config;
  const ModelWeights& weights = impl_->parts_.weights;
  TokenBytes bytes;
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* view :
         {&layer.attn_norm, &layer.ffn_norm, &layer.qkv, &layer.gate, &layer.lightning_norm,
          &layer.q, &layer.k, &layer.v, &layer.out, &layer.router}) {
      bytes.attention += view->bytes;
    }
  }
  bytes.experts = impl_->parts_.expert_bytes_per_token;
  bytes.head = weights.output.bytes + weights.output_norm.bytes + weights.embedding.row_bytes();
  const uint64_t lightning_state =
      sizeof(float) * static_cast<uint64_t>(config.n_heads) * config.head_dim * config.head_dim;
  const KvTypes kv = impl_->parts_.kv;
  const auto kv_row = static_cast<uint64_t>((KvBytes(kv.keys) + KvBytes(kv.values)) *
                                            config.n_kv_heads * config.head_dim);
  bytes.state = 2 * config.n_lightning_layers() * lightning_state +
                config.n_softmax_layers() * kv_row * static_cast<uint64_t>(depth + 1);
  return bytes;
}

}  // namespace stoker
