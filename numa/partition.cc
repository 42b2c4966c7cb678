#include "numa/partition.h"

#include <algorithm>
#include <cmath>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {

int64_t CutAt(double cumulative, int64_t n_units) {
  const auto cut = static_cast<int64_t>(std::llround(cumulative * static_cast<double>(n_units)));
  return std::clamp<int64_t>(cut, 0, n_units);
}

std::pair<int64_t, int64_t> EvenShare(int index, int count, int64_t n, int64_t grain) {
  STOKER_CHECK(n >= 0 && grain > 0);
  const int64_t grains = DivCeil(n, grain);
  const int64_t each = grains / count;
  const int64_t larger = grains % count;  // the first `larger` parts take one grain more
  const int64_t begin = each * index + std::min<int64_t>(index, larger);
  const int64_t end = begin + each + (index < larger ? 1 : 0);
  return {std::min(begin * grain, n), std::min(end * grain, n)};
}

Partition::Partition(int n_workers)
    : Partition(std::vector<Node>{{.n_workers = n_workers, .memory = {Memory{}}}}) {}

Partition::Partition(std::vector<Node> nodes, std::vector<int> stripe_nodes)
    : nodes_(std::move(nodes)), stripe_nodes_(std::move(stripe_nodes)) {
  STOKER_CHECK(!nodes_.empty());
  double sum = 0;
  for (const Node& node : nodes_) {
    STOKER_CHECK(node.n_workers > 0);
    for (const Memory& memory : node.memory) sum += memory.share;
  }
  STOKER_CHECK(sum > 0);
  first_worker_.push_back(0);
  cumulative_.push_back(0);
  for (Node& node : nodes_) {
    double share = 0;
    for (Memory& memory : node.memory) {
      memory.share /= sum;
      share += memory.share;
    }
    first_worker_.push_back(first_worker_.back() + node.n_workers);
    cumulative_.push_back(cumulative_.back() + share);
  }
  cumulative_.back() = 1.0;  // sums of rounded shares end beside it
}

int Partition::NodeOf(int worker) const {
  STOKER_CHECK(worker >= 0 && worker < n_workers());
  const auto next = std::upper_bound(first_worker_.begin(), first_worker_.end(), worker);
  return static_cast<int>(next - first_worker_.begin()) - 1;
}

double Partition::share(int node) const {
  const auto i = static_cast<size_t>(node);
  return cumulative_[i + 1] - cumulative_[i];
}

bool Partition::binds_rows() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) {
    return std::any_of(node.memory.begin(), node.memory.end(),
                       [](const Memory& memory) { return memory.os_node >= 0; });
  });
}

Partition::Range Partition::OfNode(int node, int64_t n, int64_t unit) const {
  STOKER_CHECK(n >= 0 && unit > 0);
  const int64_t units = DivCeil(n, unit);
  const auto i = static_cast<size_t>(node);
  return {std::min(CutAt(cumulative_[i], units) * unit, n),
          std::min(CutAt(cumulative_[i + 1], units) * unit, n)};
}

Partition::Range Partition::OfWorker(int worker, int64_t n, int64_t unit, int64_t grain) const {
  const int node = NodeOf(worker);
  const auto [begin, end] = OfNode(node, n, unit);
  const auto [first, last] =
      EvenShare(worker - FirstWorker(node), n_workers(node), end - begin, grain);
  return {begin + first, begin + last};
}

Partition::Range Partition::Rows(int worker, int64_t rows, int64_t unit) const {
  return OfWorker(worker, rows, unit > 1 ? unit : kRowGrain, kRowGrain);
}

Partition::Range Partition::NodeRows(int node, int64_t rows, int64_t unit) const {
  return OfNode(node, rows, unit > 1 ? unit : kRowGrain);
}

std::vector<Partition::Piece> Partition::MemoryOfRows(int64_t rows, int64_t unit) const {
  return MemoryOf(rows, unit > 1 ? unit : kRowGrain);
}

std::vector<Partition::Piece> Partition::MemoryOf(int64_t n, int64_t unit) const {
  const int64_t units = DivCeil(n, unit);
  std::vector<Piece> pieces;
  int64_t begin = 0;
  for (int node = 0; node < n_nodes(); ++node) {
    const int64_t node_end = OfNode(node, n, unit).second;
    double cumulative = cumulative_[static_cast<size_t>(node)];
    const std::vector<Memory>& memory = nodes_[static_cast<size_t>(node)].memory;
    for (size_t i = 0; i < memory.size(); ++i) {
      cumulative += memory[i].share;
      const bool is_last = i + 1 == memory.size();
      const int64_t end = is_last ? node_end : std::min(CutAt(cumulative, units) * unit, node_end);
      if (end > begin) pieces.push_back({begin, end, memory[i].os_node});
      begin = std::max(begin, end);
    }
  }
  return pieces;
}

}  // namespace stoker
