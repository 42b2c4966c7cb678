#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "runtime/cli/divergence_base.h"
#include "runtime/cli/perplexity_math.h"
#include "tests/support/catch.h"
#include "tests/support/near.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TEST_CASE("log softmax sums to one and keeps masked ids out") {
  std::vector<float> log_probs;
  LogSoftmax(std::vector<float>{1.0f, 2.0f, -std::numeric_limits<float>::infinity()}, &log_probs);
  CHECK(test::Near(std::exp(log_probs[0]) + std::exp(log_probs[1]), 1.0));
  CHECK(std::isinf(log_probs[2]));
}

TEST_CASE("divergence of a distribution from itself is nothing, from another what the sum says") {
  std::vector<float> p, q;
  LogSoftmax(std::vector<float>{0.0f, 1.0f, 2.0f}, &p);
  LogSoftmax(std::vector<float>{2.0f, 1.0f, 0.0f}, &q);
  DivergenceStatistics same;
  same.Add(p, p, 1);
  CHECK(test::Near(same.divergence().mean(), 0.0, 1e-12));
  CHECK(same.same_top().mean() == 1.0);

  DivergenceStatistics other;
  other.Add(p, q, 2);
  double expected = 0;
  for (int i = 0; i < 3; ++i) expected += std::exp(p[i]) * (p[i] - q[i]);
  CHECK(test::Near(other.divergence().mean(), expected));
  CHECK(other.same_top().mean() == 0.0);
  CHECK(test::Near(other.log_ratio().mean(), p[2] - q[2]));
}

TEST_CASE("quantiles run from the smallest to the largest") {
  DivergenceStatistics statistics;
  std::vector<float> p, q;
  LogSoftmax(std::vector<float>{0.0f, 0.0f}, &p);
  for (int i = 0; i <= 10; ++i) {
    LogSoftmax(std::vector<float>{0.0f, 0.1f * static_cast<float>(i)}, &q);
    statistics.Add(p, q, 0);
  }
  CHECK(test::Near(statistics.Quantile(0.0), 0.0, 1e-7));
  CHECK(statistics.Quantile(0.5) > 0.0);
  CHECK(statistics.Quantile(1.0) > statistics.Quantile(0.5));
}

TEST_CASE("mean and its error") {
  MeanError values;
  for (const double v : {1.0, 2.0, 3.0}) values.Add(v);
  CHECK(test::Near(values.mean(), 2.0));
  CHECK(test::Near(values.error(), std::sqrt((2.0 / 3.0) / 2.0)));
}

TEST_CASE("a saved base comes back, a damaged one is refused") {
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  const std::vector<int32_t> tokens = {0, 1, 2, 1};
  std::vector<float> log_probs;
  LogSoftmax(std::vector<float>{0.5f, -3.0f, 1.0f}, &log_probs);
  {
    DivergenceBaseWriter writer(path, {3, 4, 1, 2}, tokens);
    writer.Add(log_probs, 1);
    writer.Commit();
  }
  DivergenceBaseReader reader(path);
  CHECK(reader.tokens() == tokens);
  std::vector<float> back;
  reader.Next(1, &back);
  for (size_t i = 0; i < 3; ++i) CHECK(test::Near(back[i], log_probs[i], 3e-4));

  const std::string bytes = test::ReadFile(path);
  test::WriteFile(path, bytes.substr(0, bytes.size() - 1));
  CHECK_THROWS_AS(DivergenceBaseReader(path), std::runtime_error);
  test::WriteFile(path, "GGUF" + bytes);
  CHECK_THROWS_AS(DivergenceBaseReader(path), std::runtime_error);
}

TEST_CASE("a base keeps the token that follows as it is, however unlikely") {
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  const std::vector<float> log_probs = {-1e-3f, -45.6789f, -30.0f, -19.9f};
  {
    DivergenceBaseWriter writer(path, {4, 4, 1, 2}, std::vector<int32_t>{0, 1, 2, 1});
    writer.Add(log_probs, 1);
    writer.Commit();
  }
  DivergenceBaseReader reader(path);
  std::vector<float> back;
  reader.Next(1, &back);
  CHECK(back[1] == log_probs[1]);
  CHECK(back[2] == -std::numeric_limits<float>::infinity());
  CHECK(test::Near(back[3], log_probs[3], 3e-4));
}

TEST_CASE("a peaked distribution that was saved does not diverge from itself") {
  constexpr uint32_t kVocab = 5000;
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  std::vector<float> logits(kVocab, 0.0f), log_probs, back;
  logits[7] = 30.0f;
  LogSoftmax(logits, &log_probs);
  {
    DivergenceBaseWriter writer(path, {kVocab, 5, 1, 2}, std::vector<int32_t>{0, 1, 2, 7, 8});
    for (const int32_t next : {7, 8}) writer.Add(log_probs, next);
    writer.Commit();
  }
  DivergenceBaseReader reader(path);
  for (const int32_t next : {7, 8}) {
    CAPTURE(next);
    reader.Next(next, &back);
    DivergenceStatistics statistics;
    statistics.Add(back, log_probs, next);
    CHECK(std::abs(statistics.divergence().mean()) < 1e-5);
    CHECK(std::abs(statistics.log_ratio().mean()) < 1e-5);
  }
}

TEST_CASE("logits that are not finite are refused with their position") {
  const float inf = std::numeric_limits<float>::infinity();
  RequireFinite(std::vector<float>{1.0f, -1e30f}, 0, 0);
  for (const float bad : {inf, -inf, std::nanf("")}) {
    std::string message;
    try {
      RequireFinite(std::vector<float>{1.0f, bad}, 2, 37);
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message.starts_with("chunk 2, position 37:"));
  }
}

TEST_CASE("a base never holds NaN") {
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  const std::vector<int32_t> tokens = {0, 1, 2, 1};
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  DivergenceBaseWriter writer(path, {3, 4, 1, 2}, tokens);
  CHECK_THROWS_AS(writer.Add(std::vector<float>{nan, -1.0f, -2.0f}, 1), std::runtime_error);
  CHECK_THROWS_AS(writer.Add(std::vector<float>{-1.0f, nan, -2.0f}, 2), std::runtime_error);
  CHECK_THROWS_AS(writer.Add(std::vector<float>{-inf, -inf, -inf}, 0), std::runtime_error);
  CHECK_THROWS_AS(writer.Add(std::vector<float>{-1.0f, -inf, -2.0f}, 1), std::runtime_error);
  writer.Add(std::vector<float>{-1.0f, -inf, -2.0f}, 0);  // An id that is ruled out.
  writer.Commit();

  // Not finite: max at byte 40, after header and tokens, step at 44, the token that follows at 48.
  const std::string bytes = test::ReadFile(path);
  for (const size_t at : {size_t{40}, size_t{44}, size_t{48}}) {
    std::string damaged = bytes;
    damaged.replace(at, 4, std::string("\x00\x00\xc0\x7f", 4));
    test::WriteFile(path, damaged);
    DivergenceBaseReader reader(path);
    std::vector<float> row;
    CHECK_THROWS_AS(reader.Next(0, &row), std::runtime_error);
  }
}

TEST_CASE("a base that could not be read back is not begun") {
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  const std::vector<int32_t> tokens = {0, 1};
  CHECK_THROWS_AS(DivergenceBaseWriter(path, {3, 2, 1, 1}, tokens), std::runtime_error);
  CHECK_THROWS_AS(DivergenceBaseWriter(path, {3, 2, 1u << 21, 0}, tokens), std::runtime_error);
  CHECK_THROWS_AS(DivergenceBaseWriter(path, {0, 2, 1, 0}, tokens), std::runtime_error);
  CHECK(std::filesystem::is_empty(dir.path()));
}

TEST_CASE("an unfinished base leaves no file") {
  const test::TempDir dir;
  const std::string path = (dir / "base").string();
  { DivergenceBaseWriter writer(path, {3, 4, 1, 2}, std::vector<int32_t>{0, 1, 2, 1}); }
  CHECK(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace stoker
