#include "runtime/cli/bench_report.h"

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/cli/model_summary.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"

namespace stoker {
namespace {

BenchRow Row() {
  BenchRow row;
  row.n_gen = 128;
  row.n_depth = 4096;
  row.samples_ns = {64'000'000'000, 32'000'000'000};  // 2 and 4 tokens a second
  row.read_ceiling_bytes_per_s = 30e9;
  row.weight_bytes_per_token = 2'000'000'000;
  row.roof_fraction = 0.2;
  return row;
}

TEST_CASE("rates, names and deviations are llama-bench's") {
  const BenchRow row = Row();
  CHECK(row.test() == "tg128 @ d4096");
  CHECK(row.samples_ts() == std::vector<double>{2.0, 4.0});
  CHECK(test::Near(Mean(row.samples_ts()), 3.0));
  CHECK(test::Near(StandardDeviation(row.samples_ts()), 1.41421356));
  CHECK(StandardDeviation({5.0}) == 0.0);
  BenchRow prompt;
  prompt.n_prompt = 512;
  CHECK(prompt.test() == "pp512");
}

BenchSetup Setup() {
  BenchSetup setup;
  setup.model_type = "minimax-01 \"456B\"";
  setup.mode = "resident";
  return setup;
}

std::string Whole(const std::string& format) {
  BenchReport report(Setup(), format);
  std::string text = report.Add(Row());
  return text + report.Finish();
}

TEST_CASE("every format holds the row") {
  const std::string json = Whole("json");
  CHECK(json.find("\"avg_ts\": 3.0") != json.npos);
  CHECK(json.find("\"hit_rate\": null") != json.npos);
  const std::string csv = Whole("csv");
  CHECK(csv.starts_with("build_commit,build_number,cpu_info"));
  CHECK(csv.find("\"minimax-01 \"\"456B\"\"\"") != csv.npos);
  CHECK(csv.find("samples_ns") == csv.npos);
  const std::string md = Whole("md");
  CHECK(md.find("tg128 @ d4096") != md.npos);
  CHECK(md.find("3.00 ± 1.41") != md.npos);
}

TEST_CASE("a row is given out as soon as it is there, under one header") {
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  BenchReport md(Setup(), "md"), csv(Setup(), "csv"), jsonl(Setup(), "jsonl");
  CHECK(lines(md.Add(Row())) == 3);
  CHECK(lines(md.Add(Row())) == 1);
  CHECK(lines(csv.Add(Row())) == 2);
  CHECK(lines(csv.Add(Row())) == 1);
  CHECK(csv.Finish().empty());
  CHECK(lines(jsonl.Add(Row())) == 1);
  CHECK(jsonl.Finish().empty());
  // A list that is cut off is no JSON.
  BenchReport json(Setup(), "json");
  CHECK(json.Add(Row()).empty());
  CHECK(json.Finish().ends_with("]\n"));
  CHECK(BenchReport(Setup(), "json").Finish() == "[]\n");
  CHECK(BenchReport(Setup(), "md").Finish().empty());
}

TEST_CASE("counts are short") {
  CHECK(FormatCount(456'089'655'296) == "456B");
  CHECK(FormatCount(12'300'000) == "12.3M");
  CHECK(FormatCount(999) == "999");
}

}  // namespace
}  // namespace stoker
