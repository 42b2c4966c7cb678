#include "runtime/matmul/onednn_f32.h"

#include <dnnl.hpp>
#include <map>
#include <stdexcept>
#include <tuple>

#include "numa/check.h"

namespace stoker {
namespace {

using Dims = dnnl::memory::dims;
constexpr auto kF32 = dnnl::memory::data_type::f32;

// What a compiled primitive depends on.
using Shape =
    std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;  // m, n, k, strides of x and y

struct Compiled {
  dnnl::matmul primitive;
  dnnl::memory x, w, y;
};

}  // namespace

class OneDnnF32::PerWorker {
 public:
  void Multiply(const float* w, int64_t n_rows, const F32Rows& x, float* y, int64_t y_stride) {
    const Shape shape(x.m, n_rows, x.k, x.stride, y_stride);
    auto found = compiled_.find(shape);
    if (found == compiled_.end()) {
      // Chunks of a prompt come in few lengths, but a long-lived process may see them all.
      if (compiled_.size() >= kMaxPrimitives) compiled_.clear();
      found = compiled_.emplace(shape, Compile(shape)).first;
    }
    Compiled& product = found->second;
    product.x.set_data_handle(const_cast<float*>(x.x));
    product.w.set_data_handle(const_cast<float*>(w));
    product.y.set_data_handle(y);
    product.primitive.execute(
        stream_,
        {{DNNL_ARG_SRC, product.x}, {DNNL_ARG_WEIGHTS, product.w}, {DNNL_ARG_DST, product.y}});
  }

 private:
  static constexpr size_t kMaxPrimitives = 1024;

  Compiled Compile(const Shape& shape) const {
    const auto [m, n, k, x_stride, y_stride] = shape;
    // The file's [n, k] rows are the transposed [k, n] of oneDNN's convention.
    const dnnl::memory::desc x(Dims{m, k}, kF32, Dims{x_stride, 1});
    const dnnl::memory::desc w(Dims{k, n}, kF32, Dims{1, k});
    const dnnl::memory::desc y(Dims{m, n}, kF32, Dims{y_stride, 1});
    const dnnl::matmul::primitive_desc description(engine_, x, w, y);
    return {dnnl::matmul(description), dnnl::memory(x, engine_, nullptr),
            dnnl::memory(w, engine_, nullptr), dnnl::memory(y, engine_, nullptr)};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Shape, Compiled> compiled_;
};

OneDnnF32::OneDnnF32(int n_workers, IsaLevel level) {
  // A second object of another level, as tests make them, keeps the first one's cap.
  if (level == IsaLevel::kAvx2) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
  try {
    workers_ = std::make_unique<PerWorker[]>(static_cast<size_t>(n_workers));
  } catch (const dnnl::error& error) {
    throw std::runtime_error(std::string("oneDNN ") + Version() + ": " + error.what());
  }
}

OneDnnF32::~OneDnnF32() = default;

void OneDnnF32::Multiply(int worker, const float* w, int64_t n_rows, const F32Rows& x, float* y,
                         int64_t y_stride) noexcept {
  if (n_rows == 0 || x.m == 0) return;
  try {
    workers_[worker].Multiply(w, n_rows, x, y, y_stride);
  } catch (const std::exception& error) {
    STOKER_CHECK_MSG(false, error.what());
  }
}

std::string OneDnnF32::Version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

}  // namespace stoker
