#include "runtime/cli/probe_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>

#include "experts/disk_rate.h"
#include "experts/pager.h"
#include "numa/bytes.h"
#include "numa/probe.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/output.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

// Long enough to leave a drive's cache and burst behind.
constexpr double kDiskSeconds = 3.0;

struct ProbeOptions {
  std::string disk, io = "auto";
  bool json = false, quick = false;
};

// Whether io_uring reads files here, asked by doing it: sysctl, seccomp and limits all have a say.
struct RingState {
  bool works = false;
  std::string text;  // how, or why not
};

RingState TryRing(const std::string& path) {
  try {
    const std::string file = path.empty() ? "/proc/self/exe" : path;
    const PagerFile own{.path = file, .bytes = std::filesystem::file_size(file), .mirrors = {}};
    return {true, MakePager(IoBackend::kUring, {&own, 1})->Describe()};
  } catch (const std::exception& error) {
    return {false, error.what()};
  }
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json TopologyJson(const Topology& topology) {
  Json nodes = Json::array();
  for (const Topology::Node& node : topology.nodes) {
    nodes.push_back({{"os_index", node.os_index},
                     {"memory_bytes", node.memory_bytes},
                     {"memory_allowed", node.memory_allowed},
                     {"n_cores", node.cores.size()}});
  }
  Json domains = Json::array();
  for (const Topology::L3Domain& domain : topology.l3_domains) {
    domains.push_back({{"node", domain.node},
                       {"cache_bytes", domain.cache_bytes},
                       {"n_cores", domain.cores.size()}});
  }
  return {{"n_packages", topology.n_packages},
          {"n_cores", topology.cores.size()},
          {"n_allowed_cores", topology.n_allowed_cores()},
          {"n_cpus", topology.n_cpus()},
          {"n_allowed_cpus", topology.n_allowed_cpus()},
          {"nodes", std::move(nodes)},
          {"l3_domains", std::move(domains)},
          {"distances", topology.distances}};
}

Json ReportJson(const MachineReport& report, const RingState& ring,
                const std::optional<DiskRate>& disk) {
  const CpuFeatures& cpu = report.cpu;
  Json findings = Json::array();
  for (const Finding& finding : FindProblems(report)) {
    findings.push_back(
        {{"severity", finding.severity == Finding::Severity::kWarning ? "warning" : "note"},
         {"problem", finding.problem},
         {"remedy", finding.remedy}});
  }
  Json disk_json = nullptr;
  if (disk) {
    disk_json = {{"bytes_per_second", disk->bytes_per_second},
                 {"bytes", disk->bytes},
                 {"seconds", disk->seconds},
                 {"method", disk->method}};
  }
  return {{"cpu",
           {{"model_name", cpu.model_name},
            {"kernel_level", IsaLevelName(cpu.best_level())},
            {"avx2", cpu.avx2},
            {"avx_vnni", cpu.avx_vnni},
            {"avx512", cpu.avx512},
            {"avx512_vnni", cpu.avx512_vnni},
            {"avx512_bf16", cpu.avx512_bf16},
            {"amx_int8", cpu.amx_int8},
            {"amx_bf16", cpu.amx_bf16}}},
          {"topology", TopologyJson(report.topology)},
          {"kernel_release", report.kernel_release},
          {"usable_cpus", report.usable_cpus},
          {"default_threads", report.default_threads},
          {"cpu_quota", OrNull(report.limits.cpu_quota)},
          {"cpuset", report.limits.cpuset},
          {"cpu_governor", report.cpu_governor},
          {"cpu_driver", report.cpu_driver},
          {"allocator", report.allocator.Describe()},
          {"kernel_settings",
           {{"numa_balancing", OrNull(report.numa_balancing)},
            {"zone_reclaim_mode", OrNull(report.zone_reclaim_mode)},
            {"overcommit_memory", OrNull(report.overcommit_memory)},
            {"max_map_count", OrNull(report.max_map_count)},
            {"io_uring_disabled", OrNull(report.io_uring_disabled)}}},
          {"memory",
           {{"total_bytes", report.limits.total_bytes},
            {"available_bytes", report.limits.available_bytes},
            {"usable_bytes", report.limits.UsableMemoryBytes()},
            {"cgroup_limit_bytes", OrNull(report.limits.cgroup_limit_bytes)},
            {"cgroup_usage_bytes", report.limits.cgroup_usage_bytes},
            {"cgroup_available_bytes", OrNull(report.limits.cgroup_available_bytes)},
            {"cgroup_path", report.limits.cgroup_path},
            {"allowed_nodes_available_bytes", OrNull(report.limits.allowed_nodes_available_bytes)},
            {"address_space_left_bytes", OrNull(report.limits.address_space_left_bytes)},
            {"swap_total_bytes", report.limits.swap_total_bytes},
            {"swap_free_bytes", report.limits.swap_free_bytes},
            {"memlock_limit_bytes", OrNull(report.memlock_limit_bytes)},
            {"may_lock_any", report.may_lock_any},
            {"transparent_huge_pages", report.thp_mode},
            {"transparent_huge_pages_defrag", report.thp_defrag},
            {"hugetlb_page_bytes", report.hugetlb_page_bytes},
            {"hugetlb_pool_bytes", report.hugetlb_pool_bytes}}},
          {"read_bandwidth_bytes_per_s", report.read_bandwidth},
          {"total_read_bandwidth_bytes_per_s", report.total_read_bandwidth},
          {"io_uring", {{"works", ring.works}, {"text", ring.text}}},
          {"disk", std::move(disk_json)},
          {"findings", std::move(findings)}};
}

int Probe(const ProbeOptions& options) {
  MachineReport report = MachineReport::Read();
  // Before the bandwidth, so that a path nobody can read costs no wait.
  std::optional<DiskRate> disk;
  if (!options.disk.empty()) {
    struct stat status = {};
    if (::stat(options.disk.c_str(), &status) != 0) {
      throw std::system_error(errno, std::generic_category(), "--disk " + options.disk);
    }
    disk = MeasureDiskRate(options.disk, {.backend = *IoBackendFromName(options.io),
                                          .seconds = kDiskSeconds,
                                          .stop = [] { return InterruptFlag().load(); }});
    ThrowIfInterrupted();
  }
  if (!options.quick) MeasureNodeBandwidth(report);
  ThrowIfInterrupted();
  const bool is_file = std::filesystem::is_regular_file(options.disk);
  const RingState ring = TryRing(is_file ? options.disk : "");
  TextOutput output;
  if (options.json) {
    output.Write(
        ReportJson(report, ring, disk).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return kExitDone;
  }
  output.Write(FormatReport(report));
  output.Write((ring.works ? "" : "io_uring: refused, ") + ring.text + "\n");
  if (disk) {
    output.Write(fmt::format("disk: {:.2f} GB/s, {} read at random in {:.1f} s ({})\n",
                             disk->bytes_per_second / 1e9, FormatBytes(disk->bytes), disk->seconds,
                             disk->method));
  } else {
    output.Write("disk: not measured (--disk PATH)\n");
  }
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareProbe(CLI::App& app) {
  auto options = std::make_shared<ProbeOptions>();
  CLI::Option* disk =
      app.add_option("--disk", options->disk,
                     "also measure direct reads of this file, or of the largest in a directory");
  disk->type_name("PATH");
  app.add_option("--io", options->io, "how to read it: auto, uring, pread or mapped")
      ->check(CLI::IsMember({"auto", "uring", "pread", "mapped"}))
      ->needs(disk)
      ->type_name("HOW");
  app.add_flag("--quick", options->quick, "leave out the bandwidth measurement");
  app.add_flag("--json", options->json, "the report as JSON");
  return [options] { return Probe(*options); };
}

}  // namespace stoker
