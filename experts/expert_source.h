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

 private:
  ExpertSource* source_ = nullptr;
  ExpertId id_;
  ExpertView view_;
  uint32_t slot_ = 0;
};

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // Optional, before Request: what the router knows of the experts of the next Request, in the same
  // order. For policies and traces only; the result never depends on it.
  virtual void DescribeRequest(std::span<const AccessContext> /*contexts*/) {}
  // Optional: experts of one layer that its next Request will probably name, from an early guess of
  // the router. Replaces the guess before. Keeps them from eviction where possible; reads nothing,
  // and the result never depends on it.
  virtual void Expect(std::span<const ExpertId> /*ids*/) {}
  // Announces that `ids` (distinct, one layer) are needed now. Starts missing reads, pins what is
  // there. At most one announcement is open: every id must be taken with Next before the following
  // Request.
  virtual void Request(std::span<const ExpertId> ids) = 0;
  // A handle to one announced expert that was not yet handed out; blocks until one is complete.
  // Throws std::runtime_error naming file, tensor and offset when its read failed for good.
  virtual ExpertHandle Next() = 0;

 protected:
  friend class ExpertHandle;
  virtual void Unpin(ExpertId id, uint32_t slot) = 0;
};

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
