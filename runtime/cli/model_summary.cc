#include "runtime/cli/model_summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "mmap/format_error.h"
#include "numa/bytes.h"
#include "stoker_version.h"

namespace stoker {
namespace {

bool IsExpert(std::string_view name) {
  return name.find("ffn_gate_exps") != name.npos || name.find("ffn_up_exps") != name.npos ||
         name.find("ffn_down_exps") != name.npos || name.find(".ffn_gate.") != name.npos ||
         name.find(".ffn_up.") != name.npos || name.find(".ffn_down.") != name.npos;
}

struct ParameterCounts {
  uint64_t all = 0;
  uint64_t active = 0;
};

// From the shape: a packed 4-bit tensor's own shape counts words, not weights.
ParameterCounts CountParameters(const ModelConfig& c) {
  const auto u = [](int64_t value) { return static_cast<uint64_t>(value); };
  const uint64_t h = u(c.hidden_size), q = u(c.n_heads * c.head_dim),
                 kv = u(c.n_kv_heads * c.head_dim);
  const uint64_t lightning = u(c.n_lightning_layers()) * (h * 3 * q + h * q + q + q * h);
  const uint64_t softmax = u(c.n_softmax_layers()) * (2 * h * q + 2 * h * kv);
  const uint64_t norms = u(c.n_layers) * 2 * h + h;
  const uint64_t routers = u(c.n_layers) * u(c.n_experts) * h;
  const uint64_t expert = 3 * h * u(c.expert_hidden_size);
  const uint64_t shared = u(c.n_layers) * 3 * h * u(c.shared_hidden_size);
  const uint64_t matrix = u(c.vocab_size) * h;
  const uint64_t always = lightning + softmax + norms + routers + shared;
  return {always + u(c.n_layers) * u(c.n_experts) * expert + (c.tied_embeddings ? 1 : 2) * matrix,
          always + u(c.n_layers) * u(c.n_experts_per_token) * expert + matrix};
}

}  // namespace

double ModelSummary::bits_per_weight() const {
  return n_parameters == 0
             ? 0.0
             : 8.0 * static_cast<double>(total_bytes) / static_cast<double>(n_parameters);
}

ModelSummary Summarise(const WeightStore& store) {
  ModelSummary summary;
  const ModelConfig& config = store.config();
  const ParameterCounts counts = CountParameters(config);
  summary.n_parameters = counts.all;
  summary.n_active_parameters = counts.active;
  for (const StoredTensor& tensor : store.tensors()) {
    const uint64_t bytes = tensor.extent.bytes;
    ModelSummary::TypeCount& type = summary.types[std::string(Info(tensor.type).name)];
    ++type.tensors;
    type.bytes += bytes;
    summary.total_bytes += bytes;
    if (IsExpert(tensor.name)) {
      summary.expert_bytes += bytes;
    } else if (tensor.name == "token_embd.weight") {
      summary.embedding_bytes += bytes;
    } else if (tensor.name == "output.weight") {
      summary.head_bytes += bytes;
    } else {
      summary.attention_bytes += bytes;
    }
  }
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    uint64_t bytes = 0;
    for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
      bytes += store.Expert({layer, 0}, part).extent.bytes;
    }
    summary.one_expert_bytes = std::max(summary.one_expert_bytes, bytes);
  }
  uint64_t most = 0;
  for (const auto& [name, count] : summary.types) {
    if (count.bytes > most) {
      most = count.bytes;
      summary.main_type = name;
    }
  }
  return summary;
}

std::string FormatCount(uint64_t n) {
  const auto with = [n](double unit, const char* letter) {
    const double value = static_cast<double>(n) / unit;
    const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
    return fmt::format("{:.{}f}{}", value, decimals, letter);
  };
  if (n >= 1000000000) return with(1e9, "B");
  if (n >= 1000000) return with(1e6, "M");
  if (n >= 1000) return with(1e3, "K");
  return std::to_string(n);
}

std::string ModelTypeLabel(const WeightStore& store) {
  const ModelSummary summary = Summarise(store);
  return fmt::format("{} {} {}", store.config().architecture, FormatCount(summary.n_parameters),
                     summary.main_type);
}

std::string Banner(const WeightStore& store, double load_seconds) {
  const ModelConfig& config = store.config();
  const ModelSummary summary = Summarise(store);
  return fmt::format(
      "stoker {}: {}{}{}, {} layers, {} experts top-{}, {} parameters, {} mostly {}; opened in "
      "{:.1f} s",
      STOKER_VERSION_STRING, Printable(config.name), config.name.empty() ? "" : ", ",
      config.architecture, config.n_layers, config.n_experts, config.n_experts_per_token,
      FormatCount(summary.n_parameters), FormatBytes(summary.total_bytes), summary.main_type,
      load_seconds);
}

}  // namespace stoker
