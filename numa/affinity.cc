#include "numa/affinity.h"

#include <sched.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace stoker {
namespace {

constexpr int kMaxCpus = 8192;  // The kernel's own limit (CONFIG_NR_CPUS, MAXSMP).

// cpu_set_t has 1024 bits; the calls take any number of them.
struct CpuMask {
  std::array<cpu_set_t, kMaxCpus / CPU_SETSIZE> sets{};
  static constexpr size_t kBytes = sizeof(sets);
};

}  // namespace

std::vector<int> ThisThreadCpus() {
  CpuMask mask;
  if (::sched_getaffinity(0, CpuMask::kBytes, mask.sets.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
  }
  std::vector<int> cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET_S(static_cast<size_t>(cpu), CpuMask::kBytes, mask.sets.data())) {
      cpus.push_back(cpu);
    }
  }
  return cpus;
}

const std::vector<int>& ProcessCpus() {
  static const std::vector<int> cpus = ThisThreadCpus();
  return cpus;
}

bool BindThisThread(std::span<const int> cpus) noexcept {
  CpuMask mask;
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= kMaxCpus) return false;
    CPU_SET_S(static_cast<size_t>(cpu), CpuMask::kBytes, mask.sets.data());
  }
  return ::sched_setaffinity(0, CpuMask::kBytes, mask.sets.data()) == 0;
}

void UnbindThisThread() noexcept { BindThisThread(ProcessCpus()); }

}  // namespace stoker
