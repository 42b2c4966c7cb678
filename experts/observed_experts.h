#pragma once

// An ExpertSource that has no cache of its own, with an observer: tells it of every request and
// passes everything on. For traces of resident and mapped runs. Borrows both; engine-thread only.

#include <vector>

#include "experts/access_observer.h"
#include "experts/expert_source.h"

namespace stoker {

class ObservedExperts final : public ExpertSource {
 public:
  ObservedExperts(ExpertSource& inner, AccessObserver& observer)
      : inner_(inner), observer_(observer) {}

  void DescribeRequest(const RequestInfo& info) override;
  bool wants_all_routes() const override { return observer_.wants_all_routes(); }
  void Request(std::span<const ExpertId> ids) override;
  ExpertHandle Next() override { return inner_.Next(); }

 private:
  void Unpin(ExpertId /*id*/, uint32_t /*slot*/) override {}  // Handles are the inner source's.

  ExpertSource& inner_;
  AccessObserver& observer_;
  std::vector<AccessContext> contexts_;
  std::vector<ExpertAccess> accesses_;
};

}  // namespace stoker
