#include "numa/memory_limits.h"

#include <stdexcept>

#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/file_tree.h"

namespace stoker {
namespace {

constexpr const char* kMeminfo =
    "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n"
    "Buffers:               0 kB\nSwapTotal:       8388608 kB\nSwapFree:        4194304 kB\n";

constexpr const char* kMountV2 =
    "24 1 0:20 / / rw,relatime - ext4 /dev/vda1 rw\n"
    "30 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

constexpr const char* kMountV1 =
    "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

// Fills `tree` and keeps it small: every test adds only what it is about.
void WriteBase(FileTree& tree, const char* mounts, const char* groups) {
  tree.Write("/proc/meminfo", kMeminfo);
  tree.Write("/proc/self/mountinfo", mounts);
  tree.Write("/proc/self/cgroup", groups);
}

TEST_CASE("without cgroups the machine's free memory counts") {
  FileTree tree;
  tree.Write("/proc/meminfo", kMeminfo);
  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.total_bytes == 64 * kGiB);
  CHECK(limits.available_bytes == 32 * kGiB);
  CHECK(limits.swap_total_bytes == 8 * kGiB);
  CHECK(limits.swap_free_bytes == 4 * kGiB);
  CHECK_FALSE(limits.cgroup_limit_bytes);
  CHECK_FALSE(limits.cpu_quota);
  CHECK(limits.cpuset.empty());
  CHECK(limits.UsableMemoryBytes() == 32 * kGiB);
  CHECK(limits.UsableCpus(12) == 12);
}

TEST_CASE("no meminfo is an error") {
  FileTree tree;
  CHECK_THROWS_AS(ResourceLimits::Read(tree.root()), std::runtime_error);
}

TEST_CASE("v2: the tightest of nested groups wins, max is no limit, page cache gives way") {
  FileTree tree;
  WriteBase(tree, kMountV2, "0::/user.slice/app/inner\n");
  const std::string cg = "/sys/fs/cgroup/user.slice";
  tree.Write(cg + "/memory.max", "21474836480\n");      // 20 GiB, with siblings in it
  tree.Write(cg + "/memory.current", "19327352832\n");  // 18 GiB
  tree.Write(cg + "/memory.stat",
             "anon 1\nfile 5368709120\ninactive_file 1073741824\n"
             "active_file 0\nshmem 4294967296\n");
  tree.Write(cg + "/app/memory.max", "8589934592\n");  // 8 GiB
  tree.Write(cg + "/app/memory.current", "1073741824\n");
  tree.Write(cg + "/app/memory.stat", "inactive_file 0\nactive_file 0\n");
  tree.Write(cg + "/app/inner/memory.max", "max\n");
  tree.Write(cg + "/app/inner/memory.current", "1048576\n");

  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.cgroup_limit_bytes == 8 * kGiB);
  CHECK(limits.cgroup_usage_bytes == 1 * kGiB);
  CHECK(limits.cgroup_path == tree.root() + cg + "/app");
  // app leaves 7 GiB, but its parent only 20 - (18 - 1) = 3.
  CHECK(limits.cgroup_available_bytes == 3 * kGiB);
  CHECK(limits.UsableMemoryBytes() == 3 * kGiB);
}

TEST_CASE("v2: memory.high is a limit, usage above the limit leaves nothing") {
  FileTree tree;
  WriteBase(tree, kMountV2, "0::/a\n");
  tree.Write("/sys/fs/cgroup/a/memory.max", "max\n");
  tree.Write("/sys/fs/cgroup/a/memory.high", "1073741824\n");
  tree.Write("/sys/fs/cgroup/a/memory.current", "2147483648\n");
  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.cgroup_limit_bytes == kGiB);
  CHECK(limits.UsableMemoryBytes() == 0);
}

TEST_CASE("v2 in a container: the mount shows only the group itself") {
  FileTree tree;
  WriteBase(tree, "30 24 0:27 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n",
            "0::/docker/abc\n");
  tree.Write("/sys/fs/cgroup/memory.max", "4294967296\n");
  tree.Write("/sys/fs/cgroup/memory.current", "0\n");
  tree.Write("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.UsableMemoryBytes() == 4 * kGiB);
  CHECK(limits.cpu_quota == 1.5);
  CHECK(limits.UsableCpus(64) == 2);
}

TEST_CASE("a path outside of the mounted group leaves the mount point") {
  FileTree tree;
  WriteBase(tree, kMountV2, "0::/../other\n");
  tree.Write("/sys/fs/cgroup/memory.max", "4294967296\n");
  tree.Write("/sys/fs/cgroup/memory.current", "0\n");
  CHECK(ResourceLimits::Read(tree.root()).cgroup_limit_bytes == 4 * kGiB);
}

TEST_CASE("dots inside a group's name are part of it") {
  FileTree tree;
  WriteBase(tree, kMountV2, "0::/a..x/..b\n");
  tree.Write("/sys/fs/cgroup/a..x/memory.max", "2147483648\n");
  tree.Write("/sys/fs/cgroup/a..x/memory.current", "0\n");
  tree.Write("/sys/fs/cgroup/a..x/..b/memory.max", "1073741824\n");
  tree.Write("/sys/fs/cgroup/a..x/..b/memory.current", "0\n");
  CHECK(ResourceLimits::Read(tree.root()).cgroup_limit_bytes == kGiB);
}

TEST_CASE("v1: limits, the largest number as none, total_ statistics") {
  FileTree tree;
  WriteBase(tree, kMountV1,
            "9:name=systemd:/\n5:memory:/box/job\n4:cpuset:/box\n3:cpu,cpuacct:/box/job\n0::/\n");
  tree.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  tree.Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2147483648\n");
  tree.Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "2147479552\n");
  tree.Write("/sys/fs/cgroup/memory/box/memory.stat",
             "cache 5\ninactive_file 1\nactive_file 1\ntotal_inactive_file 1073741824\n"
             "total_active_file 536866816\n");
  tree.Write("/sys/fs/cgroup/memory/box/job/memory.limit_in_bytes", "9223372036854771712\n");
  tree.Write("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "350000\n");
  tree.Write("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
  tree.Write("/sys/fs/cgroup/cpu,cpuacct/box/job/cpu.cfs_quota_us", "-1\n");
  tree.Write("/sys/fs/cgroup/cpu,cpuacct/box/job/cpu.cfs_period_us", "100000\n");
  tree.Write("/sys/fs/cgroup/cpuset/box/cpuset.cpus", "0-1,8-9\n");

  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.cgroup_limit_bytes == 2 * kGiB);
  CHECK(limits.cgroup_available_bytes == 1610612736 - 4096 + 4096);
  CHECK(limits.cpu_quota == 3.5);
  CHECK(limits.cpuset == std::vector<int>{0, 1, 8, 9});
  CHECK(limits.UsableCpus(64) == 4);
  CHECK(limits.UsableCpus(3) == 3);
}

TEST_CASE("a quota below one CPU still leaves one") {
  FileTree tree;
  WriteBase(tree, kMountV2, "0::/a\n");
  tree.Write("/sys/fs/cgroup/a/cpu.max", "20000 100000\n");
  tree.Write("/sys/fs/cgroup/cpu.max", "max 100000\n");
  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.cpu_quota == 0.2);
  CHECK(limits.UsableCpus(8) == 1);
}

TEST_CASE("cpuset.mems that leaves nodes out limits the memory to the rest") {
  FileTree tree;
  tree.Write("/proc/meminfo", kMeminfo);
  tree.Write("/proc/self/status", "Name:\tx\nMems_allowed:\t2\nMems_allowed_list:\t1\n");
  tree.Write("/sys/devices/system/node/online", "0-1\n");
  tree.Write("/sys/devices/system/node/node1/meminfo",
             "Node 1 MemTotal:  8388608 kB\nNode 1 MemFree:   2097152 kB\n"
             "Node 1 Active(file):   1048576 kB\nNode 1 Inactive(file):  0 kB\n");
  const ResourceLimits limits = ResourceLimits::Read(tree.root());
  CHECK(limits.allowed_nodes_available_bytes == 3 * kGiB);
  CHECK(limits.UsableMemoryBytes() == 3 * kGiB);

  tree.Write("/proc/self/status", "Mems_allowed_list:\t0-7\n");
  CHECK_FALSE(ResourceLimits::Read(tree.root()).allowed_nodes_available_bytes);
}

TEST_CASE("odd files count as no limit") {
  for (const char* odd : {"", "\n", "garbage\n", "-5\n", "99999999999999999999999999\n"}) {
    CAPTURE(odd);
    FileTree tree;
    WriteBase(tree, kMountV2, "0::/a\n");
    tree.Write("/sys/fs/cgroup/a/memory.max", odd);
    tree.Write("/sys/fs/cgroup/a/cpu.max", odd);
    tree.Write("/sys/fs/cgroup/a/cpuset.cpus.effective", odd);
    const ResourceLimits limits = ResourceLimits::Read(tree.root());
    CHECK_FALSE(limits.cgroup_limit_bytes);
    CHECK_FALSE(limits.cpu_quota);
    CHECK(limits.cpuset.empty());
  }
}

TEST_CASE("index lists") {
  CHECK(ParseIndexList("0-3,8,10-11\n") == std::vector<int>{0, 1, 2, 3, 8, 10, 11});
  CHECK(ParseIndexList("5") == std::vector<int>{5});
  CHECK(ParseIndexList("").empty());
  CHECK(ParseIndexList("3-1").empty());
  CHECK(ParseIndexList("1,,2") == std::vector<int>{1});
  CHECK(ParseIndexList("0-4000000000").empty());
  CHECK(ParseIndexList("0-2000000000").size() == 65536);
}

TEST_CASE("the live machine answers") {
  const ResourceLimits limits = ResourceLimits::Read();
  CHECK(limits.total_bytes > 0);
  CHECK(UsableMemoryBytes() > 0);
  CHECK(UsableMemoryBytes() <= limits.total_bytes);
  CHECK(UsableCpus() >= 1);
}

}  // namespace
}  // namespace stoker
