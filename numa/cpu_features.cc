#include "numa/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace stoker {
namespace {

struct CpuidLeaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the processor does not have the leaf.
CpuidLeaf Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidLeaf r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool Bit(uint32_t value, int bit) { return ((value >> bit) & 1U) != 0; }

// XCR0: which register state the operating system saves. Only valid when OSXSAVE is set. Inline
// assembly because the intrinsic needs -mxsave for the whole file.
uint64_t ReadXcr0() {
  uint32_t eax = 0;
  uint32_t edx = 0;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return (static_cast<uint64_t>(edx) << 32) | eax;
}

// Linux hands out the 8 KiB of tile state per process on request only (since 5.16); without the
// request the first tile instruction is SIGILL.
bool RequestAmxState() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXfeatureXtiledata = 18;
  return ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

std::string BrandString() {
  if (Cpuid(0x80000000U).eax < 0x80000004U) return "unknown CPU";
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const CpuidLeaf part = Cpuid(0x80000002U + i);
    std::memcpy(text + 16 * i, &part, 16);
  }
  std::string name(text);
  const size_t first = name.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown CPU";
  return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

IsaLevel ChooseLevel() {
  const IsaLevel best = CpuFeatures::Detect().best_level();
  const char* forced = std::getenv("STOKER_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  for (const IsaLevel level : {IsaLevel::kScalar, IsaLevel::kAvx2, IsaLevel::kAvx512}) {
    if (IsaLevelName(level) != forced) continue;
    if (level > best) {
      throw std::runtime_error("STOKER_ISA=" + std::string(forced) + ": this machine has at most " +
                               std::string(IsaLevelName(best)) +
                               "; unset it or choose a lower level");
    }
    return level;
  }
  throw std::runtime_error("STOKER_ISA=" + std::string(forced) +
                           ": unknown level; use scalar, avx2 or avx512");
}

}  // namespace

std::string_view IsaLevelName(IsaLevel level) {
  switch (level) {
    case IsaLevel::kScalar:
      return "scalar";
    case IsaLevel::kAvx2:
      return "avx2";
    case IsaLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

CpuFeatures CpuFeatures::Detect() {
  CpuFeatures f;
  f.model_name = BrandString();

  const CpuidLeaf leaf1 = Cpuid(1);
  const bool osxsave = Bit(leaf1.ecx, 27);
  const uint64_t xcr0 = osxsave ? ReadXcr0() : 0;
  // State components: 1 SSE, 2 YMM; 5 opmask, 6 upper ZMM, 7 ZMM16-31; 17 tile config, 18 tiles.
  const bool os_ymm = (xcr0 & 0x6) == 0x6;
  const bool os_zmm = (xcr0 & 0xe6) == 0xe6;
  const bool os_tiles = (xcr0 & 0x60000) == 0x60000;

  const CpuidLeaf leaf7 = Cpuid(7, 0);
  const CpuidLeaf leaf7_1 = Cpuid(7, 1);

  const bool fma = Bit(leaf1.ecx, 12);
  const bool f16c = Bit(leaf1.ecx, 29);
  f.avx2 = os_ymm && Bit(leaf7.ebx, 5) && fma && f16c;
  f.avx_vnni = f.avx2 && Bit(leaf7_1.eax, 4);
  f.avx512 = f.avx2 && os_zmm && Bit(leaf7.ebx, 16) && Bit(leaf7.ebx, 17) && Bit(leaf7.ebx, 30) &&
             Bit(leaf7.ebx, 31);
  f.avx512_vnni = f.avx512 && Bit(leaf7.ecx, 11);
  f.avx512_bf16 = f.avx512 && Bit(leaf7_1.eax, 5);
  const bool tiles = f.avx512 && os_tiles && Bit(leaf7.edx, 24) && RequestAmxState();
  f.amx_bf16 = tiles && Bit(leaf7.edx, 22);
  f.amx_int8 = tiles && Bit(leaf7.edx, 25);
  return f;
}

IsaLevel CpuFeatures::best_level() const {
  if (avx512 && avx512_vnni) return IsaLevel::kAvx512;
  return avx2 ? IsaLevel::kAvx2 : IsaLevel::kScalar;
}

IsaLevel ActiveIsaLevel() {
  static const IsaLevel level = ChooseLevel();
  return level;
}

}  // namespace stoker
