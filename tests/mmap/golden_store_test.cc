// The reference models open in both formats, and the two formats of one model agree: names, shapes
// and, where both hold the same numbers, bytes.

#include <cstdlib>
#include <cstring>

#include "mmap/weight_store.h"
#include "tests/support/catch.h"

namespace stoker::test {
namespace {

namespace fs = std::filesystem;

// Exits with the code that ctest shows as skipped when the reference models are absent.
fs::path GoldenDir() {
  const char* value = std::getenv("STOKER_GOLDEN_DIR");
  if (value != nullptr && fs::exists(fs::path(value) / "tiny/config.json")) return value;
  std::printf("skipped: no reference models in STOKER_GOLDEN_DIR\n");
  std::exit(4);
}

float FromBf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

bool SameNumbers(const TensorView& f32, const TensorView& other) {
  const auto* a = reinterpret_cast<const float*>(f32.data);
  const int64_t n = static_cast<int64_t>(f32.bytes / sizeof(float));
  for (int64_t i = 0; i < n; ++i) {
    float b = 0;
    if (other.type == DType::kBF16) {
      uint16_t bits = 0;
      std::memcpy(&bits, other.data + 2 * i, 2);
      b = FromBf16(bits);
    } else {
      std::memcpy(&b, other.data + 4 * i, 4);
    }
    if (a[i] != b) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("reference directories open") {
  const fs::path golden = GoldenDir();
  const auto ab = WeightStore::Open(golden / "tiny_ab");
  CHECK(ab->config().lightning_alpha == 3.1f);
  CHECK(ab->config().softmax_beta == 1.2f);
  CHECK(ab->config().moe_beta == 0.8f);
  CHECK(ab->config().rope_theta == 500000.0);
  CHECK(ab->config().n_softmax_layers() == 2);
  CHECK(ab->files().size() == 5);
  CHECK(ab->Get("blk.0.ffn_gate_inp.weight").type == DType::kF32);
  CHECK(ab->Get("blk.0.attn_qkv.weight").type == DType::kBF16);
  const auto kq = WeightStore::Open(golden / "kq");
  CHECK(kq->config().head_dim == 128);
  CHECK(kq->config().rotary_dim == 64);
  CHECK(kq->tensors().size() == 155);
}

TEST_CASE("quantised checkpoints are refused by name") {
  for (const char* name : {"kq-int4-ct", "kq-int4-gptq"}) {
    std::string message;
    try {
      WeightStore::Open(GoldenDir() / name);
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message.find("quantization_config\": quantised checkpoint") != std::string::npos);
  }
}

TEST_CASE("reference GGUF files open with the shapes of the checkpoint they came from") {
  const fs::path golden = GoldenDir();
  const auto kq = WeightStore::Open(golden / "kq");
  int files = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".gguf") || !name.starts_with("kq-")) continue;
    INFO(name);
    ++files;
    const auto store = WeightStore::Open(entry.path());
    CHECK(store->config().attention == kq->config().attention);
    CHECK(store->config().moe_alpha == kq->config().moe_alpha);
    CHECK(store->config().vocab_size == kq->config().vocab_size);
    CHECK(store->gguf_metadata()->Strings("tokenizer.ggml.tokens").size() == 2048);
    for (const StoredTensor& tensor : kq->tensors()) {
      const StoredTensor* other = store->Find(tensor.name);
      if (other != nullptr) CHECK(other->shape == tensor.shape);
    }
    CHECK(store->Expert({7, 3}, ExpertPart::kDown).rows == 256);
  }
  CHECK(files == 8);
}

TEST_CASE("the same model in both formats holds the same numbers") {
  const fs::path golden = GoldenDir();
  const auto gguf = WeightStore::Open(golden / "tiny-f32.gguf");
  const auto directory = WeightStore::Open(golden / "tiny");
  for (const StoredTensor& tensor : directory->tensors()) {
    const StoredTensor* other = gguf->Find(tensor.name);
    if (other == nullptr) continue;
    INFO(tensor.name);
    CHECK(SameNumbers(gguf->View(*other), directory->View(tensor)));
  }
  for (int layer = 0; layer < 8; ++layer) {
    for (int expert = 0; expert < 8; ++expert) {
      for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
        const TensorView a = gguf->ExpertView({layer, expert}, part);
        const TensorView b = directory->ExpertView({layer, expert}, part);
        CHECK(a.shape == b.shape);
        CHECK(SameNumbers(a, b));
      }
    }
  }
}

}  // namespace stoker::test
