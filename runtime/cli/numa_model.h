#pragma once

// `bench --numa-model FILE`: decode speed on a machine that is not here, from the bandwidths
// between its NUMA nodes. A model of bytes and bandwidths only, an upper bound like the read
// ceiling: the slowest node decides. Pure; thread-safe. docs/numa.md explains the file and the
// arithmetic.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/weight_store.h"
#include "runtime/sequence_state.h"

namespace stoker {

struct NumaModel {
  // bandwidth[i][j]: bytes/s of all workers of node i reading memory of node j. Node i has workers
  // where bandwidth[i][i] or any other entry of its row is above 0.
  std::vector<std::vector<double>> bandwidth;
  std::vector<uint64_t> memory_bytes;  // by node; empty: enough everywhere
  size_t n_nodes() const { return bandwidth.size(); }
};

// The output of `probe --json`, or lines of GB/s, one per node, `#` for comments. Throws
// std::runtime_error naming `source` and the line.
NumaModel ParseNumaModel(std::string_view text, const std::string& source);

struct NumaPrediction {
  std::string mode;  // "shard", "interleave", "off"
  double tokens_per_second = 0;
  double bytes_per_second = 0;  // touched bytes over the time of a token
  uint64_t bytes_per_token = 0;
  uint64_t remote_bytes_per_token = 0;
};

// One token at the end of a context of n_ctx. Throws std::runtime_error where the model does not
// fit into the nodes' memory.
std::vector<NumaPrediction> PredictDecode(const WeightStore& store, const NumaModel& model,
                                          int64_t n_ctx, KvTypes kv);

// format: "md", "csv", "json" or "jsonl".
std::string FormatPredictions(const std::vector<NumaPrediction>& predictions,
                              const std::string& format);

}  // namespace stoker
