// Prints the table of docs/policies.md: share of the LRU-to-Belady gap of bytes missed that each
// policy closes, per kind of synthetic trace and capacity, summed over seeds. Not a test.
//
//   policy_table FIRST_SEED N_SEEDS TOKENS POLICY...
//
// Seed 1 chose the parameters; report seeds from 101 on.

#include <cstdio>
#include <cstdlib>

#include "experts/simulator.h"

namespace stoker {
namespace {

struct Kind {
  const char* name;
  SynthOptions options;
};

std::vector<Kind> Kinds(int64_t tokens) {
  SynthOptions zipf{.decode_tokens = tokens, .zipf = 0.8, .locality = 0.0};
  SynthOptions local{.decode_tokens = tokens, .zipf = 0.4, .locality = 0.6};
  SynthOptions phases{.decode_tokens = tokens, .zipf = 0.6, .locality = 0.3, .phase_tokens = 200};
  SynthOptions balanced{.decode_tokens = tokens, .zipf = 0.0, .locality = 0.3};
  SynthOptions chat{.prompt_tokens = 512,
                    .decode_tokens = tokens,
                    .zipf = 0.8,
                    .locality = 0.4,
                    .phase_tokens = 400,
                    .phase_strength = 0.7};
  return {
      {"zipf", zipf}, {"local", local}, {"phases", phases}, {"balanced", balanced}, {"chat", chat}};
}

int Main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: policy_table FIRST_SEED N_SEEDS TOKENS POLICY...\n");
    return 2;
  }
  const uint64_t first_seed = std::strtoull(argv[1], nullptr, 10);
  const uint64_t n_seeds = std::strtoull(argv[2], nullptr, 10);
  SimulationOptions options;
  options.policies.assign(argv + 4, argv + argc);
  options.capacities = {"5%", "10%", "25%", "43%", "75%"};
  std::vector<double> worst;                   // [n_policies] points against LRU
  std::vector<std::vector<double>> all_bytes;  // [n_policies, n_capacities]
  for (Kind& kind : Kinds(std::strtoll(argv[3], nullptr, 10))) {
    std::vector<std::vector<double>> hit_rate, bytes;  // [n_policies, n_capacities]
    std::vector<std::string> names;
    for (uint64_t seed = first_seed; seed < first_seed + n_seeds; ++seed) {
      kind.options.seed = seed;
      const SimulationReport report = RunSimulation(TraceFromSynth(kind.options), options);
      names = report.policies;
      const size_t n_capacities = report.capacities.size();
      hit_rate.resize(names.size(), std::vector<double>(n_capacities));
      bytes.resize(names.size(), std::vector<double>(n_capacities));
      worst.resize(names.size(), 100.0);
      all_bytes.resize(names.size(), std::vector<double>(n_capacities));
      for (size_t c = 0; c < n_capacities; ++c) {
        const double lru = report.Row(c, 0).result.total.hit_rate();
        for (size_t p = 0; p < names.size(); ++p) {
          const ReplayCounters& total = report.Row(c, p).result.total;
          hit_rate[p][c] += 100.0 * total.hit_rate() / static_cast<double>(n_seeds);
          bytes[p][c] += static_cast<double>(total.miss_bytes);
          all_bytes[p][c] += static_cast<double>(total.miss_bytes);
          worst[p] = std::min(worst[p], 100.0 * (total.hit_rate() - lru));
        }
      }
    }
    const auto print_gaps = [&](const char* name, const std::vector<std::vector<double>>& from) {
      std::printf("| **%s** |", name);
      for (size_t c = 0; c < from[0].size(); ++c) {
        if (from == bytes)
          std::printf(" LRU %.1f, Belady %.1f |", hit_rate.front()[c], hit_rate.back()[c]);
        else
          std::printf(" |");
      }
      std::printf("\n");
      for (size_t p = 1; p + 1 < names.size(); ++p) {
        std::printf("| %s |", names[p].c_str());
        for (size_t c = 0; c < from[p].size(); ++c) {
          std::printf(" %.1f |", 100.0 * (from[0][c] - from[p][c]) / (from[0][c] - from.back()[c]));
        }
        std::printf("\n");
      }
    };
    print_gaps(kind.name, bytes);
    if (std::string(kind.name) == "chat") {
      print_gaps("all five together", all_bytes);
      std::printf("\nworst cell against LRU, points of hit rate:");
      for (size_t p = 1; p + 1 < names.size(); ++p) {
        std::printf(" %s %+.2f;", names[p].c_str(), worst[p]);
      }
      std::printf("\n");
    }
  }
  return 0;
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) { return stoker::Main(argc, argv); }
