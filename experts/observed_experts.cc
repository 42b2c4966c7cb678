#include "experts/observed_experts.h"

#include "numa/check.h"

namespace stoker {

void ObservedExperts::DescribeRequest(const RequestInfo& info) {
  contexts_.assign(info.contexts.begin(), info.contexts.end());
  observer_.OnRouting(info);
  inner_.DescribeRequest(info);
}

void ObservedExperts::Request(std::span<const ExpertId> ids) {
  STOKER_CHECK(contexts_.empty() || contexts_.size() == ids.size());
  accesses_.clear();
  for (size_t i = 0; i < ids.size(); ++i) {
    ExpertAccess access;
    access.id = ids[i];
    access.hit = true;
    access.known = false;
    if (!contexts_.empty()) access.context = contexts_[i];
    accesses_.push_back(access);
  }
  contexts_.clear();
  observer_.OnAccesses(accesses_);
  inner_.Request(ids);
}

}  // namespace stoker
