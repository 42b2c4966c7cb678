#include "runtime/matmul/onednn.h"

#include <spdlog/spdlog.h>

#include <dnnl.hpp>
#include <compare>
#include <map>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "mmap/half.h"
#include "numa/check.h"
#include "runtime/kernels/kernel_table.h"

namespace stoker {
namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

// How weights lie.
enum class Weights { kF32Rows, kF32Wide, kBf16Wide };

// What a compiled primitive depends on.
struct Shape {
  Weights weights;
  int64_t m, n, k;
  int64_t x_stride, y_stride;
  bool add = false;  // to what y holds

  auto operator<=>(const Shape&) const = default;
};

struct Compiled {
  dnnl::matmul primitive;
  dnnl::memory x, w, y;
};

}  // namespace

class OneDnn::PerWorker {
 public:
  // May throw dnnl::error.
  void Multiply(const Shape& shape, const void* w, const void* x, float* y) {
    auto found = compiled_.find(shape);
    if (found == compiled_.end()) {
      // Chunks of a prompt come in few lengths, but a long-lived process may see them all.
      if (compiled_.size() >= kMaxPrimitives) compiled_.clear();
      found = compiled_.emplace(shape, Compile(shape)).first;
    }
    Compiled& product = found->second;
    product.x.set_data_handle(const_cast<void*>(x));
    product.w.set_data_handle(const_cast<void*>(w));
    product.y.set_data_handle(y);
    product.primitive.execute(
        stream_,
        {{DNNL_ARG_SRC, product.x}, {DNNL_ARG_WEIGHTS, product.w}, {DNNL_ARG_DST, product.y}});
  }

  // Whether the library has a kernel for this; elsewhere it takes loops that are many times slower.
  // May throw dnnl::error.
  bool HasKernel(const Shape& shape) const {
    return std::string_view(Describe(shape).impl_info_str()).starts_with("brg");
  }

  void MultiplyOrAbort(const Shape& shape, const void* w, const void* x, float* y) noexcept {
    if (shape.m == 0 || shape.n == 0) return;
    try {
      Multiply(shape, w, x, y);
    } catch (const std::exception& error) {
      STOKER_CHECK_MSG(false, error.what());
    }
  }

 private:
  static constexpr size_t kMaxPrimitives = 1024;

  static dnnl::memory::desc WeightsOf(const Shape& shape) {
    const Dims dims{shape.k, shape.n};
    switch (shape.weights) {
      case Weights::kF32Rows:
        // The file's [n, k] rows are the transposed [k, n] of oneDNN's convention.
        return {dims, Type::f32, Dims{1, shape.k}};
      case Weights::kF32Wide:
        return {dims, Type::f32, Tag::BA16a64b};
      case Weights::kBf16Wide:
        return {dims, Type::bf16, Tag::BA16a64b2a};
    }
    return {};
  }

  dnnl::matmul::primitive_desc Describe(const Shape& shape) const {
    const Type type = shape.weights == Weights::kBf16Wide ? Type::bf16 : Type::f32;
    const dnnl::memory::desc x(Dims{shape.m, shape.k}, type, Dims{shape.x_stride, 1});
    const dnnl::memory::desc y(Dims{shape.m, shape.n}, Type::f32, Dims{shape.y_stride, 1});
    dnnl::primitive_attr attributes;
    if (shape.add) {
      dnnl::post_ops add;
      add.append_sum();
      attributes.set_post_ops(add);
    }
    return {engine_, x, WeightsOf(shape), y, attributes};
  }

  Compiled Compile(const Shape& shape) const {
    const dnnl::matmul::primitive_desc description = Describe(shape);
    return {dnnl::matmul(description), dnnl::memory(description.src_desc(), engine_, nullptr),
            dnnl::memory(description.weights_desc(), engine_, nullptr),
            dnnl::memory(description.dst_desc(), engine_, nullptr)};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Shape, Compiled> compiled_;
};

namespace {

static_assert(kWideRows == 64, "oneDNN's blocked layout BA16a64b2a");

// Whole numbers whose products and sums are exact in every type: the result has no tolerance.
int TestValue(int64_t row, int64_t column) {
  return static_cast<int>((7 * row + 3 * column) % 13) - 6;
}

// Multiplies activations by weights that lie as `weights` says, twice, the second result added to
// the first where blocks of columns are; false where that is wrong or impossible, which is a line
// in the log, and where the library has no kernel for it.
template <typename Element, typename Worker, typename Convert>
bool Test(Worker& worker, Weights weights, Convert&& convert) {
  const char* const name = weights == Weights::kBf16Wide ? "bf16" : "f32";
  constexpr int64_t kM = 5, kN = kWideRows, kK = 96;
  std::vector<Element> w(kN * kK), x(kM * kK);
  for (int64_t r = 0; r < kN; ++r) {
    for (int64_t c = 0; c < kK; ++c) {
      const int64_t at = weights == Weights::kF32Rows   ? r * kK + c
                         : weights == Weights::kF32Wide ? c * kN + r
                                                        : (c / 2 * kN + r) * 2 + c % 2;
      w[static_cast<size_t>(at)] = convert(TestValue(r, c));
    }
  }
  for (int64_t i = 0; i < kM * kK; ++i) {
    x[static_cast<size_t>(i)] = convert(TestValue(i % kK, i / kK));
  }
  std::vector<float> y(kM * kN);
  const bool adds = weights != Weights::kF32Rows;
  try {
    Shape shape{weights, kM, kN, kK, kK, kN};
    if (!worker.HasKernel(shape)) return false;
    worker.Multiply(shape, w.data(), x.data(), y.data());
    shape.add = true;
    if (adds) worker.Multiply(shape, w.data(), x.data(), y.data());
  } catch (const dnnl::error& error) {
    spdlog::warn("oneDNN {} cannot multiply {} here ({}); own kernels do", OneDnn::Version(), name,
                 error.what());
    return false;
  }
  for (int64_t t = 0; t < kM; ++t) {
    for (int64_t r = 0; r < kN; ++r) {
      int expected = 0;
      for (int64_t c = 0; c < kK; ++c) expected += TestValue(r, c) * TestValue(c, t);
      if (adds) expected *= 2;
      if (y[static_cast<size_t>(t * kN + r)] != static_cast<float>(expected)) {
        spdlog::warn("oneDNN {} multiplies {} wrongly here; own kernels do it", OneDnn::Version(),
                     name);
        return false;
      }
    }
  }
  return true;
}

}  // namespace

OneDnn::OneDnn(int n_workers, IsaLevel level) {
  // A second object of another level, as tests make them, keeps the first one's cap.
  if (level == IsaLevel::kAvx2) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
  try {
    workers_ = std::make_unique<PerWorker[]>(static_cast<size_t>(n_workers));
  } catch (const dnnl::error& error) {
    throw std::runtime_error(std::string("oneDNN ") + Version() + ": " + error.what());
  }
  const auto f32 = [](int v) { return static_cast<float>(v); };
  has_rows_ = Test<float>(workers_[0], Weights::kF32Rows, f32);
  has_wide_f32_ = Test<float>(workers_[0], Weights::kF32Wide, f32);
  if (MayHaveWideBf16(level)) {
    has_wide_bf16_ = Test<uint16_t>(workers_[0], Weights::kBf16Wide, [](int v) {
      return F32ToBF16(static_cast<float>(v));
    });
  }
}

OneDnn::~OneDnn() = default;

void OneDnn::Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                      int64_t y_stride) noexcept {
  STOKER_CHECK(n_rows > 1);
  workers_[worker].MultiplyOrAbort({Weights::kF32Rows, x.m, n_rows, x.k, x.stride, y_stride}, w,
                                   x.x, y);
}

void OneDnn::MultiplyWide(int worker, const float* w, const F32Rows& x, bool add,
                          float* y) noexcept {
  workers_[worker].MultiplyOrAbort(
      {Weights::kF32Wide, x.m, kWideRows, x.k, x.stride, kWideRows, add}, w, x.x, y);
}

void OneDnn::MultiplyWide(int worker, const uint16_t* w, const Bf16Rows& x, bool add,
                          float* y) noexcept {
  workers_[worker].MultiplyOrAbort(
      {Weights::kBf16Wide, x.m, kWideRows, x.k, x.stride, kWideRows, add}, w, x.x, y);
}

std::string OneDnn::Version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace stoker
