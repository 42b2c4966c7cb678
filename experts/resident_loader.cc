#include "experts/resident_loader.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

using Run = ResidentWeights::Run;

constexpr uint64_t kTouchPageBytes = 4 * kKiB;
constexpr uint64_t kHugePageBytes = 2 * kMiB;
// Tensors closer than this are read through the gap: a seek, or one more request, costs more.
constexpr uint64_t kMaxGapBytes = 64 * kKiB;
// Touched by the team while the reads of the wave before are under way. About what a pager has in
// flight by default: more would leave the disk idle, less would pay for a parallel region too
// often.
constexpr uint64_t kWaveBytes = 64 * kMiB;
constexpr size_t kMaxPendingReads = 512;

bool Before(const FileExtent& a, const FileExtent& b) {
  return a.file != b.file ? a.file < b.file : a.offset < b.offset;
}

// All expert matrices, in file order. Works for stacked tensors and for one tensor per matrix.
std::vector<FileExtent> ExpertExtents(const WeightStore& store) {
  std::vector<FileExtent> extents;
  const ModelConfig& config = store.config();
  extents.reserve(static_cast<size_t>(config.n_layers * config.n_experts * kExpertParts));
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (int32_t expert = 0; expert < config.n_experts; ++expert) {
      for (int part = 0; part < kExpertParts; ++part) {
        extents.push_back(store.Expert({layer, expert}, static_cast<ExpertPart>(part)).extent);
      }
    }
  }
  std::sort(extents.begin(), extents.end(), Before);
  return extents;
}

bool OverlapsAny(const std::vector<FileExtent>& sorted, const FileExtent& extent) {
  const auto next = std::lower_bound(sorted.begin(), sorted.end(), extent, Before);
  if (next != sorted.end() && next->file == extent.file &&
      next->offset < extent.offset + extent.bytes) {
    return true;
  }
  if (next == sorted.begin()) return false;
  const FileExtent& previous = *std::prev(next);
  return previous.file == extent.file && previous.offset + previous.bytes > extent.offset;
}

// One matrix and its place, for the partition of first touch.
struct Matrix {
  FileExtent extent;
  int64_t rows = 1;
  int64_t unit = 1;  // TensorView::row_unit
  TensorPlacement placement = TensorPlacement::kRows;
};

std::vector<Matrix> MatricesToLoad(const WeightStore& store, bool experts,
                                   std::string_view without) {
  const std::vector<FileExtent> expert_extents = ExpertExtents(store);
  std::vector<Matrix> matrices;
  for (const StoredTensor& tensor : store.tensors()) {
    if (tensor.extent.bytes == 0 || OverlapsAny(expert_extents, tensor.extent)) continue;
    if (tensor.name == without) continue;
    const size_t n_dims = tensor.shape.size();
    matrices.push_back({tensor.extent, n_dims >= 2 ? tensor.shape[n_dims - 2] : 1,
                        store.RowUnit(tensor), PlacementOf(store, tensor)});
  }
  if (experts) {
    const ModelConfig& config = store.config();
    for (int32_t layer = 0; layer < config.n_layers; ++layer) {
      for (int32_t expert = 0; expert < config.n_experts; ++expert) {
        for (int p = 0; p < kExpertParts; ++p) {
          const ExpertPartExtent part = store.Expert({layer, expert}, static_cast<ExpertPart>(p));
          matrices.push_back({.extent = part.extent, .rows = part.rows});
        }
      }
    }
  }
  std::sort(matrices.begin(), matrices.end(),
            [](const Matrix& a, const Matrix& b) { return Before(a.extent, b.extent); });
  return matrices;
}

struct Layout {
  std::vector<Run> runs;
  uint64_t bytes = 0;  // of memory
};

Layout LayOut(const std::vector<Matrix>& matrices, uint64_t alignment) {
  Layout layout;
  for (const Matrix& matrix : matrices) {
    const FileExtent& extent = matrix.extent;
    if (!layout.runs.empty()) {
      Run& run = layout.runs.back();
      const uint64_t run_end = run.file_offset + run.bytes;
      if (run.file == extent.file && extent.offset <= run_end + kMaxGapBytes) {
        run.bytes = std::max(run_end, extent.offset + extent.bytes) - run.file_offset;
        layout.bytes = run.position + run.bytes;
        continue;
      }
    }
    const uint64_t position = AlignUp(layout.bytes, alignment) + extent.offset % alignment;
    layout.runs.push_back({extent.file, extent.offset, extent.bytes, position});
    layout.bytes = position + extent.bytes;
  }
  // NodeBuffer aligns to 2 MiB what is larger than 1 MiB: enough for any pager.
  layout.bytes = std::max(AlignUp(layout.bytes, alignment), kHugePageBytes);
  return layout;
}

// The run that holds the extent.
const Run& FindRun(const std::vector<Run>& runs, const FileExtent& extent) {
  auto next = std::upper_bound(runs.begin(), runs.end(), extent,
                               [](const FileExtent& wanted, const Run& run) {
                                 return wanted.file != run.file ? wanted.file < run.file
                                                                : wanted.offset < run.file_offset;
                               });
  STOKER_CHECK_MSG(next != runs.begin(), "extent not loaded");
  const Run& run = *std::prev(next);
  STOKER_CHECK_MSG(run.file == extent.file &&
                       extent.offset + extent.bytes <= run.file_offset + run.bytes,
                   "extent not loaded");
  return run;
}

// [begin, end) of the memory; borders are multiples of 2 MiB except at the ends of the memory.
struct Stretch {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// For each worker the stretches it touches first: its rows of every matrix, to the huge page.
std::vector<std::vector<Stretch>> PartitionByRows(const std::vector<Matrix>& matrices,
                                                  const Layout& layout,
                                                  const Partition& partition) {
  std::vector<std::vector<Stretch>> of_worker(static_cast<size_t>(partition.n_workers()));
  uint64_t begin = 0;
  size_t owner = 0;
  const auto start = [&](uint64_t position, size_t worker) {
    const uint64_t page = AlignDown(position, kHugePageBytes);
    if (page > begin) {
      of_worker[owner].push_back({begin, page});
      begin = page;
    }
    owner = worker;
  };
  for (const Matrix& matrix : matrices) {
    const Run& run = FindRun(layout.runs, matrix.extent);
    const uint64_t position = run.position + (matrix.extent.offset - run.file_offset);
    const uint64_t row_bytes = matrix.extent.bytes / static_cast<uint64_t>(matrix.rows);
    for (int w = 0; w < partition.n_workers(); ++w) {
      const auto [first, last] = partition.Rows(w, matrix.rows, matrix.unit);
      if (first < last) start(position + static_cast<uint64_t>(first) * row_bytes, w);
    }
  }
  if (layout.bytes > begin) of_worker[owner].push_back({begin, layout.bytes});
  return of_worker;
}

// The node of every page, by the same rows. Vectors and the router, which the first node alone
// reads, lie on the first; of the embedding a token reads one row, so it is striped.
PagePlan PlanPages(const std::vector<Matrix>& matrices, const Layout& layout,
                   const Partition& partition) {
  PagePlan plan;
  const int first_node = partition.nodes().front().memory.front().os_node;
  for (const Matrix& matrix : matrices) {
    const Run& run = FindRun(layout.runs, matrix.extent);
    const uint64_t position = run.position + (matrix.extent.offset - run.file_offset);
    switch (matrix.placement) {
      case TensorPlacement::kRows:
        plan.AddRows(partition, position, matrix.extent.bytes / static_cast<uint64_t>(matrix.rows),
                     matrix.rows, matrix.unit);
        break;
      case TensorPlacement::kInterleaved:
        // Without nodes to take turns, everything is on one.
        if (partition.stripe_nodes().empty()) {
          plan.From(position, first_node);
        } else {
          plan.AddStripes(partition, position, matrix.extent.bytes);
        }
        break;
      case TensorPlacement::kReplicated:
      case TensorPlacement::kFirst:
        plan.From(position, first_node);
        break;
    }
  }
  return plan;
}

// Hands out, per worker, the next bytes to touch and read.
class WaveCutter {
 public:
  WaveCutter(std::vector<std::vector<Stretch>> of_worker)
      : of_worker_(std::move(of_worker)), next_(of_worker_.size(), 0), wave_(of_worker_.size()) {}

  // False when everything has been handed out.
  bool Cut() {
    const uint64_t share =
        AlignUp(DivCeil<uint64_t>(kWaveBytes, of_worker_.size()), kHugePageBytes);
    bool any = false;
    for (size_t w = 0; w < of_worker_.size(); ++w) {
      wave_[w].clear();
      uint64_t left = share;
      while (left > 0 && next_[w] < of_worker_[w].size()) {
        Stretch& stretch = of_worker_[w][next_[w]];
        const uint64_t bytes = std::min(left, stretch.end - stretch.begin);
        wave_[w].push_back({stretch.begin, stretch.begin + bytes});
        stretch.begin += bytes;
        left -= bytes;
        if (stretch.begin == stretch.end) ++next_[w];
        any = true;
      }
    }
    return any;
  }
  const std::vector<std::vector<Stretch>>& wave() const { return wave_; }

 private:
  std::vector<std::vector<Stretch>> of_worker_;
  std::vector<size_t> next_;
  std::vector<std::vector<Stretch>> wave_;
};

void TouchPages(std::byte* memory, const Stretch& stretch) {
  for (uint64_t at = stretch.begin; at < stretch.end; at += kTouchPageBytes) {
    *static_cast<volatile std::byte*>(memory + at) = std::byte{0};
  }
}

// Submits the parts of runs inside stretches and keeps account of what came back.
class LoadReader {
 public:
  LoadReader(const WeightStore& store, Pager& pager, const Layout& layout, std::byte* memory,
             const LoadProgress& progress)
      : store_(store), pager_(pager), layout_(layout), memory_(memory), progress_(progress) {
    for (const Run& run : layout.runs) total_ += run.bytes;
    if (progress_) progress_(0, total_);
  }
  ~LoadReader() {
    pager_.CancelQueued();
    std::array<ReadCompletion, 16> completions;
    while (pager_.Reap(completions, true) > 0) {
    }
  }
  LoadReader(const LoadReader&) = delete;
  LoadReader& operator=(const LoadReader&) = delete;

  void Read(const Stretch& stretch) {
    auto run = std::upper_bound(layout_.runs.begin(), layout_.runs.end(), stretch.begin,
                                [](uint64_t position, const Run& candidate) {
                                  return position < candidate.position + candidate.bytes;
                                });
    for (; run != layout_.runs.end() && run->position < stretch.end; ++run) {
      const uint64_t begin = std::max(run->position, stretch.begin);
      const uint64_t end = std::min(run->position + run->bytes, stretch.end);
      const ReadRequest request{run->file, run->file_offset + (begin - run->position), end - begin,
                                memory_ + AlignDown(begin, pager_.alignment()), end - begin};
      while (pager_.pending() >= kMaxPendingReads) Reap(true);
      pager_.Submit({&request, 1});
      pager_.FillQueues();
    }
  }

  // Throws for a failed read.
  void Reap(bool wait) {
    std::array<ReadCompletion, 64> completions;
    const size_t n = pager_.Reap(completions, wait);
    for (size_t i = 0; i < n; ++i) {
      if (completions[i].status != ReadStatus::kOk) {
        throw std::runtime_error(ReadErrorMessage(store_, completions[i]));
      }
      done_ += completions[i].tag;
    }
    if (n > 0 && progress_) progress_(done_, total_);
  }
  bool finished() const { return done_ == total_; }

 private:
  const WeightStore& store_;
  Pager& pager_;
  const Layout& layout_;
  std::byte* const memory_;
  const LoadProgress& progress_;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

ExpertView MappedView(const WeightStore& store, ExpertId id) {
  return {store.ExpertView(id, ExpertPart::kGate), store.ExpertView(id, ExpertPart::kUp),
          store.ExpertView(id, ExpertPart::kDown)};
}

// Starts reading the pages under [data, data + bytes) into the page cache.
void AdviseWillNeed(const TensorView& view) {
  static const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(view.data);
  const uintptr_t begin = AlignDown(address, page_bytes);
  // Only advice: when refused, the pages come by faults.
  static_cast<void>(::madvise(reinterpret_cast<void*>(begin), address - begin + view.bytes,
                              MADV_WILLNEED));
}

}  // namespace

TensorPlacement PlacementOf(const WeightStore& store, const StoredTensor& tensor) {
  if (tensor.name == "token_embd.weight" && !store.config().tied_embeddings) {
    return TensorPlacement::kInterleaved;
  }
  if (tensor.name.ends_with(".ffn_gate_inp.weight")) return TensorPlacement::kFirst;
  return tensor.shape.size() < 2 ? TensorPlacement::kReplicated : TensorPlacement::kRows;
}

uint64_t ResidentWeights::MemoryBytes(const WeightStore& store, const Pager& pager, bool experts,
                                      std::string_view without) {
  return LayOut(MatricesToLoad(store, experts, without), pager.alignment()).bytes;
}

ResidentWeights ResidentWeights::Load(const WeightStore& store, Pager& pager, ThreadTeam& team,
                                      const ResidentOptions& options) {
  STOKER_CHECK(pager.pending() == 0 && kHugePageBytes % pager.alignment() == 0);
  const std::vector<Matrix> matrices = MatricesToLoad(store, options.experts, options.without);
  Layout layout = LayOut(matrices, pager.alignment());
  ResidentWeights weights;
  weights.store_ = &store;
  weights.has_experts_ = options.experts;
  weights.memory_ = NodeBuffer::Allocate(layout.bytes, "resident weights");
  const Partition& partition = team.partition();
  if (partition.binds_rows()) {
    weights.memory_.Bind(PlanPages(matrices, layout, partition), "resident weights");
  } else {
    weights.memory_.Interleave(partition.stripe_nodes(), "resident weights");
  }
  std::byte* const memory = weights.memory_.data();

  WaveCutter cutter(PartitionByRows(matrices, layout, partition));
  LoadReader reader(store, pager, layout, memory, options.progress);
  while (cutter.Cut()) {
    team.Run([&](const Worker& worker) {
      for (const Stretch& stretch : cutter.wave()[static_cast<size_t>(worker.index)]) {
        TouchPages(memory, stretch);
      }
    });
    for (const std::vector<Stretch>& of_worker : cutter.wave()) {
      for (const Stretch& stretch : of_worker) reader.Read(stretch);
    }
    reader.Reap(false);
  }
  while (!reader.finished()) reader.Reap(true);
  weights.runs_ = std::move(layout.runs);
  return weights;
}

const std::byte* ResidentWeights::At(const FileExtent& extent) const {
  if (extent.bytes == 0) return memory_.data();
  const Run& run = FindRun(runs_, extent);
  return memory_.data() + run.position + (extent.offset - run.file_offset);
}

std::optional<TensorView> ResidentWeights::Find(std::string_view name) const {
  const StoredTensor* tensor = store_->Find(name);
  if (tensor == nullptr) return std::nullopt;
  TensorView view = store_->View(*tensor);
  view.data = At(tensor->extent);
  return view;
}

TensorView ResidentWeights::View(std::string_view name) const {
  TensorView view = store_->View(store_->Get(name));
  view.data = At(store_->Get(name).extent);
  return view;
}

TensorView ResidentWeights::Expert(ExpertId id, ExpertPart part) const {
  STOKER_CHECK(has_experts_);
  TensorView view = store_->ExpertView(id, part);
  view.data = At(store_->Expert(id, part).extent);
  return view;
}

ResidentExperts::ResidentExperts(const WeightStore& store, const ResidentWeights& weights)
    : n_experts_(store.config().n_experts) {
  const int64_t n_layers = store.config().n_layers;
  views_.reserve(static_cast<size_t>(n_layers * n_experts_));
  for (int32_t layer = 0; layer < n_layers; ++layer) {
    for (int32_t expert = 0; expert < n_experts_; ++expert) {
      const ExpertId id{layer, expert};
      views_.push_back({weights.Expert(id, ExpertPart::kGate), weights.Expert(id, ExpertPart::kUp),
                        weights.Expert(id, ExpertPart::kDown)});
      for (TensorView* view : {&views_.back().gate, &views_.back().up, &views_.back().down}) {
        view->may_relay = true;
      }
    }
  }
  announced_.reserve(static_cast<size_t>(n_experts_));
}

void ResidentExperts::Request(std::span<const ExpertId> ids) {
  STOKER_CHECK_MSG(next_ == announced_.size(), "announced experts not taken");
  announced_.assign(ids.begin(), ids.end());
  next_ = 0;
}

ExpertHandle ResidentExperts::Next() {
  STOKER_CHECK_MSG(next_ < announced_.size(), "no announced expert left");
  const ExpertId id = announced_[next_++];
  return ExpertHandle(this, id, views_[static_cast<size_t>(id.layer * n_experts_ + id.expert)], 0);
}

void ResidentExperts::Relaid(ExpertId id, uint32_t /*slot*/, const ExpertView& view) {
  views_[static_cast<size_t>(id.layer * n_experts_ + id.expert)] = view;
}

MappedExperts::MappedExperts(const WeightStore& store) : store_(store) {
  announced_.reserve(static_cast<size_t>(store.config().n_experts));
}

void MappedExperts::Request(std::span<const ExpertId> ids) {
  STOKER_CHECK_MSG(next_ == announced_.size(), "announced experts not taken");
  announced_.assign(ids.begin(), ids.end());
  next_ = 0;
  for (const ExpertId id : announced_) {
    const ExpertView view = MappedView(store_, id);
    for (const TensorView& matrix : {view.gate, view.up, view.down}) AdviseWillNeed(matrix);
  }
}

ExpertHandle MappedExperts::Next() {
  STOKER_CHECK_MSG(next_ < announced_.size(), "no announced expert left");
  const ExpertId id = announced_[next_++];
  return ExpertHandle(this, id, MappedView(store_, id), 0);
}

}  // namespace stoker
