// A policy from a shared object, and the guard around it.
//
// Rule: the plug-in chooses; the guard keeps the truth about residence and an LRU list beside it. A
// victim that is out of range, not resident or pinned, or none while there is one, ends the
// plug-in's part for good: from then on the LRU list chooses, and the configured callback is told
// once. The plug-in still cannot be trusted with memory: it runs in this process.

#include <dlfcn.h>

#include <cstdio>
#include <stdexcept>

#include "experts/policies/policies.h"
#include "experts/policy_plugin.h"

namespace stoker {
namespace {

// A dlopen handle.
class SharedObject {
 public:
  explicit SharedObject(const std::string& path)
      : handle_(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error("policy plug-in: dlopen: " + LastError());
  }
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;
  ~SharedObject() { ::dlclose(handle_); }

  void* Find(const char* symbol) const { return ::dlsym(handle_, symbol); }

 private:
  static std::string LastError() {
    const char* error = ::dlerror();
    return error != nullptr ? error : "unknown error";
  }
  void* handle_;
};

class PluginPolicy final : public CachePolicy {
 public:
  PluginPolicy(const std::string& path, const PolicyConfig& config, const PolicyParams& params)
      : path_(path),
        object_(path),
        on_fault_(config.on_fault),
        layer_cost_(config.layer_cost),
        lists_(config.n_entries(), 1),
        n_entries_(config.n_entries()) {
    const auto entry_point =
        reinterpret_cast<stoker_policy_entry_point>(object_.Find(STOKER_POLICY_SYMBOL));
    if (entry_point == nullptr) {
      throw std::runtime_error("policy plug-in " + path +
                               ": exports no " STOKER_POLICY_SYMBOL
                               " (see experts/policy_plugin.h)");
    }
    table_ = entry_point();
    if (table_ == nullptr || table_->abi_version != STOKER_POLICY_ABI_VERSION) {
      throw std::runtime_error(
          "policy plug-in " + path + ": ABI version " +
          (table_ != nullptr ? std::to_string(table_->abi_version) : std::string("none")) +
          ", this program has " + std::to_string(STOKER_POLICY_ABI_VERSION) +
          "; rebuild it with the current experts/policy_plugin.h");
    }
    if (table_->create == nullptr || table_->destroy == nullptr || table_->on_access == nullptr ||
        table_->on_insert == nullptr || table_->on_erase == nullptr || table_->victim == nullptr) {
      throw std::runtime_error("policy plug-in " + path + ": a required function is missing");
    }
    stoker_policy_config plain{sizeof(stoker_policy_config),
                               config.n_layers,
                               config.n_experts,
                               config.top_k,
                               config.capacity,
                               config.seed,
                               layer_cost_.empty() ? nullptr : layer_cost_.data()};
    std::vector<stoker_policy_param> items;
    for (const auto& [key, value] : params.items()) items.push_back({key.c_str(), value.c_str()});
    char error[256] = "";
    state_ = table_->create(&plain, items.data(), items.size(), error, sizeof(error));
    error[sizeof(error) - 1] = '\0';
    if (state_ == nullptr) {
      throw std::runtime_error("policy plug-in " + path + ": " +
                               (error[0] != '\0' ? error : "refused the configuration"));
    }
  }
  ~PluginPolicy() override { table_->destroy(state_); }

  void OnAccess(EntryId entry, bool hit, const AccessContext& context) noexcept override {
    if (hit) lists_.MoveToFront(0, entry);
    if (faulty_) return;
    const stoker_policy_access access{sizeof(stoker_policy_access),
                                      entry,
                                      context.layer,
                                      context.rank,
                                      context.token,
                                      context.gate_weight,
                                      static_cast<uint8_t>(hit ? 1 : 0),
                                      static_cast<uint8_t>(context.phase == Phase::kDecode)};
    table_->on_access(state_, &access);
  }
  void OnInsert(EntryId entry) noexcept override {
    lists_.MoveToFront(0, entry);
    if (!faulty_) table_->on_insert(state_, entry);
  }
  void OnErase(EntryId entry) noexcept override {
    lists_.Remove(entry);
    if (!faulty_) table_->on_erase(state_, entry);
  }
  EntryId Victim(EntryId incoming, PinnedView pinned) noexcept override {
    const EntryId fallback = lists_.OldestUnpinned(0, pinned);
    if (faulty_ || fallback == kNoEntry) return fallback;
    const EntryId victim = table_->victim(state_, incoming, pinned.data());
    if (victim < n_entries_ && lists_.ListOf(victim) == 0 && pinned[victim] == 0) return victim;
    Fail(victim, pinned);
    return fallback;
  }

 private:
  void Fail(EntryId victim, PinnedView pinned) noexcept {
    faulty_ = true;
    char fault[64] = "named no victim though one is evictable";
    if (victim != kNoEntry) {
      std::snprintf(fault, sizeof(fault), "victim %u %s", victim,
                    victim >= n_entries_  ? "is out of range"
                    : pinned[victim] != 0 ? "is pinned"
                                          : "is not resident");
    }
    char text[512];
    std::snprintf(text, sizeof(text),
                  "policy plug-in %s: %s; lru goes on in its place for the rest of the run",
                  path_.c_str(), fault);
    try {
      if (on_fault_) {
        on_fault_(text);
      } else {
        std::fprintf(stderr, "stoker: %s\n", text);
      }
    } catch (...) {  // A callback that throws must not end the run for a warning.
    }
  }

  std::string path_;
  SharedObject object_;
  std::function<void(std::string_view)> on_fault_;
  std::vector<float> layer_cost_;  // the plug-in may keep the pointer
  const stoker_policy_plugin* table_ = nullptr;
  void* state_ = nullptr;
  EntryLists lists_;
  uint32_t n_entries_;
  bool faulty_ = false;
};

}  // namespace

std::unique_ptr<CachePolicy> MakePlugin(const std::string& path, const PolicyConfig& config,
                                        const PolicyParams& params) {
  return std::make_unique<PluginPolicy>(path, config, params);
}

}  // namespace stoker
