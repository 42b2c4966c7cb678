#include "numa/page_plan.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "numa/bytes.h"
#include "numa/page_check.h"
#include "numa/topology.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

using Range = PagePlan::Range;

Partition TwoNodes(double a, double b, std::vector<int> stripes = {}) {
  return Partition({{.n_workers = 1, .memory = {{.os_node = 0, .share = a}}},
                    {.n_workers = 1, .memory = {{.os_node = 1, .share = b}}}},
                   std::move(stripes));
}

TEST_CASE("every page once; a page with a cut belongs to what begins there") {
  PagePlan plan;
  plan.From(0, 0);
  plan.From(5000, 1);   // in the second page
  plan.From(12288, 0);  // at the fourth
  plan.From(12300, 1);  // in the fourth too
  plan.From(20000, 1);  // no change
  plan.From(30000, -1);
  const std::vector<Range> expected = {{0, 4096, 0}, {4096, 28672, 1}, {28672, 40960, -1}};
  CHECK(plan.Ranges(40960, 4096) == expected);
  CHECK(plan.Ranges(40960, 2 * kMiB) == std::vector<Range>{{0, 40960, -1}});
  CHECK(PagePlan().empty());
  CHECK(PagePlan().Ranges(4096, 4096).empty());
}

TEST_CASE("matrices are cut by rows, heads by heads, tables in stripes") {
  const Partition partition = TwoNodes(1, 1, {0, 1});
  PagePlan plan;
  plan.AddRows(partition, 0, 4096, 256);
  plan.AddItems(partition, 256 * 4096, 65536, 8);
  const uint64_t table = 256 * 4096 + 8 * 65536;
  plan.AddStripes(partition, table, 5 * kMiB);
  const std::vector<Range> ranges = plan.Ranges(8 * kMiB, 4096);
  const std::vector<Range> expected = {
      {0, 128 * 4096, 0},
      {128 * 4096, 256 * 4096, 1},
      {256 * 4096, 256 * 4096 + 4 * 65536, 0},
      {256 * 4096 + 4 * 65536, table, 1},
      {table, table + 2 * kMiB, 0},
      {table + 2 * kMiB, table + 4 * kMiB, 1},
      {table + 4 * kMiB, 8 * kMiB, 0},
  };
  CHECK(ranges == expected);
}

TEST_CASE("uneven shares move the cuts") {
  PagePlan plan;
  plan.AddRows(TwoNodes(3, 1), 0, 4096, 1024);
  const std::vector<Range> expected = {{0, 768 * 4096, 0}, {768 * 4096, 1024 * 4096, 1}};
  CHECK(plan.Ranges(1024 * 4096, 4096) == expected);
}

TEST_CASE("bound pages are found where they were bound") {
  const int node = Topology::Detect().nodes.front().os_index;
  PagePlan plan;
  plan.From(0, node);
  plan.From(3 * kMiB + 4096, -1);
  NodeBuffer buffer = NodeBuffer::Allocate(8 * kMiB, "test");
  buffer.Bind(plan, "test");
  CHECK(CheckPages(buffer).bytes == 0);  // nothing is touched
  std::memset(buffer.data(), 1, 6 * kMiB);
  const PageCheck check = CheckPages(buffer);
  if (check.refused) return;
  CHECK(check.bytes >= 6 * kMiB);
  CHECK(check.on_plan == 3 * kMiB + 4096);
  CHECK(check.not_bound == check.bytes - check.on_plan);
  CHECK(check.fraction_on_plan() == 1.0);
  CHECK(check.Format("weight").starts_with("100.0 % of weight pages on plan (node "));
  // A sample of a few pages says the same.
  CHECK(CheckPages(buffer, 16).fraction_on_plan() == 1.0);
}

TEST_CASE("pages elsewhere are counted, and never rounded up to all") {
  PageCheck check;
  check.bytes = 1'000'000;
  check.on_plan = 999'999;
  check.on_node = {999'999, 1};
  CHECK(check.Format("weight").starts_with("99.9 % of weight pages on plan"));
  check += check;
  CHECK(check.on_node[1] == 2);
  check.refused = true;
  CHECK(check.Format("slot").find("not known") != std::string::npos);
}

}  // namespace
}  // namespace stoker
