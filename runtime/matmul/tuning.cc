#include "runtime/matmul/tuning.h"

#include <time.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mmap/kept_values.h"
#include "numa/bytes.h"
#include "numa/cpu_features.h"
#include "numa/node_buffer.h"
#include "numa/thread_team.h"
#include "runtime/kernels/panel_layout.h"
#include "runtime/matmul/activations.h"
#include "runtime/matmul/fast_backend.h"
#include "runtime/matmul/onednn.h"
#include "runtime/matmul/scaled_products.h"

namespace stoker {
namespace {

// Weights come from memory, not from the cache, when experts take turns.
constexpr int64_t kRows = 1024;
constexpr int kRepetitions = 3;
constexpr std::array<int64_t, 8> kGemmTokens = {4,  8,  12, 16,
                                                24, 32, 48, MatmulTuning::kMostGemmTokens};
constexpr int64_t kMostTokens = ProductRates::kTokens.back();
constexpr std::array<int64_t, 4> kScaledTokens = {32, 64, 128, kMostTokens};
constexpr std::array<int64_t, 5> kWideTokens = {16, 32, 64, 128, kMostTokens};
constexpr int64_t kSplitAt = 128;  // tokens at which both ways of oneDNN are compared
constexpr int64_t kNo = 2, kYes = 3;

// Operations per microsecond, more than any core has.
constexpr int64_t kMostMega = 100'000'000;

// Counts up when kernels change so much that old measurements mislead.
constexpr int kFormat = 5;

// That the calling thread has computed: what other processes take of its core does not count, or
// a busy minute would decide for good.
double ComputedSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename F>
double BestSeconds(F&& run) {
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < kRepetitions; ++i) {
    const double start = ComputedSeconds();
    run();
    best = std::min(best, ComputedSeconds() - start);
  }
  return best;
}

// What oneDNN brings to this machine: its kernels, and the matrix units they use.
std::string OneDnnOf(const CpuFeatures& cpu) {
#if STOKER_WITH_ONEDNN
  std::string text = "oneDNN " + OneDnn::Version();
  if (cpu.amx_int8) text += " amx-int8";
  if (cpu.amx_bf16) text += " amx-bf16";
  if (cpu.avx512_bf16) text += " avx512-bf16";
  return text;
#else
  static_cast<void>(cpu);
  return "no oneDNN";
#endif
}

KeptValues ValuesOf(const KernelTable& kernels, int64_t cols,
                    const std::filesystem::path& directory) {
  const CpuFeatures cpu = CpuFeatures::Detect();
  const std::string what = cpu.model_name + "; " + std::string(IsaLevelName(kernels.level)) + "; " +
                           OneDnnOf(cpu) + "; rows of " + std::to_string(cols);
  std::string name = what;  // a file for each: several machines may share a home
  std::replace_if(
      name.begin(), name.end(),
      [](unsigned char c) { return c != '.' && std::isalnum(c) == 0; }, '-');
  return {directory.empty() ? directory : directory / ("kernels-" + name + ".txt"),
          "stoker kernels " + std::to_string(kFormat) + "; " + what};
}

// A matrix of one type, for all its kernels.
class Bench {
 public:
  Bench(const KernelTable& kernels, DType type, int64_t cols)
      : type_(type),
        kernels_(kernels.For(type)),
        // Other matrices than those of hidden rows may be of the type, so these need not be whole.
        row_bytes_(DivCeil<int64_t>(cols, Info(type).block_elements) * Info(type).block_bytes),
        panels_(NodeBuffer::Allocate(static_cast<size_t>(row_bytes_ * kRows), "calibration")),
        scratch_(NodeBuffer::Allocate(static_cast<size_t>(kernels.gemm_scratch_bytes),
                                      "calibration")),
        y_(static_cast<size_t>(kMostTokens * kRows)),
        x_(static_cast<size_t>(kMostTokens * cols), 1.0f),
        activations_(kMostTokens, cols, kernels.level) {
    // Zeros take as long as any weights.
    std::memset(panels_.data(), 0, static_cast<size_t>(row_bytes_ * kRows));
    std::memset(scratch_.data(), 0, static_cast<size_t>(kernels.gemm_scratch_bytes));
    activations_.Prepare(Worker{}, x_.data(), kMostTokens, cols, cols, kActQ8);
  }

  // Of F32, F16 and BF16, by the route that the backend takes.
  double PlainSeconds(int64_t m, MatmulBackend* backend) {
    TensorView weight;
    weight.type = type_;
    weight.n_dims = 2;
    weight.shape = {kRows, activations_.k(), 1, 1};
    weight.data = panels_.data();
    weight.bytes = panels_.size();
    weight.layout = WeightLayout::kPanels;
    activations_.Prepare(Worker{}, x_.data(), m, activations_.k(), activations_.k(),
                         backend->FormsFor(type_, m));
    // In a region of one thread, or oneDNN would take all there are.
    double seconds = 0.0;
    ThreadTeam(1, /*pin=*/false).Run([&](const Worker& worker) {
      seconds =
          BestSeconds([&] { backend->Multiply(worker, weight, activations_, y(), kRows); });
    });
    return seconds;
  }
  double DotSeconds(int64_t m) {
    return BestSeconds([&] { kernels_.dot_panels(panels_.data(), kRows, Rows(m), y(), kRows); });
  }
  double GemmSeconds(int64_t m) {
    return BestSeconds([&] {
      kernels_.gemm_panels(panels_.data(), kRows, Rows(m), scratch_.data(), y(), kRows);
    });
  }
  // Multiplications and additions of a product with m tokens.
  double Operations(int64_t m) const {
    return 2.0 * static_cast<double>(kRows) * static_cast<double>(m * activations_.k());
  }
  double ScaledSeconds(int64_t m, ScaledProducts* scaled) {
    return BestSeconds([&] {
      scaled->Multiply(0, kernels_, panels_.data(), row_bytes_, kRows, Rows(m), y(), kRows);
    });
  }

 private:
  Q8Rows Rows(int64_t m) { return SliceRows(activations_.q8_rows(), 0, m); }
  float* y() { return y_.data(); }

  DType type_;
  const TypeKernels& kernels_;
  int64_t row_bytes_;
  NodeBuffer panels_;
  NodeBuffer scratch_;
  std::vector<float> y_;
  std::vector<float> x_;
  Activations activations_;
};

// The smallest of `tokens`, which rise, from which on `other` stays slower than `candidate`, both
// called with a number of tokens; `otherwise` if there is none.
template <size_t kCount, typename Candidate, typename Other>
int64_t TokensFrom(const std::array<int64_t, kCount>& tokens, int64_t otherwise,
                   Candidate&& candidate, Other&& other) {
  int64_t choice = otherwise;
  for (const int64_t m : tokens) {
    if (candidate(m) >= other(m)) {
      choice = otherwise;
    } else if (choice == otherwise) {
      choice = m;
    }
  }
  return choice;
}

}  // namespace

Calibration Calibrate(const KernelTable& kernels, std::span<const DType> types, int64_t cols,
                      const std::filesystem::path& directory) {
  const auto start = std::chrono::steady_clock::now();
  cols = DivCeil<int64_t>(cols, 32) * 32;  // whole blocks of activations, as no model need have
  KeptValues kept = ValuesOf(kernels, cols, directory);
  Calibration result;
  bool measured = false;
  std::optional<std::unique_ptr<ScaledProducts>> scaled;
  const auto kept_or = [&](const std::string& name, int64_t most, auto&& measure) {
    std::optional<int64_t> value = kept.Find(name, 2, most);
    if (!value) {
      value = measure();
      kept.Set(name, *value);
      measured = true;
    }
    return *value;
  };
  const auto backend_of = [&](const MatmulTuning& tuning) {
    return MakeFastBackend(Precision::kFast, 1, kernels.level, true, tuning);
  };
  const auto micro_kernels = [&] {
    if (!scaled) scaled = ScaledProducts::Make(1);
    return scaled->get();
  };
  for (const DType type : types) {
    const TypeKernels& both = kernels.For(type);
    const bool plain = both.dot_plain != nullptr;
    const bool has_planes = both.planes > 0 && cols % kGroup == 0;
    if (both.gemm_panels == nullptr && !plain) continue;
    std::optional<Bench> bench;
    const auto the_bench = [&]() -> Bench& {
      if (!bench) bench.emplace(kernels, type, cols);
      return *bench;
    };
    const std::string name(Info(type).name);
    const auto gemm = [&](int64_t m) { return the_bench().GemmSeconds(m); };
    if (!plain) {
      constexpr int64_t kMostGemm = MatmulTuning::kMostGemmTokens;
      result.tuning.set_gemm_tokens(type, kept_or(name, kMostGemm, [&] {
        return TokensFrom(kGemmTokens, kMostGemm, gemm,
                          [&](int64_t m) { return the_bench().DotSeconds(m); });
      }));
    }
    if (has_planes) {
      result.tuning.set_scaled_tokens(type, kept_or(name + ".scaled", MatmulTuning::kNever, [&] {
        if (micro_kernels() == nullptr) return MatmulTuning::kNever;
        return TokensFrom(
            kScaledTokens, MatmulTuning::kNever,
            [&](int64_t m) { return the_bench().ScaledSeconds(m, micro_kernels()); }, gemm);
      }));
    }
    if (plain && cols >= kOneDnnColumns) {
      MatmulTuning never, wide, split;
      never.set_wide_tokens(type, MatmulTuning::kNever);
      wide.set_wide_tokens(type, 2);
      wide.set_splits_bf16(false);
      split.set_wide_tokens(type, 2);
      split.set_splits_bf16(true);
      if (type == DType::kBF16 && kernels.level == IsaLevel::kAvx512) {
        result.tuning.set_splits_bf16(kept_or(name + ".split", kYes, [&] {
          const double whole = the_bench().PlainSeconds(kSplitAt, backend_of(wide).get());
          return the_bench().PlainSeconds(kSplitAt, backend_of(split).get()) < whole ? kYes : kNo;
        }) == kYes);
      }
      result.tuning.set_wide_tokens(type, kept_or(name + ".wide", MatmulTuning::kNever, [&] {
        const auto own = backend_of(never);
        const auto onednn = backend_of(result.tuning.splits_bf16() ? split : wide);
        return TokensFrom(
            kWideTokens, MatmulTuning::kNever,
            [&](int64_t m) { return the_bench().PlainSeconds(m, onednn.get()); },
            [&](int64_t m) { return the_bench().PlainSeconds(m, own.get()); });
      }));
    }
    std::unique_ptr<MatmulBackend> chosen;
    for (size_t i = 0; i < ProductRates::kTokens.size(); ++i) {
      const int64_t m = ProductRates::kTokens[i];
      const int64_t mega = kept_or(name + ".rate" + std::to_string(m), kMostMega, [&] {
        const bool in_unit =
            has_planes && m >= result.tuning.scaled_tokens(type) && micro_kernels() != nullptr;
        if (plain && !chosen) chosen = backend_of(result.tuning);
        const double seconds = plain     ? the_bench().PlainSeconds(m, chosen.get())
                               : in_unit ? the_bench().ScaledSeconds(m, micro_kernels())
                               : m >= result.tuning.gemm_tokens(type) ? gemm(m)
                                                                      : the_bench().DotSeconds(m);
        // Clamped before it is a whole number: a clock may have counted nothing.
        return static_cast<int64_t>(std::clamp(the_bench().Operations(m) / seconds / 1e6, 2.0,
                                               static_cast<double>(kMostMega)));
      });
      result.rates.Set(type, i, static_cast<double>(mega) * 1e6);
    }
  }
  const auto took = std::chrono::steady_clock::now() - start;
  result.source =
      measured ? "measured in " +
                     std::to_string(
                         std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
                     " ms"
               : kept.path().string();
  if (!kept.Keep()) {  // the next process would find other choices
    const MatmulTuning built_in;
    result.tuning.set_splits_bf16(built_in.splits_bf16());
    for (const DType type : types) result.tuning.set_wide_tokens(type, built_in.wide_tokens(type));
  }
  return result;
}

}  // namespace stoker
