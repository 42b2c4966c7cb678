#include "runtime/matmul/onednn.h"

#include <spdlog/spdlog.h>

#include <dnnl.hpp>
#include <map>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "numa/check.h"
#include "runtime/kernels/half.h"

namespace stoker {
namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;

// What a compiled primitive depends on: type of weights and activations, m, n, k, strides of x and
// y.
using Shape = std::tuple<Type, int64_t, int64_t, int64_t, int64_t, int64_t>;

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

  void MultiplyOrAbort(const Shape& shape, const void* w, const void* x, float* y) noexcept {
    if (std::get<1>(shape) == 0 || std::get<2>(shape) == 0) return;  // no tokens, no rows
    try {
      Multiply(shape, w, x, y);
    } catch (const std::exception& error) {
      STOKER_CHECK_MSG(false, error.what());
    }
  }

  // The shape of a product whose strides are those of whole rows, but for y's.
  static Shape Of(Type type, int64_t m, int64_t n, int64_t k, int64_t y_stride) {
    return {type, m, n, k, k, y_stride};
  }

 private:
  static constexpr size_t kMaxPrimitives = 1024;

  Compiled Compile(const Shape& shape) const {
    const auto [type, m, n, k, x_stride, y_stride] = shape;
    // The file's [n, k] rows are the transposed [k, n] of oneDNN's convention.
    const dnnl::memory::desc x(Dims{m, k}, type, Dims{x_stride, 1});
    const dnnl::memory::desc w(Dims{k, n}, type, Dims{1, k});
    const dnnl::memory::desc y(Dims{m, n}, Type::f32, Dims{y_stride, 1});
    const dnnl::matmul::primitive_desc description(engine_, x, w, y);
    return {dnnl::matmul(description), dnnl::memory(x, engine_, nullptr),
            dnnl::memory(w, engine_, nullptr), dnnl::memory(y, engine_, nullptr)};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Shape, Compiled> compiled_;
};

namespace {

// Whole numbers whose products and sums are exact in every type: the result has no tolerance.
int TestValue(int64_t row, int64_t column) {
  return static_cast<int>((7 * row + 3 * column) % 13) - 6;
}

template <typename Element, typename Convert, typename Multiply>
bool Test(const char* name, Convert&& convert, Multiply&& multiply) {
  constexpr int64_t kM = 5, kN = 48, kK = 96;
  std::vector<Element> w(kN * kK), x(kM * kK);
  for (int64_t i = 0; i < kN * kK; ++i) w[static_cast<size_t>(i)] = convert(TestValue(i / kK, i));
  for (int64_t i = 0; i < kM * kK; ++i) x[static_cast<size_t>(i)] = convert(TestValue(i, i / kK));
  std::vector<float> y(kM * kN);
  try {
    multiply(w.data(), x.data(), y.data(), kM, kN, kK);
  } catch (const dnnl::error& error) {
    spdlog::warn("oneDNN {} cannot multiply {} here ({}); own kernels do", OneDnn::Version(), name,
                 error.what());
    return false;
  }
  for (int64_t t = 0; t < kM; ++t) {
    for (int64_t r = 0; r < kN; ++r) {
      int expected = 0;
      for (int64_t c = 0; c < kK; ++c) {
        expected += TestValue(r, r * kK + c) * TestValue(t * kK + c, t);
      }
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
  const auto multiply = [&](Type type) {
    return [this, type](const void* w, const void* x, float* y, int64_t m, int64_t n, int64_t k) {
      workers_[0].Multiply(PerWorker::Of(type, m, n, k, n), w, x, y);
    };
  };
  has_f32_ = Test<float>("f32", [](int v) { return static_cast<float>(v); }, multiply(Type::f32));
  if (level == IsaLevel::kAvx512 && CpuFeatures::Detect().avx512_bf16) {
    has_bf16_ = Test<uint16_t>(
        "bf16", [](int v) { return F32ToBF16(static_cast<float>(v)); }, multiply(Type::bf16));
  }
}

OneDnn::~OneDnn() = default;

void OneDnn::Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                      int64_t y_stride) noexcept {
  workers_[worker].MultiplyOrAbort({Type::f32, x.m, n_rows, x.k, x.stride, y_stride}, w, x.x, y);
}

void OneDnn::Multiply(int worker, const uint16_t* w, int64_t n_rows, const uint16_t* x, int64_t m,
                      int64_t k, float* y, int64_t y_stride) noexcept {
  workers_[worker].MultiplyOrAbort(PerWorker::Of(Type::bf16, m, n_rows, k, y_stride), w, x, y);
}

std::string OneDnn::Version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace stoker
