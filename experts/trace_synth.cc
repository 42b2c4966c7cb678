#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <stdexcept>

#include "experts/trace.h"
#include "experts/trace_io.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

void CheckRange(const char* name, double value, double min, double max) {
  if (!(value >= min && value <= max)) {
    char text[160];
    std::snprintf(text, sizeof(text), "trace synth: %s = %g is outside %g .. %g", name, value, min,
                  max);
    throw std::runtime_error(text);
  }
}

// An upper bound of the bytes of memory that the trace takes.
double MemoryBound(const SynthOptions& o) {
  constexpr double kRecordBytes = 64;
  const auto pass_bytes = [&o](double n_tokens) {
    const double accesses = std::min<double>(o.n_experts, n_tokens * o.top_k);
    const double routes = n_tokens * std::min(o.n_experts, o.top_k + o.runner_ups);
    return o.n_layers *
           (kRecordBytes + accesses * sizeof(TraceAccess) + routes * sizeof(RouterChoice));
  };
  const auto chunk =
      static_cast<double>(std::max<int64_t>(1, std::min(o.prefill_chunk, o.prompt_tokens)));
  return std::ceil(static_cast<double>(o.prompt_tokens) / chunk) * pass_bytes(chunk) +
         static_cast<double>(o.decode_tokens) * pass_bytes(1);
}

// What a trace file cannot hold is refused here, before the work.
void CheckOptions(const SynthOptions& o) {
  CheckRange("layers", o.n_layers, 1, 4096);
  CheckRange("experts", o.n_experts, 1,
             std::min<double>(65536, static_cast<double>(kMaxEntries / o.n_layers)));
  CheckRange("top-k", o.top_k, 1, std::min<double>(o.n_experts, kMaxTraceAccesses));
  CheckRange("runner-ups", o.runner_ups, 0, UINT16_MAX - o.top_k);
  CheckRange("prompt tokens", static_cast<double>(o.prompt_tokens), 0, 1e8);
  CheckRange("prefill chunk", static_cast<double>(o.prefill_chunk), 1, 65536);
  CheckRange("decode tokens", static_cast<double>(o.decode_tokens), 0, 1e8);
  CheckRange("zipf", o.zipf, 0, 10);
  CheckRange("locality", o.locality, 0, 0.9999);
  CheckRange("phase tokens", o.phase_tokens, 0, 1e9);
  CheckRange("phase strength", o.phase_strength, 0, 100);
  CheckRange("expert bytes", static_cast<double>(o.expert_bytes), 1, UINT32_MAX);
  const int64_t chunk = std::min(o.prefill_chunk, o.prompt_tokens);
  CheckRange("experts of one prefill chunk",
             static_cast<double>(std::min<int64_t>(o.n_experts, chunk * o.top_k)), 0,
             kMaxTraceAccesses);
  if (const double bytes = MemoryBound(o); bytes > static_cast<double>(kMaxTraceMemory)) {
    throw std::runtime_error("trace synth: takes up to " +
                             FormatBytes(static_cast<uint64_t>(std::min(bytes, 1e18))) +
                             " of memory, the limit is " + FormatBytes(kMaxTraceMemory) +
                             "; make fewer tokens");
  }
}

// The router of all layers: hands out the ordered choices of one token in one layer.
class SynthRouter {
 public:
  explicit SynthRouter(const SynthOptions& options)
      : options_(options),
        random_(options.seed),
        base_(static_cast<size_t>(options.n_layers) * options.n_experts),
        phase_(base_.size(), 0.0),
        noise_(base_.size()),
        order_(options.n_experts) {
    std::vector<int> ranks(options.n_experts);
    std::iota(ranks.begin(), ranks.end(), 1);
    for (int32_t layer = 0; layer < options.n_layers; ++layer) {
      std::shuffle(ranks.begin(), ranks.end(), random_);
      for (int32_t expert = 0; expert < options.n_experts; ++expert) {
        base_[Index(layer, expert)] = -options.zipf * std::log(ranks[expert]);
      }
    }
    for (double& noise : noise_) noise = Gumbel();
  }

  void NextToken() {
    if (options_.phase_tokens > 0 && --phase_left_ <= 0) {
      phase_left_ = -options_.phase_tokens * std::log(1.0 - uniform_(random_));
      std::normal_distribution<double> normal(0.0, options_.phase_strength);
      for (double& offset : phase_) offset = normal(random_);
    }
    for (double& noise : noise_) {
      if (uniform_(random_) >= options_.locality) noise = Gumbel();
    }
  }

  // Writes top_k + runner_ups choices to `routes`.
  void Route(int32_t layer, std::span<RouterChoice> routes) {
    const auto score = [&](int expert) {
      const size_t i = Index(layer, expert);
      return base_[i] + phase_[i] + noise_[i];
    };
    std::iota(order_.begin(), order_.end(), 0);
    std::partial_sort(order_.begin(), order_.begin() + routes.size(), order_.end(),
                      [&](int a, int b) { return score(a) > score(b); });
    // Weights are a softmax over the experts that run, as M1's router normalises them; runner-ups
    // are given on the same scale.
    double sum = 0.0;
    for (int32_t i = 0; i < options_.top_k; ++i) {
      sum += std::exp(score(order_[i]) - score(order_[0]));
    }
    for (size_t i = 0; i < routes.size(); ++i) {
      const double weight = std::exp(score(order_[i]) - score(order_[0])) / sum;
      routes[i] = {static_cast<uint16_t>(order_[i]), static_cast<float>(weight)};
    }
  }

 private:
  size_t Index(int32_t layer, int32_t expert) const {
    return static_cast<size_t>(layer) * options_.n_experts + expert;
  }
  double Gumbel() { return -std::log(-std::log((random_() >> 11) * 0x1p-53 + 0x1p-54)); }

  const SynthOptions& options_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> uniform_{0.0, 1.0};
  std::vector<double> base_;   // [n_layers, n_experts] log popularity
  std::vector<double> phase_;  // [n_layers, n_experts]
  std::vector<double> noise_;  // [n_layers, n_experts]
  std::vector<int> order_;     // [n_experts]
  double phase_left_ = 0.0;    // tokens
};

// The distinct experts that run, in the order of first appearance by token, then by rank.
void CollectAccesses(const SynthOptions& options, int32_t layer,
                     std::span<const RouterChoice> routes, std::vector<int>* place,
                     std::vector<TraceAccess>* accesses) {
  const int per_token = options.top_k + options.runner_ups;
  accesses->clear();
  std::fill(place->begin(), place->end(), -1);
  for (size_t i = 0; i < routes.size(); ++i) {
    const auto rank = static_cast<uint8_t>(std::min<size_t>(i % per_token, 255));
    if (static_cast<int32_t>(i % per_token) >= options.top_k) continue;
    int& where = (*place)[routes[i].expert];
    if (where < 0) {
      where = static_cast<int>(accesses->size());
      accesses->push_back(
          {.entry = static_cast<EntryId>(layer) * options.n_experts + routes[i].expert,
           .gate_weight = routes[i].weight,
           .rank = rank});
    } else {
      TraceAccess& access = (*accesses)[where];
      access.gate_weight = std::max(access.gate_weight, routes[i].weight);
      access.rank = std::min(access.rank, rank);
    }
  }
}

}  // namespace

Trace TraceFromSynth(const SynthOptions& wanted) {
  CheckOptions(wanted);
  SynthOptions options = wanted;
  options.runner_ups = std::min(wanted.runner_ups, wanted.n_experts - wanted.top_k);
  Trace trace;
  trace.header.n_layers = options.n_layers;
  trace.header.n_experts = options.n_experts;
  trace.header.top_k = options.top_k;
  trace.header.seed = options.seed;
  trace.header.model = "synthetic";
  trace.header.types = "none";
  trace.header.expert_bytes.assign(options.n_layers, options.expert_bytes);

  SynthRouter router(options);
  const int per_token = options.top_k + options.runner_ups;
  std::vector<RouterChoice> chunk;  // [n_layers, chunk tokens, per_token]
  std::vector<int> place(options.n_experts);
  std::vector<TraceAccess> accesses;
  const int64_t total = options.prompt_tokens + options.decode_tokens;
  for (int64_t token = 0; token < total;) {
    const bool prefill = token < options.prompt_tokens;
    const int64_t n = prefill ? std::min(options.prefill_chunk, options.prompt_tokens - token) : 1;
    chunk.resize(static_cast<size_t>(options.n_layers) * n * per_token);
    for (int64_t t = 0; t < n; ++t) {
      router.NextToken();
      for (int32_t layer = 0; layer < options.n_layers; ++layer) {
        router.Route(layer, std::span(chunk).subspan((layer * n + t) * per_token, per_token));
      }
    }
    for (int32_t layer = 0; layer < options.n_layers; ++layer) {
      const auto routes = std::span(chunk).subspan(layer * n * per_token, n * per_token);
      CollectAccesses(options, layer, routes, &place, &accesses);
      trace.Append({.phase = prefill ? Phase::kPrefill : Phase::kDecode,
                    .layer = layer,
                    .token = token,
                    .n_tokens = static_cast<uint32_t>(n),
                    .accesses = accesses,
                    .routes_per_token = static_cast<uint16_t>(per_token),
                    .routes = routes});
    }
    token += n;
  }
  return trace;
}

}  // namespace stoker
