#pragma once

// Loads weights into huge pages at the speed of the disk: the dense tensors, or the whole model.
// The memory is an image of the file: runs of neighbouring tensors are read as they lie there, so
// padding costs next to nothing and every read is large and sequential. Pages are first touched by
// the worker that will compute on those rows, while the reads of the previous stretch are under
// way, and bound to its node as the team's partition says. ResidentWeights owns the memory; views
// borrow from it. Immutable after Load: thread-safe.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "experts/expert_source.h"
#include "experts/pager.h"
#include "mmap/tensor_view.h"
#include "mmap/weight_store.h"
#include "numa/node_buffer.h"
#include "numa/placement_plan.h"
#include "numa/thread_team.h"

namespace stoker {

// bytes done, bytes in all. Called on the loading thread, at least at the start and at the end.
using LoadProgress = std::function<void(uint64_t, uint64_t)>;

// How a tensor outside the experts is placed when nodes share the weights.
TensorPlacement PlacementOf(const WeightStore& store, const StoredTensor& tensor);

struct ResidentOptions {
  bool experts = true;  // false: dense tensors only (paged mode)
  std::string_view without;  // a tensor by canonical name that is not loaded either
  LoadProgress progress;
};

class ResidentWeights {
 public:
  // What Load will allocate, for the budget table. At most 3 % above the tensors' bytes for any
  // model of 100 MiB and more.
  static uint64_t MemoryBytes(const WeightStore& store, const Pager& pager, bool experts,
                              std::string_view without = {});

  // `pager` must read the files of `store` (PagerFiles) and have nothing pending. Throws
  // std::runtime_error naming file, tensor and offset for a read error, std::system_error when
  // memory is refused.
  static ResidentWeights Load(const WeightStore& store, Pager& pager, ThreadTeam& team,
                              const ResidentOptions& options = {});

  // A dense tensor by canonical name. Find: nullopt when absent; View: throws std::runtime_error.
  std::optional<TensorView> Find(std::string_view name) const;
  TensorView View(std::string_view name) const;
  // One matrix of one expert; only when experts were loaded.
  TensorView Expert(ExpertId id, ExpertPart part) const;

  bool has_experts() const { return has_experts_; }
  uint64_t memory_bytes() const { return memory_.size(); }
  const NodeBuffer& memory() const { return memory_; }

  // A stretch of a file and where it lies in memory: position == file_offset modulo the alignment.
  struct Run {
    uint32_t file = 0;
    uint64_t file_offset = 0;
    uint64_t bytes = 0;
    uint64_t position = 0;
  };

 private:
  ResidentWeights() = default;
  const std::byte* At(const FileExtent& extent) const;

  const WeightStore* store_ = nullptr;
  std::vector<Run> runs_;  // by file, then offset
  NodeBuffer memory_;
  bool has_experts_ = false;
};

// Every expert is in memory: Request and Next are immediate. Borrows the weights.
class ResidentExperts final : public ExpertSource {
 public:
  ResidentExperts(const WeightStore& store, const ResidentWeights& weights);
  void Request(std::span<const ExpertId> ids) override;
  ExpertHandle Next() override;

 private:
  void Unpin(ExpertId /*id*/, uint32_t /*slot*/) override {}
  void Relaid(ExpertId id, uint32_t slot, const ExpertView& view) override;

  int64_t n_experts_;
  std::vector<ExpertView> views_;  // [n_layers * n_experts]
  std::vector<ExpertId> announced_;
  size_t next_ = 0;
};

// Experts through the store's mapping and the page cache. Request advises the kernel of the extents
// it is about to touch; faults happen where the bytes are used. Borrows the store.
class MappedExperts final : public ExpertSource {
 public:
  explicit MappedExperts(const WeightStore& store);
  void Request(std::span<const ExpertId> ids) override;
  ExpertHandle Next() override;

 private:
  void Unpin(ExpertId /*id*/, uint32_t /*slot*/) override {}

  const WeightStore& store_;
  std::vector<ExpertId> announced_;
  size_t next_ = 0;
};

}  // namespace stoker
