#pragma once

// The simulator: replays one trace through several policies at several capacities and says how they
// compare with the best that is possible. RunSimulation gives a report as a value; the Write
// functions render it. What the command line `stoker sim` calls. Pure but for reading the streams
// and directories it is given; thread-compatible.

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "experts/simulator_replay.h"
#include "experts/trace.h"

namespace stoker {

// "12.5%" of all experts, "10GiB" (slots of the largest expert), "160" experts; at least one slot.
// Throws std::runtime_error for anything else, and for 0. What exceeds all experts is cut to them.
uint32_t ParseCapacity(std::string_view text, const TraceHeader& header);

// N of "belady:passes=N", 0 of "belady"; nullopt for the specs of MakePolicy. Throws as MakePolicy
// for other parameters.
std::optional<int64_t> BeladyPasses(std::string_view spec);

struct SimulationOptions {
  std::vector<std::string> policies = {"auto"};  // specs; lru is always run for comparison
  // As for ParseCapacity. Empty: a sweep from 5 % to 100 %.
  std::vector<std::string> capacities;
  ReplayOptions replay;
  uint64_t seed = 0;  // of the policies
};

struct SimulationRow {
  std::string policy;           // spec as asked for
  std::string runs;             // what `auto` came to
  uint32_t capacity = 0;        // entries
  uint64_t capacity_bytes = 0;  // slots of the largest expert
  ReplayResult result;
  // Shares of accesses, in [0, 1]: misses beyond Belady's, and the part of the way from LRU to
  // Belady by bytes missed (1 = Belady, 0 = LRU, negative = worse; 0 where the two are equal).
  double regret = 0.0;
  double gap_closed = 0.0;
};

struct SimulationReport {
  TraceHeader header;
  bool complete = true;
  uint64_t n_requests = 0;
  uint64_t n_tokens = 0;
  uint64_t n_accesses = 0;
  uint64_t compulsory_misses = 0;     // distinct experts used
  uint32_t token_cycle = 0;           // entries
  uint32_t largest_request = 0;       // experts; a capacity below it streams
  std::vector<std::string> policies;  // in the order of rows: lru first, belady last
  std::vector<uint32_t> capacities;
  std::vector<SimulationRow> rows;    // [n_capacities, n_policies]
  std::vector<std::string> warnings;  // one line each, without repetition
  std::vector<uint64_t> heat;         // [n_layers, n_experts] accesses
  ReuseDistances reuse;
  // What the cache that recorded the trace counted; both 0 when none did.
  uint64_t live_hits = 0;
  uint64_t live_misses = 0;

  const SimulationRow& Row(size_t capacity, size_t policy) const {
    return rows[capacity * policies.size() + policy];
  }
};

// Throws std::runtime_error for a policy or capacity that cannot be, for an empty trace, and when
// all of it is skipped.
SimulationReport RunSimulation(const Trace& trace, const SimulationOptions& options);

// Replays the trace with the policy, capacity and seed its header names, prefetches included.
// Throws std::runtime_error when the trace was recorded without a cache, or with a policy that
// reads a file (a plug-in, static:from=).
SimulationReport ReplayAsRecorded(const Trace& trace);

void WriteTable(const SimulationReport& report, std::ostream& out);
void WriteCsv(const SimulationReport& report, std::ostream& out);
void WriteJson(const SimulationReport& report, std::ostream& out);

// Writes hit_rate.svg, bytes_per_token.svg, heat_map.svg and reuse_distance.svg. Creates the
// directory; throws std::system_error or std::runtime_error naming the file that fails.
void WriteSvg(const SimulationReport& report, const std::filesystem::path& directory);

}  // namespace stoker
