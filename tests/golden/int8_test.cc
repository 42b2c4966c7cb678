// A checkpoint of INT8 rows, made from a reference one as the compressed-tensors library would: its
// logits are those of the checkpoint whose F32 weights are code times scale.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "mmap/half.h"
#include "mmap/safetensors_writer.h"
#include "mmap/weight_store.h"
#include "runtime/engine.h"
#include "runtime/kernels/dequantize.h"
#include "tests/support/catch.h"
#include "tests/support/golden_file.h"
#include "tests/support/near.h"
#include "tests/support/run_model.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kQuantization =
    R"("quantization_config":{"quant_method":"compressed-tensors","format":"int-quantized",)"
    R"("config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":8,"type":"int",)"
    R"("symmetric":true,"strategy":"channel"}}},"ignore":["lm_head"]})";

// The directories of both forms of one model.
struct Models {
  test::TempDir directory;
  fs::path int8 = directory / "int8";
  fs::path f32 = directory / "f32";

  explicit Models(const fs::path& source) {
    const auto store = WeightStore::Open(source);
    std::vector<std::vector<std::byte>> bytes;
    bytes.reserve(3 * store->tensors().size());
    std::vector<TensorToWrite> quantised, plain;
    const auto keep = [&](const void* data, size_t size) -> std::span<const std::byte> {
      const auto* const first = static_cast<const std::byte*>(data);
      return bytes.emplace_back(first, first + size);
    };
    for (const StoredTensor& tensor : store->tensors()) {
      const TensorView view = store->View(tensor);
      std::vector<float> values(static_cast<size_t>(view.rows() * view.cols()));
      for (int64_t row = 0; row < view.rows(); ++row) {
        DequantizeRow(view.type, view.row(row), values.data() + row * view.cols(), view.cols());
      }
      const bool linear = tensor.shape.size() == 2 && tensor.name.starts_with("blk.") &&
                          !tensor.name.ends_with("ffn_gate_inp.weight");
      if (linear) {
        Quantise(view, tensor.file_name, keep, &values, &quantised);
      } else {
        quantised.push_back({tensor.file_name, view.type, tensor.shape,
                             keep(view.data, tensor.extent.bytes)});
      }
      plain.push_back({tensor.file_name, DType::kF32, tensor.shape,
                       keep(values.data(), values.size() * sizeof(float))});
    }
    Write(source, int8, quantised, kQuantization);
    Write(source, f32, plain, R"("unused":0)");
  }

 private:
  // Each row to codes of its largest magnitude / 127 in BF16, and `values` to what these mean.
  template <typename Keep>
  static void Quantise(const TensorView& view, const std::string& name, Keep&& keep,
                       std::vector<float>* values, std::vector<TensorToWrite>* tensors) {
    std::vector<int8_t> codes(values->size());
    std::vector<uint16_t> scales;
    for (int64_t row = 0; row < view.rows(); ++row) {
      float* const x = values->data() + row * view.cols();
      float largest = 0.0f;
      for (int64_t c = 0; c < view.cols(); ++c) largest = std::max(largest, std::fabs(x[c]));
      scales.push_back(F32ToBF16(largest / 127.0f));
      const float scale = BF16ToF32(scales.back());
      for (int64_t c = 0; c < view.cols(); ++c) {
        const float code = std::clamp(std::nearbyint(x[c] / scale), -128.0f, 127.0f);
        codes[static_cast<size_t>(row * view.cols() + c)] = static_cast<int8_t>(code);
        x[c] = code * scale;
      }
    }
    tensors->push_back({name, DType::kI8, {view.rows(), view.cols()},
                        keep(codes.data(), codes.size())});
    tensors->push_back({name + "_scale", DType::kBF16, {view.rows(), 1},
                        keep(scales.data(), scales.size() * sizeof(uint16_t))});
  }

  static void Write(const fs::path& source, const fs::path& target,
                    const std::vector<TensorToWrite>& tensors, std::string_view member) {
    fs::create_directory(target);
    WriteSafetensors(target / "model.safetensors", tensors);
    std::ifstream in(source / "config.json");
    std::string config{std::istreambuf_iterator<char>(in), {}};
    config.insert(config.find('{') + 1, std::string(member) + ",");
    std::ofstream(target / "config.json") << config;
  }
};

std::vector<float> Logits(const fs::path& path, Precision precision, std::span<const int32_t> ids,
                          uint32_t cache_slots = 0) {
  EngineOptions options = testing::OptionsFor(path);
  options.precision = precision;
  if (cache_slots > 0) options.mode = MemoryMode::kPaged;
  options.cache_slots = cache_slots;
  const auto engine = Engine::Open(options);
  SequenceState state = engine->model().NewState(512);
  return testing::Run(*engine, state, ids).logits;
}

TEST_CASE("INT8 rows: the logits of code times scale, the same for any budget") {
  const fs::path golden = testing::GoldenDirectory();
  const Models models(golden / "kq");
  const std::vector<int32_t> ids =
      testing::ReadGolden(golden / "kq" / "golden.safetensors", "prompt_ids").i32;
  const std::vector<float> expected = Logits(models.f32, Precision::kExact, ids);
  const std::vector<float> exact = Logits(models.int8, Precision::kExact, ids);
  CHECK(test::RelativeError(exact, expected) < 1e-4);
  const std::vector<float> fast = Logits(models.int8, Precision::kFast, ids);
  CHECK(test::RelativeError(fast, expected) < 1e-2);
  const std::vector<float> paged = Logits(models.int8, Precision::kFast, ids, 5);
  CHECK(paged == fast);
}

}  // namespace
}  // namespace stoker
