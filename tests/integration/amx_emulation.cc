// The matrix unit of Intel's Sapphire Rapids (AMX: tiles, int8, bf16) in software, for a process
// that runs on an x86-64 machine with AVX-512 and without it. A library for LD_PRELOAD;
// amx_emulated.py makes copies of the executables whose questions about the machine reach it:
//
//   CPUID   0F A2     ->  0F 04      an opcode nobody has: SIGILL, answered here
//   XGETBV  0F 01 D0  ->  0F 0A 90   the same, and a NOP
//
// Tile instructions, compiled into a library or made by a JIT, are SIGILL by themselves. All other
// instructions run as they are. What real tiles would refuse (shapes that do not agree, tiles not
// configured or not asked of the kernel) ends the process with a line that says so. At the end a
// line on stderr counts the products: "amx emulation: N int8, N bf16 tile products".
//
// Semantics after Intel's Software Developer's Manual, volume 2, and its Architecture Instruction
// Set Extensions reference, chapter 3 (AMX). TDPBF16PS: denormals are zero, sums of even and of odd
// columns kept apart, each with one rounding a step.

#include <cpuid.h>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <array>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kTiles = 8;
constexpr int kTileRows = 16;
constexpr int kRowBytes = 64;
constexpr uint64_t kTileStates = 0x60000;  // of XCR0: 17 tile configuration, 18 tile data

struct Tile {
  int rows = 0;
  int row_bytes = 0;
  alignas(64) uint8_t data[kTileRows][kRowBytes] = {};
};

struct TileState {
  bool configured = false;
  uint8_t configuration[64] = {};
  Tile tiles[kTiles];
};

thread_local TileState state;
std::atomic<bool> permitted{false};
std::atomic<uint64_t> n_int8{0};
std::atomic<uint64_t> n_bf16{0};

[[noreturn]] void Refuse(const char* what, const uint8_t* code) {
  char text[200];
  const int n = std::snprintf(text, sizeof(text),
                              "amx emulation: %s, at %p: %02x %02x %02x %02x %02x %02x %02x %02x\n",
                              what, static_cast<const void*>(code), code[0], code[1], code[2],
                              code[3], code[4], code[5], code[6], code[7]);
  if (write(STDERR_FILENO, text, static_cast<size_t>(n)) < 0) _exit(3);
  std::abort();
}

template <typename T>
T Load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void Configure(const uint8_t* memory, const uint8_t* code) {
  if (!permitted) Refuse("tiles without the kernel's permission", code);
  state = {};
  std::memcpy(state.configuration, memory, sizeof(state.configuration));
  if (memory[0] == 0) return;
  if (memory[0] != 1) Refuse("no such palette", code);
  for (int i = 0; i < kTiles; ++i) {
    Tile& tile = state.tiles[i];
    tile.row_bytes = Load<uint16_t>(memory + 16 + 2 * i);
    tile.rows = memory[48 + i];
    if (tile.row_bytes > kRowBytes || tile.rows > kTileRows) Refuse("a tile too large", code);
    if ((tile.row_bytes == 0) != (tile.rows == 0)) Refuse("a tile of no size", code);
  }
  state.configured = true;
}

Tile& TileAt(int index, const uint8_t* code) {
  if (index >= kTiles) Refuse("no such tile", code);
  if (!state.configured) Refuse("no tiles configured", code);
  if (state.tiles[index].rows == 0) Refuse("this tile is not configured", code);
  return state.tiles[index];
}

// sum += a * b of four bytes at a time, each signed or not.
template <typename A, typename B>
void MultiplyBytes(Tile* sum, const Tile& a, const Tile& b) {
  for (int m = 0; m < sum->rows; ++m) {
    alignas(64) int32_t totals[kTileRows];
    std::memcpy(totals, sum->data[m], kRowBytes);
    for (int k = 0; k < a.row_bytes / 4; ++k) {
      for (int i = 0; i < 4; ++i) {
        const int32_t left = static_cast<A>(a.data[m][4 * k + i]);
        for (int n = 0; n < kTileRows; ++n) {
          totals[n] += left * static_cast<B>(b.data[k][4 * n + i]);
        }
      }
    }
    std::memcpy(sum->data[m], totals, static_cast<size_t>(sum->row_bytes));
  }
}

float WidenBf16(const uint8_t* at) {
  const uint32_t bits = static_cast<uint32_t>(Load<uint16_t>(at)) << 16;
  return Load<float>(&bits);
}

void MultiplyBf16(Tile* sum, const Tile& a, const Tile& b) {
  constexpr unsigned kRoundNearestMaskedNoDenormals = 0x9fc0;  // MXCSR
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(kRoundNearestMaskedNoDenormals);
  for (int m = 0; m < sum->rows; ++m) {
    float even[kTileRows] = {};
    float odd[kTileRows] = {};
    for (int k = 0; k < a.row_bytes / 4; ++k) {
      const float left_even = WidenBf16(&a.data[m][4 * k]);
      const float left_odd = WidenBf16(&a.data[m][4 * k + 2]);
      for (int n = 0; n < kTileRows; ++n) {
        even[n] = std::fma(left_even, WidenBf16(&b.data[k][4 * n]), even[n]);
        odd[n] = std::fma(left_odd, WidenBf16(&b.data[k][4 * n + 2]), odd[n]);
      }
    }
    for (int n = 0; n < sum->row_bytes / 4; ++n) {
      uint8_t* const at = &sum->data[m][4 * n];
      const float total = Load<float>(at) + (even[n] + odd[n]);
      std::memcpy(at, &total, sizeof(total));
    }
  }
  _mm_setcsr(mode);
}

enum Prefix : int { kNone = 0, k66 = 1, kF3 = 2, kF2 = 3 };

void Multiply(int opcode, int prefix, int sum_index, int a_index, int b_index,
              const uint8_t* code) {
  Tile& sum = TileAt(sum_index, code);
  const Tile& a = TileAt(a_index, code);
  const Tile& b = TileAt(b_index, code);
  if (sum_index == a_index || sum_index == b_index || a_index == b_index) {
    Refuse("one tile in two roles", code);
  }
  if (a.rows != sum.rows || b.row_bytes != sum.row_bytes || a.row_bytes != 4 * b.rows) {
    Refuse("tiles whose shapes do not agree", code);
  }
  if (opcode == 0x5c) {
    if (prefix != kF3) Refuse("only TDPBF16PS multiplies floats here", code);
    MultiplyBf16(&sum, a, b);
    ++n_bf16;
    return;
  }
  switch (prefix) {
    case kF2:
      MultiplyBytes<int8_t, int8_t>(&sum, a, b);
      break;
    case kF3:
      MultiplyBytes<int8_t, uint8_t>(&sum, a, b);
      break;
    case k66:
      MultiplyBytes<uint8_t, int8_t>(&sum, a, b);
      break;
    default:
      MultiplyBytes<uint8_t, uint8_t>(&sum, a, b);
  }
  ++n_int8;
}

// The operand in memory of the instruction's ModRM byte.
struct MemoryOperand {
  uint8_t* address = nullptr;
  int64_t stride = 0;  // of tile rows: the index register, scaled
  const uint8_t* end = nullptr;
};

int64_t Register(const greg_t* registers, int number) {
  static constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
  return registers[kPlaces[number]];
}

MemoryOperand DecodeMemory(const greg_t* registers, const uint8_t* modrm, bool b_bit, bool x_bit) {
  const int mod = *modrm >> 6;
  int base = *modrm & 7;
  const uint8_t* at = modrm + 1;
  MemoryOperand operand;
  int64_t address = 0;
  bool has_base = true;
  if (base == 4) {
    const int sib = *at++;
    const int index = ((sib >> 3) & 7) + 8 * static_cast<int>(x_bit);
    if (index != 4) operand.stride = Register(registers, index) << (sib >> 6);
    base = sib & 7;
    has_base = !(base == 5 && mod == 0);
  } else if (base == 5 && mod == 0) {
    operand.end = at + 4;  // relative to the next instruction
    operand.address = const_cast<uint8_t*>(operand.end) + Load<int32_t>(at);
    return operand;
  }
  if (has_base) address = Register(registers, base + 8 * static_cast<int>(b_bit));
  if (mod == 1) {
    address += Load<int8_t>(at);
    at += 1;
  } else if (mod == 2 || !has_base) {
    address += Load<int32_t>(at);
    at += 4;
  }
  operand.address = reinterpret_cast<uint8_t*>(address);
  operand.end = at;
  return operand;
}

// Runs the tile instruction at `code`; returns what follows it, null when it is none.
const uint8_t* RunTileInstruction(const uint8_t* code, const greg_t* registers) {
  // C4, inverted R X B and map 0F38, W (0) with inverted vvvv, L (0) and prefix, opcode, ModRM.
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return nullptr;
  const bool x_bit = (code[1] & 0x40) == 0;
  const bool b_bit = (code[1] & 0x20) == 0;
  const int vvvv = (~code[2] >> 3) & 0xf;
  const int prefix = code[2] & 3;
  const int opcode = code[3];
  const uint8_t* const modrm = code + 4;
  const bool in_memory = (*modrm >> 6) != 3;
  const int reg = (*modrm >> 3) & 7;
  if (opcode == 0x5c || opcode == 0x5e) {
    if (in_memory) return nullptr;
    Multiply(opcode, prefix, reg, *modrm & 7, vvvv, code);
    return modrm + 1;
  }
  if (opcode == 0x49 && !in_memory) {
    if (prefix == kNone) {
      state = {};  // TILERELEASE
    } else if (prefix == kF2) {
      std::memset(TileAt(reg, code).data, 0, sizeof(Tile::data));  // TILEZERO
    } else {
      return nullptr;
    }
    return modrm + 1;
  }
  if ((opcode != 0x49 && opcode != 0x4b) || !in_memory) return nullptr;
  const MemoryOperand operand = DecodeMemory(registers, modrm, b_bit, x_bit);
  if (opcode == 0x49) {
    if (prefix == kNone) {
      Configure(operand.address, code);
    } else if (prefix == k66) {
      std::memcpy(operand.address, state.configuration, sizeof(state.configuration));
    } else {
      return nullptr;
    }
    return operand.end;
  }
  Tile& tile = TileAt(reg, code);
  const auto row_bytes = static_cast<size_t>(tile.row_bytes);
  if (prefix == kF2 || prefix == k66) {
    std::memset(tile.data, 0, sizeof(tile.data));
    for (int row = 0; row < tile.rows; ++row) {
      std::memcpy(tile.data[row], operand.address + row * operand.stride, row_bytes);
    }
  } else if (prefix == kF3) {
    for (int row = 0; row < tile.rows; ++row) {
      std::memcpy(operand.address + row * operand.stride, tile.data[row], row_bytes);
    }
  } else {
    return nullptr;
  }
  return operand.end;
}

void AnswerCpuid(greg_t* registers) {
  const auto leaf = static_cast<uint32_t>(registers[REG_RAX]);
  const auto subleaf = static_cast<uint32_t>(registers[REG_RCX]);
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t c = 0;
  uint32_t d = 0;
  if (leaf == 0x1d) {
    if (subleaf == 0) a = 1;  // palettes
    if (subleaf == 1) {
      a = (1024U << 16) | 8192U;  // bytes of a tile, of all
      b = (8U << 16) | 64U;       // tiles, bytes of a row
      c = 16;                     // rows
    }
  } else if (leaf == 0x1e) {
    if (subleaf == 0) b = (64U << 8) | 16U;  // bytes of columns and rows of a product
  } else {
    __cpuid_count(leaf, subleaf, a, b, c, d);
    if (leaf == 0 && a < 0x1e) a = 0x1e;
    // AMX-BF16, AMX-TILE, AMX-INT8, and without which oneDNN uses no tiles: AVX512-FP16, AVX-VNNI.
    if (leaf == 7 && subleaf == 0) d |= (1U << 22) | (1U << 24) | (1U << 25) | (1U << 23);
    if (leaf == 7 && subleaf == 1) a |= 1U << 4;
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
}

void AnswerXgetbv(greg_t* registers) {
  uint32_t low = 0;
  uint32_t high = 0;
  const auto which = static_cast<uint32_t>(registers[REG_RCX]);
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(which));
  if (which == 0) low |= static_cast<uint32_t>(kTileStates);
  registers[REG_RAX] = low;
  registers[REG_RDX] = high;
}

void OnIllegalInstruction(int, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* const code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  if (code[0] == 0x0f && code[1] == 0x04) {
    AnswerCpuid(registers);
    registers[REG_RIP] += 2;
  } else if (code[0] == 0x0f && code[1] == 0x0a) {
    AnswerXgetbv(registers);
    registers[REG_RIP] += 3;
  } else {
    const uint8_t* const next = RunTileInstruction(code, registers);
    if (next == nullptr) Refuse("an instruction this machine does not have", code);
    registers[REG_RIP] = reinterpret_cast<greg_t>(next);
  }
}

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// Before anything else of the process: the library is linked with -z initfirst.
[[gnu::constructor]] void TakeSignal() {
  struct sigaction action = {};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  Next<decltype(sigaction)>("sigaction")(SIGILL, &action, nullptr);
}

[[gnu::destructor]] void Report() {
  std::fprintf(stderr, "amx emulation: %llu int8, %llu bf16 tile products\n",
               static_cast<unsigned long long>(n_int8), static_cast<unsigned long long>(n_bf16));
}

}  // namespace

// A test runner asks for SIGILL to report crashes; the signal stays ours.
extern "C" int sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  return Next<decltype(sigaction)>("sigaction")(number, number == SIGILL ? nullptr : action, old);
}

// The kernel's answers about tiles (Documentation/arch/x86/xstate.rst).
extern "C" long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  std::array<long, 6> arguments;
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  if (number == SYS_arch_prctl) {
    constexpr long kGetSupported = 0x1021;
    constexpr long kGetPermitted = 0x1022;
    constexpr long kRequest = 0x1023;
    constexpr long kTileData = 18;
    if (arguments[0] == kRequest && arguments[1] == kTileData) {
      permitted = true;
      return 0;
    }
    if (arguments[0] == kGetSupported || arguments[0] == kGetPermitted) {
      auto* const states = reinterpret_cast<uint64_t*>(arguments[1]);
      const bool asked = arguments[0] == kGetSupported || permitted;
      *states = 0xe7 | (asked ? kTileStates : 0);
      return 0;
    }
  }
  return Next<decltype(syscall)>("syscall")(number, arguments[0], arguments[1], arguments[2],
                                            arguments[3], arguments[4], arguments[5]);
}
