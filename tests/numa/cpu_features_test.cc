#include "numa/cpu_features.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tests/support/catch.h"

namespace stoker {
namespace {

// The flags that the kernel reports for the first CPU; it masks what it does not enable.
std::set<std::string> KernelFlags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    std::set<std::string> flags;
    for (std::string word; words >> word;) flags.insert(word);
    return flags;
  }
  return {};
}

// ActiveIsaLevel is decided once per process: each choice is tried in a child.
// The level, or -1 where it threw.
int LevelInChild(const char* forced) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("STOKER_ISA", forced, 1);
    try {
      ::_exit(static_cast<int>(ActiveIsaLevel()));
    } catch (const std::runtime_error&) {
      ::_exit(100);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -2;
  return code == 100 ? -1 : code;
}

TEST_CASE("CPUID agrees with the kernel") {
  const std::set<std::string> flags = KernelFlags();
  REQUIRE_FALSE(flags.empty());
  const CpuFeatures f = CpuFeatures::Detect();
  const auto has = [&](const char* name) { return flags.contains(name); };
  CHECK(f.avx2 == (has("avx2") && has("fma") && has("f16c")));
  CHECK(f.avx_vnni == (has("avx_vnni") && f.avx2));
  CHECK(f.avx512 ==
        (has("avx512f") && has("avx512bw") && has("avx512vl") && has("avx512dq") && f.avx2));
  CHECK(f.avx512_vnni == (f.avx512 && has("avx512_vnni")));
  CHECK(f.avx512_bf16 == (f.avx512 && has("avx512_bf16")));
  if (!has("amx_tile")) CHECK_FALSE((f.amx_int8 || f.amx_bf16));
  CHECK_FALSE(f.model_name.empty());
  CHECK(f.model_name.front() != ' ');
  CHECK(f.model_name.back() != ' ');
}

TEST_CASE("the level follows from the features") {
  CpuFeatures f;
  CHECK(f.best_level() == IsaLevel::kScalar);
  f.avx2 = true;
  CHECK(f.best_level() == IsaLevel::kAvx2);
  f.avx512 = true;
  CHECK(f.best_level() == IsaLevel::kAvx2);  // Skylake-X: no VNNI
  f.avx512_vnni = true;
  CHECK(f.best_level() == IsaLevel::kAvx512);
}

TEST_CASE("STOKER_ISA forces a level that exists") {
  const int best = static_cast<int>(CpuFeatures::Detect().best_level());
  CHECK(LevelInChild("") == best);
  CHECK(LevelInChild("scalar") == 0);
  CHECK(LevelInChild("avx2") == (best >= 1 ? 1 : -1));
  CHECK(LevelInChild("avx512") == (best >= 2 ? 2 : -1));
  CHECK(LevelInChild("AVX2") == -1);
  CHECK(LevelInChild("neon") == -1);
}

}  // namespace
}  // namespace stoker
