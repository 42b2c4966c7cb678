#include "numa/partition.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "numa/thread_team.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

Partition::Node NodeOf(int n_workers, double share, int os_node = -1) {
  return {.n_workers = n_workers, .memory = {{.os_node = os_node, .share = share}}};
}

const std::vector<Partition> kPartitions = {
    Partition(1),
    Partition(7),
    Partition(std::vector{NodeOf(1, 1), NodeOf(1, 1)}),
    Partition(std::vector{NodeOf(4, 300), NodeOf(4, 100)}),
    Partition(std::vector{NodeOf(3, 0.2), NodeOf(1, 0.3), NodeOf(5, 0.5)}),
    Partition(std::vector{NodeOf(8, 1), NodeOf(8, 1), NodeOf(8, 1), NodeOf(8, 1)}),
};

TEST_CASE("every index once, in worker order, nodes by share") {
  for (size_t p = 0; p < kPartitions.size(); ++p) {
    const Partition& partition = kPartitions[p];
    for (const int64_t unit : {1, 16, 128}) {
      for (const int64_t n : {0, 1, 2, 63, 64, 1000, 9216, 200064}) {
        CAPTURE(p, unit, n);
        int64_t next = 0;
        for (int node = 0; node < partition.n_nodes(); ++node) {
          const auto [node_begin, node_end] = partition.OfNode(node, n, unit);
          REQUIRE(node_begin == next);
          const double ideal = partition.share(node) * static_cast<double>(n);
          CHECK(std::abs(static_cast<double>(node_end - node_begin) - ideal) <=
                static_cast<double>(unit));
          for (int w = partition.FirstWorker(node); w < partition.FirstWorker(node + 1); ++w) {
            REQUIRE(partition.NodeOf(w) == node);
            const auto [begin, end] = partition.OfWorker(w, n, unit, unit);
            REQUIRE(begin == next);
            REQUIRE(end >= begin);
            next = end;
          }
          REQUIRE(next == node_end);
        }
        REQUIRE(next == n);
      }
    }
  }
}

TEST_CASE("rows of matrices: whole strips, units stay on one node, memory as compute") {
  for (size_t p = 0; p < kPartitions.size(); ++p) {
    const Partition& partition = kPartitions[p];
    for (const auto& [rows, unit] : std::vector<std::pair<int64_t, int64_t>>{
             {6144, 1}, {9216, 1}, {24576, 384}, {8192, 1024}, {1024, 128}, {200064, 1}, {48, 1}}) {
      CAPTURE(p, rows, unit);
      const std::vector<Partition::Piece> memory = partition.MemoryOfRows(rows, unit);
      int64_t next = 0;
      size_t piece = 0;
      for (int node = 0; node < partition.n_nodes(); ++node) {
        const auto [node_begin, node_end] = partition.NodeRows(node, rows, unit);
        CHECK((node_end % unit == 0 || node_end == rows));
        if (node_begin < node_end) {
          REQUIRE(piece < memory.size());
          CHECK(memory[piece].begin == node_begin);
          CHECK(memory[piece].end == node_end);
          ++piece;
        }
        for (int w = partition.FirstWorker(node); w < partition.FirstWorker(node + 1); ++w) {
          const auto [begin, end] = partition.Rows(w, rows, unit);
          REQUIRE(begin == next);
          REQUIRE((begin >= node_begin && end <= node_end));
          if (unit == 1 && rows >= 6144) CHECK((begin % kRowGrain == 0 || begin == rows));
          next = end;
        }
      }
      REQUIRE(next == rows);
      REQUIRE(piece == memory.size());
    }
  }
}

TEST_CASE("memory without workers belongs to the node that computes it") {
  const Partition partition(
      {{.n_workers = 2, .memory = {{0, 3}, {2, 1}}}, {.n_workers = 2, .memory = {{1, 4}}}});
  CHECK(partition.binds_rows());
  const std::vector<Partition::Piece> expected = {{0, 384, 0}, {384, 512, 2}, {512, 1024, 1}};
  CHECK(partition.MemoryOfRows(1024) == expected);
  CHECK(partition.NodeRows(0, 1024) == Partition::Range{0, 512});
  CHECK(partition.Rows(1, 1024) == Partition::Range{256, 512});
  CHECK_FALSE(Partition(3).binds_rows());
}

TEST_CASE("a worker among those of its node") {
  const Partition partition(std::vector{NodeOf(2, 1), NodeOf(3, 3)});
  const Worker worker{.index = 3, .count = 5, .node = 1, .partition = &partition};
  CHECK(worker.Share(400) == Partition::Range{200, 300});
  const Worker local = worker.OnNode();
  CHECK(local.index == 1);
  CHECK(local.count == 3);
  CHECK(local.node == 1);
  CHECK(local.Share(9) == Partition::Range{3, 6});
  CHECK(local.Rows(9) == Partition::Range{4, 8});
  CHECK(local.Rows(40, true) == Partition::Range{16, 32});
}

TEST_CASE("a team of one node shares as a worker without a team does") {
  for (const int64_t n : {5, 64, 1000}) {
    for (int index = 0; index < 3; ++index) {
      const Partition partition(3);
      const Worker of_team{.index = index, .count = 3, .partition = &partition};
      const Worker alone{.index = index, .count = 3};
      CHECK(of_team.Share(n, 16) == alone.Share(n, 16));
      CHECK(of_team.Rows(n, true) == alone.Rows(n, true));
    }
  }
}

}  // namespace
}  // namespace stoker
