#include "runtime/cli/numa_model.h"

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>

#include "runtime/cli/synth_plan.h"
#include "tests/support/catch.h"
#include "tests/support/synth_model.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

// A model small enough to write, large enough that bytes and not barriers decide.
const WeightStore& Store() {
  static const TempDir dir;
  static const std::unique_ptr<WeightStore> store = [] {
    testing::WriteModel(dir / "model.gguf", DemoShape(), "q8_0");
    return WeightStore::Open(dir / "model.gguf");
  }();
  return *store;
}

std::map<std::string, NumaPrediction> Predict(const NumaModel& model) {
  std::map<std::string, NumaPrediction> by_mode;
  for (const NumaPrediction& p : PredictDecode(Store(), model, 512, {})) by_mode[p.mode] = p;
  return by_mode;
}

// Slow memory, so that 2 us an exchange are nothing.
NumaModel Slow(const char* text) {
  NumaModel model = ParseNumaModel(text, "test");
  for (auto& row : model.bandwidth) {
    for (double& value : row) value /= 1000;
  }
  return model;
}

bool Near(double a, double b, double part) { return std::abs(a - b) <= part * b; }

TEST_CASE("one node: every mode is bytes over bandwidth") {
  const auto p = Predict(Slow("100"));
  const double expected = 1e8 / static_cast<double>(p.at("shard").bytes_per_token);
  for (const char* mode : {"shard", "interleave", "off"}) {
    CAPTURE(mode);
    CHECK(Near(p.at(mode).tokens_per_second, expected, 0.01));
    CHECK(p.at(mode).remote_bytes_per_token == 0);
  }
}

TEST_CASE("two nodes: shard takes both bandwidths, interleave waits for remote lines") {
  const auto one = Predict(Slow("100"));
  const auto two = Predict(Slow("# GB/s\n100 50 # local first\n\n50 100\n"));
  const double base = one.at("shard").tokens_per_second;
  CHECK(Near(two.at("shard").tokens_per_second, 2 * base, 0.06));
  // Half a node's bytes at 100, half at 50: 2 * 66.7.
  CHECK(Near(two.at("interleave").tokens_per_second, 1.333 * base, 0.01));
  // All on the first node: the second reads its half at 50.
  CHECK(Near(two.at("off").tokens_per_second, base, 0.01));
  CHECK(two.at("shard").remote_bytes_per_token < two.at("interleave").remote_bytes_per_token / 10);
}

TEST_CASE("uneven nodes are used to the full by shard only") {
  const auto one = Predict(Slow("100"));
  const auto uneven = Predict(Slow("100 40\n40 50\n"));
  // The demo's four kv heads can only be cut at a half or three quarters.
  CHECK(Near(uneven.at("shard").tokens_per_second, 1.5 * one.at("shard").tokens_per_second, 0.15));
  CHECK(uneven.at("interleave").tokens_per_second < one.at("shard").tokens_per_second);
}

TEST_CASE("probe's JSON is read, with the memory of the nodes") {
  const NumaModel model = ParseNumaModel(
      R"({"topology": {"nodes": [{"memory_bytes": 1073741824}, {"memory_bytes": 1073741824}]},
          "read_bandwidth_bytes_per_s": [[1e11, 5e10], [5e10, 1e11]]})",
      "probe.json");
  CHECK(model.n_nodes() == 2);
  CHECK(model.memory_bytes.size() == 2);
  CHECK(Predict(model).size() == 3);
  NumaModel small = model;
  small.memory_bytes = {1 << 20, 1 << 20};
  CHECK_THROWS_AS(Predict(small), std::runtime_error);
}

TEST_CASE("files that are no matrix are refused with their name") {
  for (const char* bad : {"", "# nothing\n", "1 2\n3\n", "1 x\n", "0\n", "-1\n", "nan\n", "{",
                          "{\"read_bandwidth_bytes_per_s\": []}", "[1]", "{\"a\": 1}"}) {
    CAPTURE(bad);
    try {
      ParseNumaModel(bad, "numbers.txt");
      FAIL("accepted");
    } catch (const std::runtime_error& error) {
      CHECK(std::string(error.what()).starts_with("numbers.txt: "));
    }
  }
}

TEST_CASE("the formats") {
  const std::vector<NumaPrediction> predictions =
      PredictDecode(Store(), Slow("100 50\n50 100"), 1, {});
  CHECK(FormatPredictions(predictions, "md").find("| shard |") != std::string::npos);
  CHECK(FormatPredictions(predictions, "csv").starts_with("numa,predicted_ts"));
  CHECK(FormatPredictions(predictions, "json").find("\"predicted_ts\"") != std::string::npos);
  CHECK(FormatPredictions(predictions, "jsonl").find("interleave") != std::string::npos);
}

}  // namespace
}  // namespace stoker::test
