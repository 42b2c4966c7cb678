#include "experts/simulator_replay.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "experts/chunk_room.h"
#include "numa/check.h"

namespace stoker {
namespace {

// Adds what a request did to the totals, and to decode where it belongs.
class Counting {
 public:
  Counting(const Trace& trace, const ReplayOptions& options) : trace_(trace), options_(options) {}

  void Tokens(const TraceRequest& request) {
    // Every layer carries the same tokens; the first that a pass shows stands for all.
    if (request.token == last_token_ && request.layer > last_layer_) {
      last_layer_ = request.layer;
      return;
    }
    last_token_ = request.token;
    last_layer_ = request.layer;
    Each(request, [&](ReplayCounters& c) { c.tokens += request.n_tokens; });
  }
  void Access(const TraceRequest& request, bool hit) {
    const uint64_t bytes = hit ? 0 : trace_.header.expert_bytes[request.layer];
    Each(request, [&](ReplayCounters& c) {
      ++c.accesses;
      ++(hit ? c.hits : c.misses);
      c.miss_bytes += bytes;
    });
  }
  // What a miss found read ahead is in miss_bytes already.
  void SpeculativeRead(const TraceRequest& request, const TraceAccess& access) {
    const bool used = access.outcome == AccessOutcome::kHitPrefetched;
    Each(request, [&](ReplayCounters& c) {
      ++c.prefetches;
      c.wasted_bytes += used ? 0 : access.bytes;
    });
  }
  const ReplayResult& result() const { return result_; }

 private:
  template <typename Apply>
  void Each(const TraceRequest& request, Apply apply) {
    if (request.token < options_.skip_tokens) return;
    apply(result_.total);
    if (request.phase == Phase::kDecode) apply(result_.decode);
  }

  const Trace& trace_;
  const ReplayOptions& options_;
  ReplayResult result_;
  int64_t last_token_ = -1;
  int32_t last_layer_ = -1;
};

// The bookkeeping half of a cache: who is resident and who is pinned.
class ReplayCache {
 public:
  ReplayCache(CachePolicy& policy, const PolicyConfig& config)
      : policy_(policy),
        config_(config),
        resident_(config.n_entries(), 0),
        pinned_(config.n_entries(), 0),
        requested_(config.n_entries(), 0),
        protected_(config.n_entries(), 0) {}

  // One demand request from its first access to its last; `count(hit)` hears of each.
  template <typename Count>
  void Demand(const TraceRequest& request, Count count) {
    for (const EntryId entry : request_) SetRequested(entry, 0);
    request_.clear();
    if (request.layer == protected_layer_) ClearProtection();
    hit_.clear();
    for (const TraceAccess& access : request.accesses) {
      SetRequested(access.entry, 1);
      request_.push_back(access.entry);
      hit_.push_back(resident_[access.entry]);
      count(hit_.back() != 0);
    }
    told_.assign(hit_.size(), 0);
    released_ = 0;
    bool streaming = false;
    for (size_t i = 0; i < request_.size(); ++i) {
      Tell(request, i);
      if (hit_[i] != 0) continue;
      if (n_resident_ == config_.capacity) {
        EntryId victim = policy_.Victim(request_[i], pinned_);
        if (victim == kNoEntry && !protection_.empty()) {
          ClearProtection();
          victim = policy_.Victim(request_[i], pinned_);
        }
        if (victim == kNoEntry && !streaming) {
          streaming = true;
          for (size_t later = i + 1; later < request_.size(); ++later) {
            if (hit_[later] != 0) Tell(request, later);
          }
        }
        while (victim == kNoEntry) {
          ReleaseNext(i);
          victim = policy_.Victim(request_[i], pinned_);
        }
        Evict(victim);
      }
      Insert(request_[i]);
    }
    if (streaming) DropPassing();
    if (!IsChunk(config_, request.layer, request.phase, request_.size())) return;
    for (const EntryId entry : request_) SetRequested(entry, 0);
    MakeRoom(
        config_, request.layer, config_.capacity - n_resident_, policy_, pinned_,
        [this](EntryId entry) { return resident_[entry] != 0; },
        [this](EntryId entry) { Evict(entry); });
  }

  void Protect(const TraceRequest& request) {
    ClearProtection();
    protected_layer_ = request.layer;
    for (const TraceAccess& access : request.accesses) {
      protected_[access.entry] = 1;
      protection_.push_back(access.entry);
      Refresh(access.entry);
    }
  }

 private:
  void Tell(const TraceRequest& request, size_t i) {
    if (told_[i] != 0) return;
    told_[i] = 1;
    const TraceAccess& access = request.accesses[i];
    policy_.OnAccess(
        access.entry, hit_[i] != 0,
        {request.layer, request.token, access.gate_weight, access.rank, request.phase});
  }
  // The cache hands out hits in request order, then misses before `i` in request order, and each
  // handle that is dropped unpins one. Returns which.
  size_t ReleaseNext(size_t i) {
    const size_t n_hits = static_cast<size_t>(std::count(hit_.begin(), hit_.end(), 1));
    const uint8_t kind = released_ < n_hits ? 1 : 0;
    size_t skip = kind != 0 ? released_ : released_ - n_hits;
    ++released_;
    for (size_t j = 0; j < request_.size(); ++j) {
      if (hit_[j] != kind || skip-- > 0) continue;
      STOKER_CHECK_MSG(kind != 0 || j < i, "a policy names no victim though one is unpinned");
      SetRequested(request_[j], 0);
      return j;
    }
    STOKER_CHECK_MSG(false, "a policy names no victim though one is unpinned");
    return i;
  }
  // Misses whose handles are dropped after the last of them was started leave at once.
  void DropPassing() {
    while (released_ < request_.size()) {
      const size_t j = ReleaseNext(request_.size());
      if (hit_[j] == 0) Evict(request_[j]);
    }
  }
  void Evict(EntryId victim) {
    STOKER_CHECK_MSG(victim < resident_.size() && resident_[victim] != 0 && pinned_[victim] == 0,
                     "a policy named a victim that is pinned or not resident");
    policy_.OnErase(victim);
    resident_[victim] = 0;
    --n_resident_;
  }
  void Insert(EntryId entry) {
    policy_.OnInsert(entry);
    resident_[entry] = 1;
    ++n_resident_;
    STOKER_CHECK(n_resident_ <= config_.capacity);
  }
  void Refresh(EntryId entry) { pinned_[entry] = requested_[entry] | protected_[entry]; }
  void SetRequested(EntryId entry, uint8_t value) {
    requested_[entry] = value;
    Refresh(entry);
  }
  void ClearProtection() {
    for (const EntryId entry : protection_) {
      protected_[entry] = 0;
      Refresh(entry);
    }
    protection_.clear();
    protected_layer_ = -1;
  }

  CachePolicy& policy_;
  const PolicyConfig& config_;
  uint32_t n_resident_ = 0;
  std::vector<uint8_t> resident_;   // [n_entries]
  std::vector<uint8_t> pinned_;     // [n_entries] requested or protected
  std::vector<uint8_t> requested_;  // [n_entries]
  std::vector<uint8_t> protected_;  // [n_entries]
  std::vector<EntryId> request_;
  std::vector<uint8_t> hit_;   // of request_, when it was announced
  std::vector<uint8_t> told_;  // of request_: the policy knows of the access
  size_t released_ = 0;        // of request_, by dropped handles
  std::vector<EntryId> protection_;
  int32_t protected_layer_ = -1;
};

// For every demanded access the index of the next access of the same entry; kNever past the last.
constexpr uint64_t kNever = UINT64_MAX;

std::vector<uint64_t> NextUses(const Trace& trace, uint32_t n_entries) {
  std::vector<uint64_t> next;
  std::vector<uint64_t> last(n_entries, kNever);
  for (size_t r = 0; r < trace.size(); ++r) {
    const TraceRequest request = trace[r];
    if (request.kind != TraceKind::kDemand) continue;
    for (const TraceAccess& access : request.accesses) {
      if (last[access.entry] != kNever) next[last[access.entry]] = next.size();
      last[access.entry] = next.size();
      next.push_back(kNever);
    }
  }
  return next;
}

// How many accesses come before the end of what is known at a request: the same layer some tokens
// later. Asked request by request.
class Horizon {
 public:
  Horizon(const Trace& trace, int64_t passes) : trace_(trace), passes_(passes) {}

  uint64_t End(const TraceRequest& now) {
    for (; next_ < trace_.size(); ++next_) {
      const TraceRequest request = trace_[next_];
      if (request.kind != TraceKind::kDemand) continue;
      const int64_t last_token = now.token + passes_;
      if (request.token > last_token) break;
      if (request.token == last_token && request.layer > now.layer) break;
      accesses_ += request.accesses.size();
    }
    return accesses_;
  }

 private:
  const Trace& trace_;
  const int64_t passes_;
  size_t next_ = 0;
  uint64_t accesses_ = 0;
};

}  // namespace

ReplayResult Replay(const Trace& trace, CachePolicy& policy, const PolicyConfig& config,
                    const ReplayOptions& options) {
  ReplayCache cache(policy, config);
  Counting counting(trace, options);
  for (size_t r = 0; r < trace.size(); ++r) {
    const TraceRequest request = trace[r];
    if (request.kind == TraceKind::kDemand) {
      counting.Tokens(request);
      if (options.hints && !request.routes.empty()) {
        policy.OnRouterHint(request.layer, request.routes.last(request.routes_per_token));
      }
      cache.Demand(request, [&](bool hit) { counting.Access(request, hit); });
    } else if (options.speculation && request.kind == TraceKind::kProtect) {
      cache.Protect(request);
    } else if (options.speculation) {
      for (const TraceAccess& access : request.accesses) {
        counting.SpeculativeRead(request, access);
      }
    }
  }
  return counting.result();
}

ReplayResult ReplayBelady(const Trace& trace, uint32_t capacity, const ReplayOptions& options,
                          int64_t passes) {
  const auto n_entries = static_cast<uint32_t>(trace.header.n_layers) * trace.header.n_experts;
  const std::vector<uint64_t> next = NextUses(trace, n_entries);
  const bool sees_all = passes == 0;
  const std::vector<uint64_t> uses = sees_all ? std::vector<uint64_t>() : CountUses(trace);
  Horizon horizon(trace, passes);
  Counting counting(trace, options);
  std::vector<uint8_t> resident(n_entries, 0);
  std::vector<uint64_t> due(n_entries, kNever);   // next use of a resident entry
  std::vector<uint64_t> pinned_by(n_entries, 0);  // 1 + number of the last request that has it
  std::priority_queue<std::pair<uint64_t, EntryId>> furthest;  // may hold outdated pairs
  std::vector<std::pair<uint64_t, EntryId>> aside;
  std::vector<std::pair<uint64_t, EntryId>> missed;  // of one request, with their next uses
  uint32_t n_resident = 0;
  uint64_t position = 0;
  const auto serve = [&](uint64_t next_use, EntryId entry) {
    due[entry] = next_use;
    furthest.emplace(next_use, entry);
  };
  for (size_t r = 0; r < trace.size(); ++r) {
    const TraceRequest request = trace[r];
    if (request.kind != TraceKind::kDemand) continue;
    counting.Tokens(request);
    const uint64_t seen = sees_all ? kNever : horizon.End(request);  // accesses before it are known
    // As for the policies: what is resident when the request is announced is a hit, and hits are
    // served before misses. So a request that needs more slots than there are takes those of its
    // own entries that were served.
    missed.clear();
    for (const TraceAccess& access : request.accesses) {
      const bool hit = resident[access.entry] != 0;
      counting.Access(request, hit);
      pinned_by[access.entry] = r + 1;
      if (hit) {
        serve(next[position], access.entry);
      } else {
        missed.emplace_back(next[position], access.entry);
      }
      ++position;
    }
    for (const auto& [next_use, missing] : missed) {
      if (n_resident == capacity) {
        EntryId victim = kNoEntry;
        while (!furthest.empty()) {
          const auto [when, entry] = furthest.top();
          const bool known = sees_all || when < seen;
          if (known && victim != kNoEntry) break;
          furthest.pop();
          if (resident[entry] == 0 || due[entry] != when) continue;
          aside.emplace_back(when, entry);
          if (pinned_by[entry] == r + 1) continue;
          if (victim == kNoEntry || uses[entry] < uses[victim]) victim = entry;
          if (known) break;
        }
        STOKER_CHECK(!aside.empty());
        // All belong to this request: the furthest gives way.
        if (victim == kNoEntry) victim = aside.front().second;
        resident[victim] = 0;
        --n_resident;
        std::erase_if(aside, [victim](const auto& pair) { return pair.second == victim; });
        for (const auto& pair : aside) furthest.push(pair);
        aside.clear();
      }
      resident[missing] = 1;
      ++n_resident;
      serve(next_use, missing);
    }
  }
  return counting.result();
}

std::vector<uint64_t> CountUses(const Trace& trace) {
  std::vector<uint64_t> uses(static_cast<size_t>(trace.header.n_layers) * trace.header.n_experts);
  for (size_t r = 0; r < trace.size(); ++r) {
    const TraceRequest request = trace[r];
    if (request.kind != TraceKind::kDemand) continue;
    for (const TraceAccess& access : request.accesses) ++uses[access.entry];
  }
  return uses;
}

ReuseDistances ComputeReuseDistances(const Trace& trace) {
  const auto n_entries = static_cast<uint32_t>(trace.header.n_layers) * trace.header.n_experts;
  ReuseDistances result;
  result.histogram.assign(n_entries, 0);
  // A Fenwick tree over time marks the last use of each entry; the distance is the number of marks
  // after an entry's own (Bennett, Kruskal, IBM Journal of R&D 19(4), 1975). Time is renumbered
  // when the tree is full, so memory follows the number of entries, not the length of the trace.
  const size_t size = std::max<size_t>(2 * n_entries, 1024);
  std::vector<uint32_t> tree(size + 1, 0);
  std::vector<size_t> last(n_entries, 0);  // 1-based time of the last use, 0 = never
  const auto add = [&](size_t time, uint32_t delta) {
    for (; time <= size; time += time & -time) tree[time] += delta;
  };
  const auto marks_up_to = [&](size_t time) {
    uint32_t sum = 0;
    for (; time > 0; time -= time & -time) sum += tree[time];
    return sum;
  };
  size_t now = 0;
  uint32_t n_marks = 0;
  for (size_t r = 0; r < trace.size(); ++r) {
    const TraceRequest request = trace[r];
    if (request.kind != TraceKind::kDemand) continue;
    for (const TraceAccess& access : request.accesses) {
      if (now == size) {
        std::vector<EntryId> order;
        for (EntryId e = 0; e < n_entries; ++e) {
          if (last[e] != 0) order.push_back(e);
        }
        std::sort(order.begin(), order.end(),
                  [&](EntryId a, EntryId b) { return last[a] < last[b]; });
        std::fill(tree.begin(), tree.end(), 0);
        now = 0;
        for (const EntryId e : order) {
          last[e] = ++now;
          add(now, 1);
        }
      }
      size_t& mine = last[access.entry];
      if (mine == 0) {
        ++result.first_uses;
        ++n_marks;
      } else {
        ++result.histogram[n_marks - marks_up_to(mine)];
        add(mine, static_cast<uint32_t>(-1));
      }
      mine = ++now;
      add(now, 1);
    }
  }
  return result;
}

}  // namespace stoker
