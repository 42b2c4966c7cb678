#include "numa/memory_limits.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "numa/affinity.h"
#include "numa/bytes.h"
#include "numa/system_files.h"

namespace stoker {
namespace {

// v1 writes "no limit" as the largest page-aligned int64. No machine has 2^60 bytes.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

// The value of "key 123" or "key: 123 kB" in a file of such lines, as written.
std::optional<uint64_t> FindValue(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    // Per-node files write "Node 0 MemFree:  123 kB".
    while (words >> word) {
      if (word.ends_with(':')) word.pop_back();
      if (word != key) continue;
      std::string value;
      if (words >> value) return ParseNumber(value);
    }
  }
  return std::nullopt;
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int value = 0;
      const char* digits = text.data() + i + 1;
      if (std::from_chars(digits, digits + 3, value, 8).ptr == digits + 3) {
        out.push_back(static_cast<char>(value));
        i += 3;
        continue;
      }
    }
    out.push_back(text[i]);
  }
  return out;
}

bool ListHas(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (list.substr(0, comma) == name) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// Directories of the process's group of one controller, innermost first, up to the mount point.
struct GroupPath {
  bool is_v2 = false;
  std::vector<std::string> levels;
};

struct CgroupMount {
  std::string root;   // the group that is mounted
  std::string point;  // where, below the test root
};

std::optional<CgroupMount> FindMount(const std::string& root, bool v2,
                                     std::string_view controller) {
  std::ifstream file(root + "/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream head(line.substr(0, dash));
    std::istringstream tail(line.substr(dash + 3));
    std::string id, parent, device, mount_root, point, type, source, options;
    if (!(head >> id >> parent >> device >> mount_root >> point)) continue;
    if (!(tail >> type >> source >> options)) continue;
    const bool matches = v2 ? type == "cgroup2" : type == "cgroup" && ListHas(options, controller);
    if (matches) return CgroupMount{Unescape(mount_root), root + Unescape(point)};
  }
  return std::nullopt;
}

// The process's path in one hierarchy: "7:memory:/a/b" of v1, "0::/a/b" of v2.
std::optional<std::string> FindGroup(const std::string& root, bool v2,
                                     std::string_view controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    if (first == std::string::npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view list = std::string_view(line).substr(first + 1, second - first - 1);
    if (v2 ? list.empty() : ListHas(list, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

// Whether a path climbs; a group may be called "a..b".
bool HasParentComponent(const std::filesystem::path& path) {
  return std::any_of(path.begin(), path.end(),
                     [](const std::filesystem::path& part) { return part == ".."; });
}

GroupPath FindGroupPath(const std::string& root, std::string_view controller) {
  // A hybrid system has some controllers in v1 and the rest in v2: v1 wins where it names it.
  for (const bool v2 : {false, true}) {
    const std::optional<CgroupMount> mount = FindMount(root, v2, controller);
    std::optional<std::string> group = FindGroup(root, v2, controller);
    if (!mount || !group) continue;
    // Inside a container the mount may show a subtree while the path is the host's; a path that is
    // not below what is mounted ("/../x" of a cgroup namespace) leaves the mount point itself.
    std::string below;
    if (mount->root == "/") {
      below = *group;
    } else if (*group == mount->root || group->starts_with(mount->root + "/")) {
      below = group->substr(mount->root.size());
    }
    if (HasParentComponent(below)) below.clear();
    while (below.ends_with('/')) below.pop_back();

    GroupPath path{.is_v2 = v2, .levels = {}};
    while (!below.empty()) {
      path.levels.push_back(mount->point + below);
      below.erase(below.rfind('/'));
    }
    path.levels.push_back(mount->point);
    return path;
  }
  return {};
}

void ReadCgroupMemory(const std::string& root, ResourceLimits& limits) {
  const GroupPath path = FindGroupPath(root, "memory");
  for (const std::string& level : path.levels) {
    std::optional<uint64_t> limit;
    // "max" is no number and so no limit. `high` throttles to a crawl instead of killing.
    for (const char* name : path.is_v2 ? std::vector<const char*>{"/memory.max", "/memory.high"}
                                       : std::vector<const char*>{"/memory.limit_in_bytes"}) {
      const std::optional<uint64_t> value = ParseNumber(FirstLine(level + name));
      if (value && *value < kNoLimit) limit = std::min(*value, limit.value_or(*value));
    }
    if (!limit) continue;
    const char* usage_file = path.is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
    const uint64_t usage = ParseNumber(FirstLine(level + usage_file)).value_or(0);
    // Page cache counts as usage but gives way to allocations. shmem is not in these two.
    const std::string prefix = path.is_v2 ? "" : "total_";
    const std::string stat = level + "/memory.stat";
    const uint64_t cache = FindValue(stat, prefix + "inactive_file").value_or(0) +
                           FindValue(stat, prefix + "active_file").value_or(0);
    const uint64_t held = usage - std::min(usage, cache);
    const uint64_t available = *limit - std::min(*limit, held);

    if (!limits.cgroup_limit_bytes || *limit < *limits.cgroup_limit_bytes) {
      limits.cgroup_limit_bytes = limit;
      limits.cgroup_usage_bytes = usage;
      limits.cgroup_path = level;
    }
    limits.cgroup_available_bytes =
        std::min(available, limits.cgroup_available_bytes.value_or(available));
  }
}

void ReadCpuQuota(const std::string& root, ResourceLimits& limits) {
  const GroupPath path = FindGroupPath(root, "cpu");
  for (const std::string& level : path.levels) {
    std::string quota;
    std::string period;
    if (path.is_v2) {
      std::istringstream words(FirstLine(level + "/cpu.max"));
      words >> quota >> period;
    } else {
      quota = FirstLine(level + "/cpu.cfs_quota_us");
      period = FirstLine(level + "/cpu.cfs_period_us");
    }
    // "max" and -1 are no numbers here.
    const std::optional<uint64_t> quota_us = ParseNumber(quota);
    const std::optional<uint64_t> period_us = ParseNumber(period);
    if (!quota_us || !period_us || *period_us == 0) continue;
    const double cpus = static_cast<double>(*quota_us) / static_cast<double>(*period_us);
    limits.cpu_quota = std::min(cpus, limits.cpu_quota.value_or(cpus));
  }
}

void ReadCpuset(const std::string& root, ResourceLimits& limits) {
  const GroupPath path = FindGroupPath(root, "cpuset");
  // An empty file inherits from the level above.
  for (const std::string& level : path.levels) {
    for (const char* name : {"/cpuset.cpus.effective", "/cpuset.effective_cpus", "/cpuset.cpus"}) {
      limits.cpuset = ParseIndexList(FirstLine(level + name));
      if (!limits.cpuset.empty()) return;
    }
  }
}

void ReadAllowedNodes(const std::string& root, ResourceLimits& limits) {
  const std::vector<int> allowed =
      ParseIndexList(StatusField(root + "/proc/self/status", "Mems_allowed_list"));
  const std::string nodes = root + "/sys/devices/system/node";
  const std::vector<int> online = ParseIndexList(FirstLine(nodes + "/online"));
  if (allowed.empty() || online.empty()) return;
  if (std::includes(allowed.begin(), allowed.end(), online.begin(), online.end())) return;
  uint64_t available = 0;
  for (const int node : allowed) {
    const std::string meminfo = nodes + "/node" + std::to_string(node) + "/meminfo";
    for (const char* key : {"MemFree", "Active(file)", "Inactive(file)"}) {
      available += FindValue(meminfo, key).value_or(0) * kKiB;
    }
  }
  limits.allowed_nodes_available_bytes = available;
}

std::optional<uint64_t> AddressSpaceLeft() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  const uint64_t pages = ParseNumber(FirstLine("/proc/self/statm")).value_or(0);
  const uint64_t used = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return limit.rlim_cur - std::min<uint64_t>(limit.rlim_cur, used);
}

}  // namespace

std::vector<int> ParseIndexList(std::string_view text) {
  constexpr size_t kMaxNumbers = 65536;
  std::vector<int> numbers;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (at != end) {
    int first = 0;
    std::from_chars_result parsed = std::from_chars(at, end, first);
    if (parsed.ec != std::errc{} || first < 0) break;
    int last = first;
    if (parsed.ptr != end && *parsed.ptr == '-') {
      parsed = std::from_chars(parsed.ptr + 1, end, last);
      if (parsed.ec != std::errc{} || last < first) break;
    }
    for (int i = first; numbers.size() < kMaxNumbers; ++i) {
      numbers.push_back(i);
      if (i == last) break;
    }
    at = parsed.ptr;
    if (at == end || *at != ',') break;
    ++at;
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

ResourceLimits ResourceLimits::Read(const std::string& root) {
  ResourceLimits limits;
  const std::string meminfo = root + "/proc/meminfo";
  const std::optional<uint64_t> total = FindValue(meminfo, "MemTotal");
  const std::optional<uint64_t> available = FindValue(meminfo, "MemAvailable");
  if (!total || !available) {
    throw std::runtime_error(meminfo + ": no MemTotal and MemAvailable; is /proc mounted?");
  }
  limits.total_bytes = *total * kKiB;
  limits.available_bytes = *available * kKiB;
  limits.swap_total_bytes = FindValue(meminfo, "SwapTotal").value_or(0) * kKiB;
  limits.swap_free_bytes = FindValue(meminfo, "SwapFree").value_or(0) * kKiB;
  ReadCgroupMemory(root, limits);
  ReadCpuQuota(root, limits);
  ReadCpuset(root, limits);
  ReadAllowedNodes(root, limits);
  limits.address_space_left_bytes = AddressSpaceLeft();
  return limits;
}

uint64_t ResourceLimits::UsableMemoryBytes() const {
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  return std::min({available_bytes, cgroup_available_bytes.value_or(kAll),
                   allowed_nodes_available_bytes.value_or(kAll),
                   address_space_left_bytes.value_or(kAll)});
}

int ResourceLimits::UsableCpus(int affinity_cpus) const {
  int cpus = affinity_cpus;
  if (!cpuset.empty()) cpus = std::min(cpus, static_cast<int>(cpuset.size()));
  if (cpu_quota) cpus = std::min(cpus, static_cast<int>(std::ceil(std::min(*cpu_quota, 1e6))));
  return std::max(cpus, 1);
}

uint64_t UsableMemoryBytes() { return ResourceLimits::Read().UsableMemoryBytes(); }

int UsableCpus() {
  return ResourceLimits::Read().UsableCpus(static_cast<int>(ProcessCpus().size()));
}

}  // namespace stoker
