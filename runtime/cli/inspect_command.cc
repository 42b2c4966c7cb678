#include "runtime/cli/inspect_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "mmap/format_error.h"
#include "mmap/weight_store.h"
#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/model_summary.h"
#include "runtime/cli/output.h"
#include "runtime/sequence_state.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  ModelOptions model;
  bool json = false;
  bool tensors = false;
  bool placement = false;
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// One letter a layer: l lightning, S softmax.
std::string AttentionPattern(const ModelConfig& config) {
  std::string pattern;
  for (const AttentionKind kind : config.attention) {
    pattern.push_back(kind == AttentionKind::kSoftmax ? 'S' : 'l');
  }
  return pattern;
}

std::vector<std::string> TypesNotComputed(const ModelSummary& summary) {
  std::vector<std::string> names;
  for (const auto& [name, count] : summary.types) {
    const std::optional<DType> type = DTypeFromName(name);
    if (type && !Info(*type).computable) names.push_back(name);
  }
  return names;
}

Json ConfigJson(const ModelConfig& c) {
  return {{"architecture", c.architecture},
          {"name", c.name},
          {"n_layers", c.n_layers},
          {"n_lightning_layers", c.n_lightning_layers()},
          {"n_softmax_layers", c.n_softmax_layers()},
          {"attention_pattern", AttentionPattern(c)},
          {"hidden_size", c.hidden_size},
          {"vocab_size", c.vocab_size},
          {"n_heads", c.n_heads},
          {"n_kv_heads", c.n_kv_heads},
          {"head_dim", c.head_dim},
          {"rotary_dim", c.rotary_dim},
          {"rope_theta", c.rope_theta},
          {"expert_hidden_size", c.expert_hidden_size},
          {"n_experts", c.n_experts},
          {"n_experts_per_token", c.n_experts_per_token},
          {"shared_hidden_size", c.shared_hidden_size},
          {"max_position", c.max_position},
          {"rms_norm_eps", c.rms_norm_eps},
          {"lightning_norm_eps", c.lightning_norm_eps},
          {"tied_embeddings", c.tied_embeddings},
          {"postnorm", c.postnorm},
          {"lightning_alpha", c.lightning_alpha},
          {"lightning_beta", c.lightning_beta},
          {"softmax_alpha", c.softmax_alpha},
          {"softmax_beta", c.softmax_beta},
          {"moe_alpha", c.moe_alpha},
          {"moe_beta", c.moe_beta}};
}

// Bytes of one sequence with these options.
uint64_t StateBytes(const WeightStore& store, const ModelOptions& options) {
  const EngineOptions engine = ToEngineOptions(options);
  return SequenceState::BytesFor(store.config(), options.n_ctx,
                                 ChooseKvTypes(engine.kv, engine.precision, store));
}

Json MemoryJson(const WeightStore& store, const ModelSummary& summary,
                const ModelOptions& options) {
  const uint64_t state = StateBytes(store, options);
  return {{"n_ctx", options.n_ctx},
          {"sequence_state_bytes", state},
          {"dense_bytes", summary.dense_bytes()},
          {"expert_bytes", summary.expert_bytes},
          {"one_expert_bytes", summary.one_expert_bytes},
          {"resident_bytes", summary.total_bytes + state}};
}

Json ReportJson(const WeightStore& store, const ModelSummary& summary,
                const ModelOptions& options) {
  Json types = Json::object();
  for (const auto& [name, count] : summary.types) {
    types[name] = {{"tensors", count.tensors}, {"bytes", count.bytes}};
  }
  Json files = Json::array();
  for (const StoredFile& file : store.files()) {
    files.push_back({{"path", file.path.string()}, {"bytes", file.bytes}});
  }
  Json tensors = Json::array();
  for (const StoredTensor& tensor : store.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"file_name", tensor.file_name},
                       {"type", Info(tensor.type).name},
                       {"shape", tensor.shape},
                       {"file", tensor.extent.file},
                       {"offset", tensor.extent.offset},
                       {"bytes", tensor.extent.bytes}});
  }
  return {{"format", store.format()},
          {"config", ConfigJson(store.config())},
          {"n_parameters", summary.n_parameters},
          {"n_active_parameters", summary.n_active_parameters},
          {"tensor_bytes", summary.total_bytes},
          {"bits_per_weight", summary.bits_per_weight()},
          {"bytes_by_role",
           {{"attention", summary.attention_bytes},
            {"experts", summary.expert_bytes},
            {"embedding", summary.embedding_bytes},
            {"head", summary.head_bytes}}},
          {"types", std::move(types)},
          {"types_not_computed", TypesNotComputed(summary)},
          {"memory", MemoryJson(store, summary, options)},
          {"files", std::move(files)},
          {"tensors", std::move(tensors)}};
}

std::string ReportText(const WeightStore& store, const ModelSummary& summary,
                       const InspectOptions& options) {
  const ModelConfig& c = store.config();
  std::string out;
  const auto line = [&out](std::string_view label, const std::string& text) {
    out += fmt::format("{:<14}{}\n", label, text);
  };
  line("model", fmt::format("{}{}{} ({})", Printable(c.name), c.name.empty() ? "" : ", ",
                            c.architecture, store.format()));
  line("parameters", fmt::format("{} ({} used per token)", FormatCount(summary.n_parameters),
                                 FormatCount(summary.n_active_parameters)));
  line("layers", fmt::format("{}: {} lightning, {} softmax  {}", c.n_layers, c.n_lightning_layers(),
                             c.n_softmax_layers(), AttentionPattern(c)));
  line("width",
       fmt::format("hidden {}, {} heads x {} ({} kv heads), rotary {} at theta {:g}", c.hidden_size,
                   c.n_heads, c.head_dim, c.n_kv_heads, c.rotary_dim, c.rope_theta));
  line("experts", fmt::format("{} of inner size {}, {} per token; one is {}", c.n_experts,
                              c.expert_hidden_size, c.n_experts_per_token,
                              FormatBytes(summary.one_expert_bytes)));
  line("vocabulary", fmt::format("{}{}", c.vocab_size,
                                 c.tied_embeddings ? ", output tied to the embedding" : ""));
  line("weights", fmt::format("{}, {:.2f} bits per weight, {} tensors in {} file{}",
                              FormatBytes(summary.total_bytes), summary.bits_per_weight(),
                              store.tensors().size(), store.files().size(),
                              store.files().size() == 1 ? "" : "s"));
  line("by role",
       fmt::format("attention {}, experts {}, embedding {}, head {}",
                   FormatBytes(summary.attention_bytes), FormatBytes(summary.expert_bytes),
                   FormatBytes(summary.embedding_bytes), FormatBytes(summary.head_bytes)));
  for (const auto& [name, count] : summary.types) {
    line("  " + name, fmt::format("{:>10}  {} tensors", FormatBytes(count.bytes), count.tensors));
  }
  const uint64_t state = StateBytes(store, options.model);
  line("memory", fmt::format("{}: {} weights + {} state of one sequence (-c {})",
                             FormatBytes(summary.total_bytes + state),
                             FormatBytes(summary.total_bytes), FormatBytes(state),
                             options.model.n_ctx));
  line("", fmt::format("{} without the experts, which may stay on disk",
                       FormatBytes(summary.dense_bytes() + state)));
  line("", "buffers come on top: --placement shows the whole budget");
  const std::vector<std::string> missing = TypesNotComputed(summary);
  if (!missing.empty()) {
    line("not runnable", fmt::format("no kernels for {}", fmt::join(missing, ", ")));
  }
  if (options.tensors) {
    out += "\n";
    for (const StoredTensor& tensor : store.tensors()) {
      out += fmt::format("{:<44} {:<8} {:<24} {:>12}  file {} at {}\n", tensor.name,
                         Info(tensor.type).name, ShapeText(tensor.shape), tensor.extent.bytes,
                         tensor.extent.file, tensor.extent.offset);
    }
  }
  return out;
}

Json PlacementJson(const EnginePlan& plan) {
  Json budget = Json::array();
  for (const BudgetRow& row : plan.budget) {
    budget.push_back({{"what", row.what}, {"bytes", row.bytes}});
  }
  Json nodes = Json::array();
  for (const PlacementPlan::NodeShare& node : plan.placement.nodes) {
    nodes.push_back({{"os_node", node.os_node},
                     {"bandwidth_share", node.bandwidth_share},
                     {"row_share", node.row_share},
                     {"weight_bytes", node.weight_bytes},
                     {"state_bytes", node.state_bytes},
                     {"capacity_bytes", node.capacity_bytes}});
  }
  Json tensors = Json::array();
  for (const PlacementPlan::TensorPlan& tensor : plan.placement.tensors) {
    Json parts = Json::array();
    for (const PlannedPart& part : tensor.parts) {
      parts.push_back({{"os_node", plan.placement.nodes[static_cast<size_t>(part.node)].os_node},
                       {"rows", {part.row_begin, part.row_end}}});
    }
    tensors.push_back({{"name", tensor.tensor.name},
                       {"count", tensor.tensor.count},
                       {"rows", tensor.tensor.rows},
                       {"row_bytes", tensor.tensor.row_bytes},
                       {"parts", std::move(parts)},
                       {"bytes_per_node", tensor.bytes_per_node}});
  }
  return {{"mode", MemoryModeName(plan.mode)},
          {"budget", std::move(budget)},
          {"numa", NumaModeName(plan.placement.mode)},
          {"nodes", std::move(nodes)},
          {"tensors", std::move(tensors)},
          {"touched_bytes_per_token", plan.placement.touched_bytes_per_token},
          {"cross_node_bytes_per_token", plan.placement.cross_node_bytes_per_token}};
}

std::string PlacementText(const EnginePlan& plan) {
  std::string text = fmt::format("mode: {}\n", MemoryModeName(plan.mode));
  for (const BudgetRow& row : plan.budget) {
    text += fmt::format("  {:<44} {:>9}\n", row.what, FormatBytes(row.bytes));
  }
  return text + plan.placement.Format();
}

std::string DumpJson(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

int Inspect(const InspectOptions& options) {
  RequireModelPath(options.model.path);
  TextOutput output;
  EngineOptions engine = ToEngineOptions(options.model);  // Wrong ones are refused in any case.
  if (options.placement) {
    engine.need_tokenizer = false;
    const EnginePlan plan = Engine::Plan(std::move(engine));
    output.Write(options.json ? DumpJson(PlacementJson(plan)) : PlacementText(plan));
    return kExitDone;
  }
  const std::unique_ptr<WeightStore> store = WeightStore::Open(options.model.path);
  const ModelSummary summary = Summarise(*store);
  output.Write(options.json ? DumpJson(ReportJson(*store, summary, options.model))
                            : ReportText(*store, summary, options));
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareInspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  AddModelOptions(app, &options->model);
  app.add_flag("--json", options->json, "everything, with the extent of every tensor, as JSON");
  CLI::Option* tensors =
      app.add_flag("--tensors", options->tensors, "list every tensor with its extent");
  CLI::Option* placement =
      app.add_flag("--placement", options->placement,
                   "where weights and state would go with these options, without loading anything");
  tensors->excludes(placement);
  return [options] { return Inspect(*options); };
}

}  // namespace stoker
