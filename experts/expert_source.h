#pragma once

// How the model reaches expert weights: it announces the experts a layer needs, then takes handles
// one at a time, in the order the source finds best (resident first, then as reads complete).
// Handles pin; they are the only way to expert bytes. Implemented by the resident/mapped source and
// by the paged cache. Engine-thread only.

#include <cstdint>
#include <span>
#include <utility>

#include "experts/cache_policy.h"
#include "mmap/tensor_view.h"
#include "mmap/weight_store.h"

namespace stoker {

// The three matrices of one expert: gate (w1) and up (w3) [F, H], down (w2) [H, F].
struct ExpertView {
  TensorView gate;
  TensorView up;
  TensorView down;
};

// What the router knows of the next Request, for policies and traces.
struct RequestInfo {
  std::span<const AccessContext> contexts;  // of its ids, in their order
  // What the router chose, best first: the top_k that run and then runner-ups, for every token of
  // the pass, or for the last one alone.
  std::span<const RouterChoice> routes;  // [n_routed, routes_per_token]
  uint16_t routes_per_token = 0;
  uint32_t n_tokens = 1;
};

class ExpertSource;

// Move-only pin on one expert's bytes; unpins on destruction.
class ExpertHandle {
 public:
  ExpertHandle() = default;
  ExpertHandle(ExpertSource* source, ExpertId id, const ExpertView& view, uint32_t slot)
      : source_(source), id_(id), view_(view), slot_(slot) {}
  ExpertHandle(ExpertHandle&& other) noexcept { *this = std::move(other); }
  ExpertHandle& operator=(ExpertHandle&& other) noexcept;
  ExpertHandle(const ExpertHandle&) = delete;
  ExpertHandle& operator=(const ExpertHandle&) = delete;
  ~ExpertHandle();

  bool valid() const { return source_ != nullptr; }
  ExpertId id() const { return id_; }
  const ExpertView& view() const { return view_; }
  // For handles from NextArriving; those from Next are complete. WaitRows returns n > have when
  // rows [0, n) of `part` are in memory, and blocks until there are more than `have`. Throws as
  // Next does when they cannot be read.
  bool complete() const;
  int64_t WaitRows(ExpertPart part, int64_t have) const;
  // The matrices were re-laid in place, as TensorView::may_relay allows: later handles say so.
  void SetLayouts(WeightLayout gate, WeightLayout up, WeightLayout down);

 private:
  ExpertSource* source_ = nullptr;
  ExpertId id_;
  ExpertView view_;
  uint32_t slot_ = 0;
};

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // Optional, before Request. The result never depends on it.
  virtual void DescribeRequest(const RequestInfo& /*info*/) {}
  // Whether routes of every token are of use, or those of the last token will do.
  virtual bool wants_all_routes() const { return false; }
  // Optional: experts of one layer that its next Request will probably name, likeliest first, from
  // an early guess of the router. Replaces the guess before. Keeps them from eviction where
  // possible; reads nothing, and the result never depends on it.
  virtual void Expect(std::span<const ExpertId> /*ids*/) {}
  // Whether guesses are of any use.
  virtual bool wants_guesses() const { return false; }
  // Whether Poll does anything.
  virtual bool wants_polls() const { return false; }
  // To be called now and then, also while computing: keeps reads going. Where the device has
  // nothing else to do, experts expected last may be read.
  virtual void Poll() {}
  // Announces that `ids` (distinct, one layer) are needed now. Starts missing reads, pins what is
  // there. At most one announcement is open: every id must be taken with Next before the following
  // Request.
  virtual void Request(std::span<const ExpertId> ids) = 0;
  // A handle to one announced expert that was not yet handed out; blocks until one is complete.
  // Throws std::runtime_error naming file, tensor and offset when its read failed for good.
  virtual ExpertHandle Next() = 0;
  // Whether Next would return at once. Where not, reads are queued for as long as the caller may
  // now compute on something else.
  virtual bool Ready() { return true; }
  // As Next, but when one expert is left it may still be arriving: ask the handle for its rows.
  virtual ExpertHandle NextArriving() { return Next(); }

 protected:
  friend class ExpertHandle;
  virtual void Unpin(ExpertId id, uint32_t slot) = 0;
  virtual bool Complete(uint32_t /*slot*/) const { return true; }
  // Only for slots that are not Complete.
  virtual int64_t WaitRows(uint32_t /*slot*/, ExpertPart /*part*/, int64_t /*have*/) { return 0; }
  // Sources whose views never may be re-laid need not listen.
  virtual void Relaid(ExpertId /*id*/, uint32_t /*slot*/, const ExpertView& /*view*/) {}
};

inline bool ExpertHandle::complete() const { return source_->Complete(slot_); }

inline int64_t ExpertHandle::WaitRows(ExpertPart part, int64_t have) const {
  if (!complete()) return source_->WaitRows(slot_, part, have);
  switch (part) {
    case ExpertPart::kGate:
      return view_.gate.rows();
    case ExpertPart::kUp:
      return view_.up.rows();
    case ExpertPart::kDown:
      break;
  }
  return view_.down.rows();
}

inline void ExpertHandle::SetLayouts(WeightLayout gate, WeightLayout up, WeightLayout down) {
  view_.gate.layout = gate;
  view_.up.layout = up;
  view_.down.layout = down;
  source_->Relaid(id_, slot_, view_);
}

inline ExpertHandle& ExpertHandle::operator=(ExpertHandle&& other) noexcept {
  if (this != &other) {
    if (source_ != nullptr) source_->Unpin(id_, slot_);
    source_ = std::exchange(other.source_, nullptr);
    id_ = other.id_;
    view_ = other.view_;
    slot_ = other.slot_;
  }
  return *this;
}

inline ExpertHandle::~ExpertHandle() {
  if (source_ != nullptr) source_->Unpin(id_, slot_);
}

}  // namespace stoker
