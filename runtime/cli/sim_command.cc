#include "runtime/cli/sim_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "experts/cache_policy.h"
#include "experts/simulator.h"
#include "experts/trace_io.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

struct SimOptions {
  std::string trace, svg;
  std::vector<std::string> policies = {"auto"};  // as typed: each a list of specs
  SimulationOptions simulation;
  bool json = false, csv = false, as_recorded = false;
  std::vector<const CLI::Option*> not_as_recorded;  // those that ask for another run
};

bool IsBelady(const std::string& spec) {
  try {
    return BeladyPasses(spec).has_value();
  } catch (const std::runtime_error& error) {
    throw UsageError(fmt::format("--policy: {}", error.what()));
  }
}

std::vector<std::string> PolicySpecs(const std::vector<std::string>& lists) {
  std::vector<std::string> specs;
  for (const std::string& list : lists) {
    for (std::string& spec : SplitPolicySpecs(list)) {
      if (spec.empty()) throw UsageError(fmt::format("--policy: '{}' has an empty name", list));
      if (!IsBelady(spec)) CheckPolicy(spec);
      specs.push_back(std::move(spec));
    }
  }
  return specs;
}

// Throws UsageError for what is no capacity of any trace: by one with as many experts as there can
// be, of a byte each.
void CheckCapacities(const std::vector<std::string>& capacities) {
  TraceHeader largest;
  largest.n_experts = 65536;
  largest.n_layers = static_cast<int32_t>(kMaxEntries / largest.n_experts);
  largest.expert_bytes = {1};
  try {
    for (const std::string& text : capacities) ParseCapacity(text, largest);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

SimulationReport MakeReport(const SimOptions& options, const SimulationOptions& simulation) {
  // Nothing is written before the end, so that a signal may end it anywhere.
  const ExitOnInterrupt exit_on_interrupt;
  const Trace trace = LoadTrace(options.trace);
  return options.as_recorded ? ReplayAsRecorded(trace) : RunSimulation(trace, simulation);
}

int Simulate(const SimOptions& options) {
  if (options.json && options.csv) throw UsageError("--json and --csv exclude each other");
  for (const CLI::Option* option : options.not_as_recorded) {
    if (options.as_recorded && option->count() > 0) {
      throw UsageError(fmt::format("--as-recorded and {} exclude each other", option->get_name()));
    }
  }
  SimulationOptions simulation = options.simulation;
  simulation.policies = PolicySpecs(options.policies);
  CheckCapacities(simulation.capacities);
  const SimulationReport report = MakeReport(options, simulation);
  std::ostringstream out;
  if (options.json) {
    WriteJson(report, out);
  } else if (options.csv) {
    WriteCsv(report, out);
  } else {
    WriteTable(report, out);
  }
  ThrowIfInterrupted();
  if (!options.svg.empty()) WriteSvg(report, options.svg);
  TextOutput output;
  output.Write(out.str());
  return kExitDone;
}

std::string PolicyHelp() {
  std::string text =
      "Policies, as NAME[:key=value,...]. All but static take scope=global|layer as well.\n";
  for (const PolicyInfo& policy : ListPolicies()) {
    text += fmt::format("  {:<14}{}\n", policy.name, policy.summary);
    for (const PolicyParameterInfo& parameter : policy.parameters) {
      text += fmt::format("    {:<12}{}\n", parameter.key, parameter.meaning);
    }
  }
  return text + "  ./mine.so     a plug-in, with keys of its own; see experts/policy_plugin.h";
}

}  // namespace

std::function<int()> DeclareSim(CLI::App& app) {
  auto options = std::make_shared<SimOptions>();
  app.add_option("TRACE", options->trace, "a routing trace")->required()->type_name("");
  CLI::Option* const policies =
      app.add_option("--policy", options->policies,
                     "policies to compare, see below; lru and belady are always shown, "
                     "belady:passes=N is a Belady that sees N tokens ahead")
          ->capture_default_str()
          ->type_name("A,B,...");
  CLI::Option* const capacities =
      app.add_option("--capacity", options->simulation.capacities,
                     "cache sizes: shares (12.5%), bytes (10GiB) or experts; default: a sweep")
          ->delimiter(',')
          ->type_name("C,...");
  CLI::Option* const skip_tokens =
      app.add_option("--skip-tokens", options->simulation.replay.skip_tokens,
                     "tokens that warm the cache uncounted")
          ->check(WholeNumber(0, int64_t{1} << 40))
          ->type_name("N");
  CLI::Option* const seed = AddSeed(app, &options->simulation.seed, "seed of the policies");
  options->not_as_recorded = {policies, capacities, skip_tokens, seed};
  app.add_flag("--as-recorded", options->as_recorded,
               "replay with the policy, capacity and seed the trace was recorded with");
  app.add_option("--svg", options->svg, "also draw the curves into this directory")
      ->type_name("DIR");
  app.add_flag("--json", options->json, "the report as JSON");
  app.add_flag("--csv", options->csv, "the rows as CSV");
  app.footer(PolicyHelp());
  return [options] { return Simulate(*options); };
}

}  // namespace stoker
