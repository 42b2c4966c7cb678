#include "runtime/cli/sim_command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "experts/simulator.h"
#include "experts/trace_io.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

struct SimOptions {
  std::string trace, svg;
  SimulationOptions simulation;
  bool json = false, csv = false, as_recorded = false;
};

int Simulate(const SimOptions& options) {
  if (options.json && options.csv) throw UsageError("--json and --csv exclude each other");
  const Trace trace = LoadTrace(options.trace);
  const SimulationReport report =
      options.as_recorded ? ReplayAsRecorded(trace) : RunSimulation(trace, options.simulation);
  std::ostringstream out;
  if (options.json) {
    WriteJson(report, out);
  } else if (options.csv) {
    WriteCsv(report, out);
  } else {
    WriteTable(report, out);
  }
  if (!options.svg.empty()) WriteSvg(report, options.svg);
  TextOutput output;
  output.Write(out.str());
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareSim(CLI::App& app) {
  auto options = std::make_shared<SimOptions>();
  app.add_option("TRACE", options->trace, "a routing trace")->required()->type_name("");
  app.add_option("--policy", options->simulation.policies,
                 "policies to compare; lru and belady are always shown, belady:passes=N is a "
                 "Belady that sees N tokens ahead")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("A,B,...");
  app.add_option("--capacity", options->simulation.capacities,
                 "cache sizes: shares (12.5%), bytes (10GiB) or experts; default: a sweep")
      ->delimiter(',')
      ->type_name("C,...");
  app.add_option("--skip-tokens", options->simulation.replay.skip_tokens,
                 "tokens that warm the cache uncounted")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->type_name("N");
  app.add_option("-s,--seed", options->simulation.seed, "seed of the policies")
      ->check(CLI::Range(int64_t{0}, INT64_MAX))
      ->type_name("N");
  app.add_flag("--as-recorded", options->as_recorded,
               "replay with the policy and capacity the trace was recorded with");
  app.add_option("--svg", options->svg, "also draw the curves into this directory")
      ->type_name("DIR");
  app.add_flag("--json", options->json, "the report as JSON");
  app.add_flag("--csv", options->csv, "the rows as CSV");
  return [options] { return Simulate(*options); };
}

}  // namespace stoker
