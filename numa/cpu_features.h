#pragma once

// The instruction sets of this machine, from CPUID and the OS state (XGETBV), and the kernel level
// chosen from them once per process. Pure after the first call; thread-safe. Which kernels exist
// per level is the business of runtime/kernels, not of this file.

#include <string>
#include <string_view>

namespace stoker {

// Kernel levels in ascending order. kAvx2 needs AVX2, FMA and F16C. kAvx512 needs
// AVX-512 F/BW/VL/DQ and VNNI (Ice Lake, Zen 4 and later); a machine with AVX-512 but without VNNI
// runs kAvx2.
enum class IsaLevel { kScalar = 0, kAvx2 = 1, kAvx512 = 2 };

std::string_view IsaLevelName(IsaLevel level);  // "scalar", "avx2", "avx512"

struct CpuFeatures {
  bool avx2 = false;      // AVX2 + FMA + F16C, and the OS saves YMM
  bool avx_vnni = false;  // VEX-encoded VNNI
  bool avx512 = false;    // F, BW, VL, DQ and the OS saves ZMM
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_int8 = false;  // tiles usable: CPUID and the OS grants the state
  bool amx_bf16 = false;
  std::string model_name;  // brand string, trimmed

  static CpuFeatures Detect();
  IsaLevel best_level() const;
};

// The process-wide level: best_level(), or STOKER_ISA=scalar|avx2|avx512 from the environment.
// Throws std::runtime_error when STOKER_ISA names an unknown level or one this machine lacks.
// Evaluated once; later calls return the same value.
IsaLevel ActiveIsaLevel();

}  // namespace stoker
