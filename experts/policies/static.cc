// Static: keeps the experts that were used most in a recorded run.
//
// As done by hand with expert pinning in Hwang et al. (Pre-gated MoE, ISCA 2024) and others: a
// fixed hot set per model and kind of text. Rule: `from` names a trace or a text file of "layer
// expert count" lines. The victim is the unpinned resident entry with the lowest recorded count;
// among equals the least recently used. What is not in the hot set thus only passes through the
// slots the hot set leaves.

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "experts/policies/policies.h"
#include "experts/trace_io.h"

namespace stoker {
namespace {

class Static final : public CachePolicy {
 public:
  Static(const PolicyConfig& config, std::vector<double> counts)
      : counts_(std::move(counts)), used_(config.n_entries(), 0), resident_(config.n_entries()) {}

  void OnAccess(EntryId entry, bool, const AccessContext&) noexcept override {
    used_[entry] = ++now_;
  }
  void OnInsert(EntryId entry) noexcept override { resident_.Add(entry); }
  void OnErase(EntryId entry) noexcept override { resident_.Drop(entry); }
  EntryId Victim(EntryId, PinnedView pinned) noexcept override {
    return resident_.LowestUnpinned(
        pinned, [this](EntryId entry) { return std::pair(counts_[entry], used_[entry]); });
  }

 private:
  std::vector<double> counts_;  // [n_entries]
  std::vector<uint64_t> used_;  // [n_entries]
  ResidentSet resident_;
  uint64_t now_ = 0;
};

std::vector<double> CountsFromTrace(const std::string& path, const PolicyConfig& config) {
  TraceReader reader(path);
  const TraceHeader& header = reader.header();
  if (header.n_layers != config.n_layers || header.n_experts != config.n_experts) {
    throw std::runtime_error(
        "policy static: " + path + " is of a model with " + std::to_string(header.n_layers) +
        " x " + std::to_string(header.n_experts) + " experts, this one has " +
        std::to_string(config.n_layers) + " x " + std::to_string(config.n_experts));
  }
  std::vector<double> counts(config.n_entries(), 0.0);
  TraceRequest request;
  while (reader.Next(&request)) {
    if (request.kind != TraceKind::kDemand) continue;
    for (const TraceAccess& access : request.accesses) counts[access.entry] += 1.0;
  }
  return counts;
}

std::vector<double> CountsFromText(const std::string& path, const PolicyConfig& config) {
  if (std::filesystem::is_directory(path)) {
    throw std::runtime_error("policy static: " + path + " is a directory");
  }
  std::ifstream file(path);
  if (!file) throw std::system_error(errno, std::generic_category(), "policy static: " + path);
  std::vector<double> counts(config.n_entries(), 0.0);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const size_t start = line.find_first_not_of(" \t\r");
    if (start == std::string::npos || line[start] == '#') continue;
    int layer = 0;
    int expert = 0;
    double count = 0.0;
    std::istringstream fields(line);
    const bool three = (fields >> layer >> expert >> count) && (fields >> std::ws).eof();
    if (!three || layer < 0 || layer >= config.n_layers || expert < 0 ||
        expert >= config.n_experts || !(count >= 0.0)) {
      throw std::runtime_error("policy static: " + path + ": line " + std::to_string(number) +
                               ": not 'layer expert count' within " +
                               std::to_string(config.n_layers) + " layers and " +
                               std::to_string(config.n_experts) + " experts");
    }
    counts[config.Entry({layer, expert})] = count;
  }
  return counts;
}

}  // namespace

std::unique_ptr<CachePolicy> MakeStatic(const PolicyConfig& config, const PolicyParams& params) {
  const std::string from = params.Text("from", "");
  if (from.empty()) {
    throw std::runtime_error(
        "policy static: needs from=FILE, a trace or 'layer expert count' "
        "lines; record one with --trace FILE");
  }
  std::vector<double> counts =
      IsTraceFile(from) ? CountsFromTrace(from, config) : CountsFromText(from, config);
  // Without any this would be LRU under another name.
  if (std::none_of(counts.begin(), counts.end(), [](double count) { return count > 0.0; })) {
    throw std::runtime_error("policy static: " + from + " counts no use of any expert");
  }
  return std::make_unique<Static>(config, std::move(counts));
}

}  // namespace stoker
