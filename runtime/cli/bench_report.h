#pragma once

// The rows of `stoker bench` and their formats. JSON and CSV use llama-bench's keys in
// llama-bench's order, followed by our own; the Markdown table has its columns and test names.
// Values and texts; it writes nothing. Not thread-safe.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace stoker {

// What is the same for all rows of one invocation.
struct BenchSetup {
  std::string build_commit, cpu_info, model_filename, model_type;
  uint64_t model_size = 0;  // bytes of weights
  uint64_t model_n_params = 0;
  int64_t n_ubatch = 0;
  int n_threads = 0;
  std::string mode;       // resident, mapped, paged
  std::string isa;        // kernel level
  std::string precision;  // fast, exact
  std::string type_k, type_v;  // of the KV cache
  std::string prompt;     // text, random
  std::string mode_line;
};

struct BenchRow {
  int64_t n_prompt = 0, n_gen = 0, n_depth = 0;
  std::string test_time;                // UTC, ISO 8601
  std::vector<uint64_t> samples_ns;     // one per repetition
  double read_ceiling_bytes_per_s = 0;  // around the repetitions, harmonic mean
  uint64_t weight_bytes_per_token = 0;  // a decode step, by class below
  uint64_t attention_bytes_per_token = 0, expert_bytes_per_token = 0, head_bytes_per_token = 0;
  uint64_t state_bytes_per_token = 0;
  // Absent where they mean nothing: the disk's unless paged; roof_fraction of prompts is that of
  // the disk.
  std::optional<double> roof_fraction, disk_bytes_per_token, disk_ceiling_bytes_per_s, hit_rate,
      stall_fraction;
  double major_faults_per_token = 0;
  double memory_roof_ts = 0;  // tokens per second at the read ceiling
  std::optional<double> disk_roof_ts, device_bytes_per_token, pager_bytes_per_token,
      expert_bytes_read_per_token, prefetch_used_bytes_per_token, prefetch_wasted_bytes_per_token,
      page_cache_growth_per_token, reading_bytes_per_s;
  double system_seconds_per_token = 0;  // CPU time in the kernel, of the whole process

  int64_t tokens() const { return n_prompt + n_gen; }
  std::vector<double> samples_ts() const;  // tokens per second
  std::string test() const;                // "pp512", "tg128 @ d4096"
};

// Mean and sample standard deviation, as llama-bench reports them; 0 deviation for one value.
double Mean(const std::vector<double>& values);
double StandardDeviation(const std::vector<double>& values);

// The text of a report as its rows come, so that whatever was measured has been written when
// something fails or is stopped later.
class BenchReport {
 public:
  // format: "md", "csv", "json" or "jsonl".
  BenchReport(BenchSetup setup, std::string format);

  // What to write for the next row. Nothing for json, whose array is whole at the end.
  std::string Add(const BenchRow& row);
  // What to write after the last.
  std::string Finish() const;

 private:
  BenchSetup setup_;
  std::string format_;
  std::vector<BenchRow> rows_;
};

}  // namespace stoker
