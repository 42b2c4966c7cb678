#include "runtime/cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "numa/bytes.h"
#include "runtime/cli/model_summary.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

Json Optional(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

// Keys of llama-bench that describe things Stoker has not (GPUs, buffer overrides) are left out;
// readers of its files take the keys they know.
Json RowJson(const BenchSetup& setup, const BenchRow& row) {
  const std::vector<double> ts = row.samples_ts();
  const std::vector<double> ns(row.samples_ns.begin(), row.samples_ns.end());
  return {{"build_commit", setup.build_commit},
          {"build_number", 0},
          {"cpu_info", setup.cpu_info},
          {"gpu_info", ""},
          {"backends", "CPU"},
          {"model_filename", setup.model_filename},
          {"model_type", setup.model_type},
          {"model_size", setup.model_size},
          {"model_n_params", setup.model_n_params},
          {"n_batch", setup.n_ubatch},
          {"n_ubatch", setup.n_ubatch},
          {"n_threads", setup.n_threads},
          {"type_k", setup.type_k},
          {"type_v", setup.type_v},
          {"n_prompt", row.n_prompt},
          {"n_gen", row.n_gen},
          {"n_depth", row.n_depth},
          {"test_time", row.test_time},
          {"avg_ns", static_cast<uint64_t>(Mean(ns))},
          {"stddev_ns", static_cast<uint64_t>(StandardDeviation(ns))},
          {"avg_ts", Mean(ts)},
          {"stddev_ts", StandardDeviation(ts)},
          {"samples_ns", row.samples_ns},
          {"samples_ts", ts},
          {"mode", setup.mode},
          {"isa", setup.isa},
          {"precision", setup.precision},
          {"prompt", setup.prompt},
          {"mode_line", setup.mode_line},
          {"read_ceiling_bytes_per_s", row.read_ceiling_bytes_per_s},
          {"weight_bytes_per_token", row.weight_bytes_per_token},
          {"attention_bytes_per_token", row.attention_bytes_per_token},
          {"expert_bytes_per_token", row.expert_bytes_per_token},
          {"head_bytes_per_token", row.head_bytes_per_token},
          {"state_bytes_per_token", row.state_bytes_per_token},
          {"roof_fraction", Optional(row.roof_fraction)},
          {"disk_bytes_per_token", Optional(row.disk_bytes_per_token)},
          {"disk_ceiling_bytes_per_s", Optional(row.disk_ceiling_bytes_per_s)},
          {"hit_rate", Optional(row.hit_rate)},
          {"stall_fraction", Optional(row.stall_fraction)},
          {"major_faults_per_token", row.major_faults_per_token},
          {"memory_roof_ts", row.memory_roof_ts},
          {"disk_roof_ts", Optional(row.disk_roof_ts)},
          {"expert_bytes_read_per_token", Optional(row.expert_bytes_read_per_token)},
          {"pager_bytes_per_token", Optional(row.pager_bytes_per_token)},
          {"device_bytes_per_token", Optional(row.device_bytes_per_token)},
          {"reading_bytes_per_s", Optional(row.reading_bytes_per_s)},
          {"prefetch_used_bytes_per_token", Optional(row.prefetch_used_bytes_per_token)},
          {"prefetch_wasted_bytes_per_token", Optional(row.prefetch_wasted_bytes_per_token)},
          {"page_cache_growth_per_token", Optional(row.page_cache_growth_per_token)},
          {"system_seconds_per_token", row.system_seconds_per_token}};
}

std::string CsvField(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>()
                     : value.is_null() ? ""
                                       : value.dump();
  std::string quoted = "\"";
  for (const char c : text) {
    quoted.push_back(c);
    if (c == '"') quoted.push_back('"');
  }
  return quoted + "\"";
}

std::string CsvRow(const BenchSetup& setup, const BenchRow& row, bool with_header) {
  const Json json = RowJson(setup, row);
  std::string header, line;
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with("samples_")) continue;
    header += (header.empty() ? "" : ",") + key;
    line += (line.empty() ? "" : ",") + CsvField(value);
  }
  return (with_header ? header + "\n" : "") + line + "\n";
}

std::string MarkdownRow(const BenchSetup& setup, const BenchRow& row, bool with_header) {
  constexpr const char* kLine =
      "| {:<30} | {:>10} | {:>10} | {:<10} | {:>7} | {:>15} | {:>20} | {:>9} |\n";
  std::string out;
  if (with_header) {
    out = fmt::format(kLine, "model", "size", "params", "mode", "threads", "test", "t/s",
                      "of roof");
    out += fmt::format(
        "| {:-<30} | {:->9}: | {:->9}: | {:-<10} | {:->6}: | {:->14}: | {:->19}: | {:->8}: |\n",
        "", "", "", "", "", "", "", "");
  }
  const std::vector<double> ts = row.samples_ts();
  return out + fmt::format(
                   kLine, setup.model_type, FormatBytes(setup.model_size),
                   FormatCount(setup.model_n_params), setup.mode, setup.n_threads, row.test(),
                   fmt::format("{:.2f} ± {:.2f}", Mean(ts), StandardDeviation(ts)),
                   row.roof_fraction ? fmt::format("{:.1f} %", 100 * *row.roof_fraction) : "");
}

std::string MarkdownEnd(const BenchSetup& setup, const BenchRow& last) {
  return fmt::format(
      "\nread ceiling {:.1f} GB/s, {:.3g} GB of weights per token, isa {}\nbuild: {}\n",
      last.read_ceiling_bytes_per_s / 1e9, static_cast<double>(last.weight_bytes_per_token) / 1e9,
      setup.isa, setup.build_commit);
}

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::vector<double> BenchRow::samples_ts() const {
  std::vector<double> ts;
  for (const uint64_t ns : samples_ns)
    ts.push_back(1e9 * static_cast<double>(tokens()) / static_cast<double>(ns));
  return ts;
}

std::string BenchRow::test() const {
  std::string name = n_prompt > 0 ? fmt::format("pp{}", n_prompt) : fmt::format("tg{}", n_gen);
  if (n_depth > 0) name += fmt::format(" @ d{}", n_depth);
  return name;
}

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0.0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double StandardDeviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0.0;
  const double mean = Mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

BenchReport::BenchReport(BenchSetup setup, std::string format)
    : setup_(std::move(setup)), format_(std::move(format)) {}

std::string BenchReport::Add(const BenchRow& row) {
  const bool is_first = rows_.empty();
  rows_.push_back(row);
  if (format_ == "csv") return CsvRow(setup_, row, is_first);
  if (format_ == "md") return MarkdownRow(setup_, row, is_first);
  return format_ == "jsonl" ? Dump(RowJson(setup_, row), -1) : "";
}

std::string BenchReport::Finish() const {
  if (format_ == "md") return rows_.empty() ? "" : MarkdownEnd(setup_, rows_.back());
  if (format_ != "json") return "";
  Json list = Json::array();
  for (const BenchRow& row : rows_) list.push_back(RowJson(setup_, row));
  return Dump(list, 2);
}

}  // namespace stoker
