#include "runtime/cli/numa_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "numa/bytes.h"
#include "numa/placement_plan.h"
#include "runtime/placement_input.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGb = 1e9;
constexpr size_t kMaxNodes = 64;

// What the nodes wait for each other at an exchange, beyond the bytes: two levels of barrier and
// the misses on its lines.
constexpr double kExchangeSeconds = 2e-6;

[[noreturn]] void Fail(const std::string& source, const std::string& reason) {
  throw std::runtime_error(source + ": " + reason);
}

void Validate(const NumaModel& model, const std::string& source) {
  const size_t n = model.n_nodes();
  if (n == 0) Fail(source, "no bandwidths in it");
  if (n > kMaxNodes) Fail(source, fmt::format("{} nodes; at most {} can be", n, kMaxNodes));
  bool any = false;
  for (size_t i = 0; i < n; ++i) {
    if (model.bandwidth[i].size() != n) {
      Fail(source,
           fmt::format("row {} has {} bandwidths, not {}", i + 1, model.bandwidth[i].size(), n));
    }
    for (const double value : model.bandwidth[i]) {
      if (!(value >= 0) || value > 1e15) Fail(source, fmt::format("row {}: no bandwidth", i + 1));
    }
    any = any || model.bandwidth[i][i] > 0;
  }
  if (!any) Fail(source, "no node reads its own memory");
}

NumaModel FromJson(std::string_view text, const std::string& source) {
  NumaModel model;
  try {
    const Json json = Json::parse(text);
    model.bandwidth = json.at("read_bandwidth_bytes_per_s").get<std::vector<std::vector<double>>>();
    if (json.contains("topology")) {
      for (const Json& node : json.at("topology").at("nodes")) {
        model.memory_bytes.push_back(node.at("memory_bytes").get<uint64_t>());
      }
    }
  } catch (const nlohmann::json::exception& error) {
    Fail(source, std::string("not the output of `stoker probe --json`: ") + error.what());
  }
  if (model.bandwidth.empty()) Fail(source, "made with --quick: it has no bandwidths");
  if (model.memory_bytes.size() != model.n_nodes()) model.memory_bytes.clear();
  return model;
}

NumaModel FromLines(std::string_view text, const std::string& source) {
  NumaModel model;
  size_t number = 0;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    ++number;
    line = line.substr(0, line.find('#'));
    std::vector<double> row;
    while (true) {
      line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t\r,;")));
      if (line.empty()) break;
      double value = 0;
      const auto parsed = std::from_chars(line.data(), line.data() + line.size(), value);
      if (parsed.ec != std::errc{}) {
        Fail(source, fmt::format("line {}: {} is no number of GB/s", number, line.substr(0, 20)));
      }
      row.push_back(value * kGb);
      line.remove_prefix(static_cast<size_t>(parsed.ptr - line.data()));
    }
    if (!row.empty()) model.bandwidth.push_back(std::move(row));
  }
  return model;
}

// bytes[i][j]: what node i's workers read from node j's memory.
using Traffic = std::vector<std::vector<double>>;

// A node's workers read local and remote lines in turn, so the times of one node add up; no memory
// serves more than its own node can read from it.
double SecondsOf(const NumaModel& model, const Traffic& bytes) {
  const size_t n = model.n_nodes();
  double slowest = 0;
  for (size_t i = 0; i < n; ++i) {
    double reading = 0;
    double served = 0;
    for (size_t j = 0; j < n; ++j) {
      if (bytes[i][j] > 0) reading += bytes[i][j] / model.bandwidth[i][j];
      served += bytes[j][i];
    }
    if (model.bandwidth[i][i] > 0) served /= model.bandwidth[i][i];
    slowest = std::max({slowest, reading, model.bandwidth[i][i] > 0 ? served : 0.0});
  }
  return slowest;
}

double RemoteBytes(const Traffic& bytes) {
  double remote = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (size_t j = 0; j < bytes.size(); ++j) remote += i != j ? bytes[i][j] : 0.0;
  }
  return remote;
}

// One core and the memory of each node that reads its own; the plan needs no more.
Topology TopologyOf(const NumaModel& model) {
  Topology topology;
  const size_t n = model.n_nodes();
  topology.distances.assign(n, std::vector<uint32_t>(n, 20));
  topology.is_this_system = false;
  for (size_t i = 0; i < n; ++i) {
    topology.distances[i][i] = 10;
    Topology::Node node;
    node.os_index = static_cast<int>(i);
    node.memory_bytes = model.memory_bytes.empty() ? uint64_t{1} << 50 : model.memory_bytes[i];
    if (model.bandwidth[i][i] > 0) {
      const auto cpu = static_cast<int>(i);
      node.cores.push_back(static_cast<int>(topology.cores.size()));
      topology.cores.push_back({.node = static_cast<int>(i), .cpus = {cpu}, .allowed_cpus = {cpu}});
    }
    topology.nodes.push_back(std::move(node));
  }
  return topology;
}

NumaPrediction Predict(std::string mode, const NumaModel& model, const Traffic& traffic,
                       double touched, double extra_seconds) {
  NumaPrediction prediction;
  const double seconds = SecondsOf(model, traffic) + extra_seconds;
  prediction.mode = std::move(mode);
  prediction.tokens_per_second = 1.0 / seconds;
  prediction.bytes_per_second = touched / seconds;
  prediction.bytes_per_token = static_cast<uint64_t>(touched);
  prediction.remote_bytes_per_token = static_cast<uint64_t>(RemoteBytes(traffic));
  return prediction;
}

}  // namespace

NumaModel ParseNumaModel(std::string_view text, const std::string& source) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != text.npos && text[first] == '{';
  NumaModel model = is_json ? FromJson(text, source) : FromLines(text, source);
  Validate(model, source);
  return model;
}

std::vector<NumaPrediction> PredictDecode(const WeightStore& store, const NumaModel& model,
                                          int64_t n_ctx, KvTypes kv) {
  const size_t n = model.n_nodes();
  const ModelConfig& config = store.config();
  PlacementShape shape;
  shape.n_ctx = n_ctx;
  shape.kv = kv;
  PlanInput input = MakePlanInput(store, shape);
  std::vector<size_t> working;  // nodes with workers
  for (size_t i = 0; i < n; ++i) {
    input.bandwidth.push_back(model.bandwidth[i][i]);
    if (model.bandwidth[i][i] > 0) working.push_back(i);
  }
  const auto n_working = static_cast<double>(working.size());

  // 1. shard: each node reads its own rows, and in turn what the others computed.
  input.choice.mode = NumaMode::kShard;
  const PlacementPlan plan = PlacementPlan::Make(TopologyOf(model), input);
  Traffic shard(n, std::vector<double>(n, 0.0));
  for (const PlacementPlan::TensorPlan& tensor : plan.tensors) {
    const double touched = tensor.tensor.touched_per_token;
    if (tensor.tensor.placement == TensorPlacement::kInterleaved) continue;  // one row
    for (size_t j = 0; j < n; ++j) {
      if (tensor.bytes_per_node[j] == 0) continue;
      const auto by = static_cast<size_t>(plan.nodes[j].computed_by.front());
      shard[by][j] += touched * static_cast<double>(tensor.bytes_per_node[j]);
    }
  }
  double exchange_seconds = 0;
  if (working.size() > 1) {
    const double each = static_cast<double>(input.exchanged_bytes_per_token) / n_working;
    for (const size_t i : working) {
      for (const size_t j : working) {
        if (i != j && model.bandwidth[i][j] > 0) shard[i][j] += each;
      }
    }
    // Heads, attention output, expert outputs; the intermediate of each expert.
    exchange_seconds = kExchangeSeconds * static_cast<double>(config.n_layers) *
                       static_cast<double>(3 + config.n_experts_per_token);
  }
  const auto touched = static_cast<double>(plan.touched_bytes_per_token);

  // 2. interleave: equal parts of the work, each read from all nodes alike.
  Traffic interleave(n, std::vector<double>(n, 0.0));
  std::vector<size_t> holding;
  for (size_t j = 0; j < n; ++j) {
    const bool reachable = std::all_of(working.begin(), working.end(),
                                       [&](size_t i) { return model.bandwidth[i][j] > 0; });
    if (reachable) holding.push_back(j);
  }
  for (const size_t i : working) {
    for (const size_t j : holding) {
      interleave[i][j] = touched / n_working / static_cast<double>(holding.size());
    }
  }

  // 3. off: pages where one loading thread puts them, the first node filled before the next.
  Traffic off(n, std::vector<double>(n, 0.0));
  uint64_t all_bytes = 0;
  for (const PlannedTensor& tensor : input.tensors) {
    all_bytes += static_cast<uint64_t>(tensor.rows * tensor.row_bytes * tensor.count);
  }
  double left = 1.0;
  for (const size_t j : holding) {
    const double room = model.memory_bytes.empty()
                            ? 1.0
                            : static_cast<double>(model.memory_bytes[j]) /
                                  static_cast<double>(std::max<uint64_t>(all_bytes, 1));
    const double here = std::min(left, room);
    for (const size_t i : working) off[i][j] = here * touched / n_working;
    left -= here;
  }

  std::vector<NumaPrediction> predictions = {
      Predict("shard", model, shard, touched, exchange_seconds)};
  if (!holding.empty()) {
    predictions.push_back(Predict("interleave", model, interleave, touched, 0));
    predictions.push_back(Predict("off", model, off, touched, 0));
  }
  return predictions;
}

std::string FormatPredictions(const std::vector<NumaPrediction>& predictions,
                              const std::string& format) {
  if (format == "json" || format == "jsonl") {
    Json rows = Json::array();
    for (const NumaPrediction& p : predictions) {
      rows.push_back({{"numa", p.mode},
                      {"predicted_ts", p.tokens_per_second},
                      {"bytes_per_second", p.bytes_per_second},
                      {"bytes_per_token", p.bytes_per_token},
                      {"remote_bytes_per_token", p.remote_bytes_per_token}});
    }
    if (format == "json") return rows.dump(2) + "\n";
    std::string lines;
    for (const Json& row : rows) lines += row.dump() + "\n";
    return lines;
  }
  const bool csv = format == "csv";
  std::string text = csv ? "numa,predicted_ts,bytes_per_second,bytes_per_token,"
                           "remote_bytes_per_token\n"
                         : "| numa | predicted t/s | GB/s | GB per token | remote |\n"
                           "| --- | ---: | ---: | ---: | ---: |\n";
  for (const NumaPrediction& p : predictions) {
    if (csv) {
      text += fmt::format("{},{:.3f},{:.0f},{},{}\n", p.mode, p.tokens_per_second,
                          p.bytes_per_second, p.bytes_per_token, p.remote_bytes_per_token);
      continue;
    }
    text +=
        fmt::format("| {} | {:.2f} | {:.0f} | {:.2f} | {:.1f} % |\n", p.mode, p.tokens_per_second,
                    p.bytes_per_second / kGb, static_cast<double>(p.bytes_per_token) / kGb,
                    100.0 * static_cast<double>(p.remote_bytes_per_token) /
                        static_cast<double>(std::max<uint64_t>(p.bytes_per_token, 1)));
  }
  return text;
}

}  // namespace stoker
