#include "experts/simulator.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "experts/policies/policies.h"
#include "mmap/format_error.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

constexpr const char* kDefaultCapacities[] = {"5%",  "10%", "20%", "30%", "40%",
                                              "50%", "60%", "75%", "90%", "100%"};

uint64_t LargestExpert(const TraceHeader& header) {
  return *std::max_element(header.expert_bytes.begin(), header.expert_bytes.end());
}

uint32_t EntriesOf(const TraceHeader& header) {
  return static_cast<uint32_t>(header.n_layers) * header.n_experts;
}

// Whether a replay that leaves out the first tokens counts anything.
bool AnyAccessFrom(const Trace& trace, int64_t first_token) {
  for (size_t i = trace.size(); i-- > 0;) {
    const TraceRequest request = trace[i];
    if (request.kind != TraceKind::kDemand || request.accesses.empty()) continue;
    if (request.token >= first_token) return true;
  }
  return false;
}

void AddUnlessThere(std::vector<std::string>* list, const std::string& text) {
  if (!text.empty() && std::find(list->begin(), list->end(), text) == list->end()) {
    list->push_back(text);
  }
}

// What can be said of the trace without a policy.
SimulationReport Describe(const Trace& trace) {
  SimulationReport report;
  report.header = trace.header;
  report.complete = trace.complete;
  report.token_cycle = trace.header.MakeConfig(1).token_cycle();
  report.heat = CountUses(trace);
  int64_t last_token = -1;
  int32_t last_layer = -1;
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest request = trace[i];
    if (request.kind != TraceKind::kDemand) continue;
    ++report.n_requests;
    if (request.token != last_token || request.layer <= last_layer) {
      report.n_tokens += request.n_tokens;
    }
    last_token = request.token;
    last_layer = request.layer;
    report.n_accesses += request.accesses.size();
    report.largest_request =
        std::max(report.largest_request, static_cast<uint32_t>(request.accesses.size()));
    for (const TraceAccess& access : request.accesses) {
      if (access.outcome == AccessOutcome::kUnknown) continue;
      ++(access.outcome == AccessOutcome::kMiss ? report.live_misses : report.live_hits);
    }
  }
  if (report.n_accesses == 0) throw std::runtime_error("the trace holds no accesses");
  report.reuse = ComputeReuseDistances(trace);
  report.compulsory_misses = report.reuse.first_uses;
  return report;
}

// One capacity: all policies, between lru and belady.
void AddCapacity(const Trace& trace, const SimulationOptions& options, uint32_t capacity,
                 SimulationReport* report) {
  PolicyConfig config = trace.header.MakeConfig(capacity);
  config.seed = options.seed;
  config.on_fault = [report](std::string_view message) {
    AddUnlessThere(&report->warnings, std::string(message));
  };
  const size_t first = report->rows.size();
  for (const std::string& policy : report->policies) {
    SimulationRow row;
    row.policy = policy;
    row.capacity = capacity;
    row.capacity_bytes = capacity * LargestExpert(trace.header);
    if (const std::optional<int64_t> passes = BeladyPasses(policy)) {
      row.runs = policy;
      row.result = ReplayBelady(trace, capacity, options.replay, *passes);
    } else {
      PolicyChoice choice = MakePolicy(policy, config);
      row.runs = choice.spec;
      row.result = Replay(trace, *choice.policy, config, options.replay);
      // LRU runs for comparison; its cliff is news only to who asked for it.
      const bool asked = std::find(options.policies.begin(), options.policies.end(), policy) !=
                         options.policies.end();
      if (asked) AddUnlessThere(&report->warnings, choice.warning);
    }
    report->rows.push_back(std::move(row));
  }
  const ReplayCounters lru = report->rows[first].result.total;
  const ReplayCounters best = report->rows.back().result.total;
  // What was read ahead for nothing is no policy's doing: only misses count.
  const auto fewer_bytes = [&lru](const ReplayCounters& than_lru) {
    return static_cast<double>(lru.miss_bytes) - static_cast<double>(than_lru.miss_bytes);
  };
  const double gap = fewer_bytes(best);
  for (size_t i = first; i < report->rows.size(); ++i) {
    SimulationRow& row = report->rows[i];
    const ReplayCounters& total = row.result.total;
    row.regret = best.hit_rate() - total.hit_rate();
    row.gap_closed = gap > 0.0 ? fewer_bytes(total) / gap : 0.0;
  }
}

}  // namespace

uint32_t ParseCapacity(std::string_view text, const TraceHeader& header) {
  const uint32_t all = EntriesOf(header);
  const auto fail = [&](const char* why) {
    throw std::runtime_error("capacity '" + std::string(text) + "' " + why +
                             "; give experts (160), bytes (10GiB) or a share (5%)");
  };
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const bool number = error == std::errc() && std::isfinite(value) && value >= 0.0;
  double entries = 0.0;
  if (number && rest == end) {
    if (value != std::floor(value)) fail("is not a whole number of experts");
    entries = value;
  } else if (number && std::string_view(rest, end) == "%") {
    if (value > 100.0) fail("is above 100 %");
    entries = std::floor(value / 100.0 * all + 1e-9);
  } else if (const auto bytes = ParseBytes(text)) {
    entries = static_cast<double>(*bytes / LargestExpert(header));
  } else {
    fail("is not understood");
  }
  if (entries < 1.0) fail("holds no expert");
  return static_cast<uint32_t>(std::min(entries, static_cast<double>(all)));
}

std::optional<int64_t> BeladyPasses(std::string_view spec) {
  const size_t colon = std::min(spec.find(':'), spec.size());
  if (spec.substr(0, colon) != "belady") return std::nullopt;
  const PolicyParams params("belady", spec.substr(std::min(colon + 1, spec.size())));
  constexpr std::string_view kKeys[] = {"passes"};
  params.CheckKeys(kKeys);
  return params.Integer("passes", 0, 1, 1000000);
}

SimulationReport RunSimulation(const Trace& trace, const SimulationOptions& options) {
  SimulationReport report = Describe(trace);
  if (!AnyAccessFrom(trace, options.replay.skip_tokens)) {
    throw std::runtime_error("the trace ends before token " +
                             std::to_string(options.replay.skip_tokens) +
                             ", up to which nothing is counted; skip fewer tokens");
  }
  report.policies.push_back("lru");
  for (const std::string& policy : options.policies) {
    if (policy != "belady") AddUnlessThere(&report.policies, policy);
  }
  report.policies.push_back("belady");
  std::vector<std::string> capacities = options.capacities;
  if (capacities.empty())
    capacities.assign(std::begin(kDefaultCapacities), std::end(kDefaultCapacities));
  for (const std::string& text : capacities) {
    report.capacities.push_back(ParseCapacity(text, trace.header));
  }
  for (const uint32_t capacity : report.capacities) {
    AddCapacity(trace, options, capacity, &report);
  }
  return report;
}

SimulationReport ReplayAsRecorded(const Trace& trace) {
  if (trace.header.capacity == 0 || trace.header.policy.empty()) {
    throw std::runtime_error(
        "the trace was recorded without an expert cache; name a --policy and "
        "a --capacity");
  }
  // A trace is not trusted: it may not have us load a library or read a file of its choice.
  const std::string& policy = trace.header.policy;
  if (policy.find('/') != std::string::npos || policy.find("from=") != std::string::npos) {
    throw std::runtime_error(
        "the trace was recorded with a policy that reads a file, '" + Printable(policy, 200) +
        "'; if you trust it, name it: --policy POLICY --capacity " +
        std::to_string(trace.header.capacity) + " --seed " + std::to_string(trace.header.seed));
  }
  SimulationOptions options;
  options.policies = {policy};
  options.capacities = {std::to_string(trace.header.capacity)};
  options.replay.speculation = true;
  options.seed = trace.header.seed;
  return RunSimulation(trace, options);
}

}  // namespace stoker
