#pragma once

// Composes a running model once: opens the weight store, decides the memory mode, loads, builds
// team, backends, expert source, tokenizer and Model, and hands out Sessions. Everything it
// composes lives as long as it does. It is the only place where parts are chosen. Engine-thread
// only.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experts/expert_cache.h"
#include "experts/pager.h"
#include "mmap/weight_store.h"
#include "numa/page_check.h"
#include "numa/placement_plan.h"
#include "numa/thread_team.h"
#include "runtime/model.h"
#include "runtime/rounding.h"
#include "runtime/session.h"
#include "runtime/text/tokenizer.h"

namespace stoker {

// As MakePager.
using PagerFactory = std::function<std::unique_ptr<Pager>(IoBackend, std::span<const PagerFile>,
                                                          const PagerOptions&)>;

enum class MemoryMode : uint8_t { kAuto, kResident, kMapped, kPaged };
std::string_view MemoryModeName(MemoryMode mode);  // "auto", "resident", "mapped", "paged"

struct EngineOptions {
  std::filesystem::path model_path;
  int n_threads = 0;  // 0: physical cores the process may use
  bool pin_threads = true;
  NumaChoice numa;
  int64_t n_ctx = 8192;        // positions per session
  int64_t chunk_tokens = 0;  // -ub: largest chunk of a prefill; 0: chosen, see PlanMemory
  MemoryMode mode = MemoryMode::kAuto;
  std::optional<uint64_t> memory_bytes;  // --memory: the whole budget
  IoBackend io = IoBackend::kAuto;
  std::string policy = "auto";  // of the expert cache: MakePolicy's spec
  PrefetchMode prefetch = PrefetchMode::kAuto;
  std::vector<std::filesystem::path> mirror_dirs;  // with copies of the files on other drives
  std::filesystem::path trace_path;                // routing trace to write; empty: none
  Precision precision = Precision::kFast;
  KvChoice kv;
  // Rows of logits computed at once: one for each sequence in conversation, many where all of a
  // text's are wanted.
  int64_t logit_rows = 8;
  bool tune = true;  // measure what is faster on this machine and drive, or use what was measured
  bool reference_backend = false;  // oracle for tests
  // For tests: the disk, and the slots of the cache in paged mode (0: what the budget allows).
  PagerFactory make_pager;
  uint32_t cache_slots = 0;
  bool need_tokenizer = true;  // false: none is loaded, and tokenizer() is null
  // Memory the caller will use for results, a row of the budget. Asked when the headers have been
  // read, and may refuse the model by throwing.
  std::function<uint64_t(const ModelConfig&)> result_bytes;
  std::function<void(uint64_t, uint64_t)> on_load;  // (bytes done, bytes total)
};

// A row of the memory budget table printed at load.
struct BudgetRow {
  std::string what;
  uint64_t bytes = 0;
};

// What Engine::Open would do: for `inspect --placement`.
struct EnginePlan {
  MemoryMode mode = MemoryMode::kResident;
  std::vector<BudgetRow> budget;
  PlacementPlan placement;
};

class Engine {
 public:
  // Decides as Open does, on the described machine where HWLOC_SYNTHETIC or HWLOC_XMLFILE name one,
  // and loads nothing. Throws as Open does.
  static EnginePlan Plan(EngineOptions options);
  // Throws std::runtime_error with a one-line message naming the object and the remedy.
  static std::unique_ptr<Engine> Open(EngineOptions options);
  ~Engine();

  const WeightStore& store() const;
  const ModelConfig& config() const;
  const Tokenizer* tokenizer() const;  // nullptr when options().need_tokenizer was false
  Model& model();
  ThreadTeam& team();
  MemoryMode mode() const;  // resolved, never kAuto
  // Counters of the expert cache; nullptr unless mode() is kPaged.
  const ExpertCache* cache() const;
  const EngineOptions& options() const;
  const std::vector<BudgetRow>& budget() const;
  KvTypes kv() const;

  // Where everything was to go, and where the pages of weights and slots are, asked when the
  // engine opened. The check is empty in mapped mode.
  const PlacementPlan& placement() const;
  const PageCheck& page_check() const;
  // "numa: shard over 2 nodes (50.0 %, 50.0 %); 99.9 % of weight pages on plan (...)" for stderr;
  // empty on a machine of one node where nothing was asked for.
  std::string NumaLine() const;

  // "mode: resident (13.4 GiB in huge pages, io_uring); isa avx512; 2 threads; ..." for stderr.
  std::string ModeLine() const;
  // How the cache's pager reads: what a measurement of the disk should do too.
  PagerOptions pager_options() const;
  // "matmul: panels unpacked first: Q4_K from 6 tokens on (measured in 24 ms); disk: pieces of 2
  // MiB, ..."; empty where there was no choice.
  std::string TuningLine() const;
  std::unique_ptr<Session> NewSession();

 private:
  Engine();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace stoker
