// Dequantisation against fixtures of an independent implementation (data/), bit for bit, and the
// half-precision conversions against their definition.

#include "runtime/kernels/dequantize.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "mmap/half.h"
#include "runtime/kernels/scalar/unpack.h"
#include "tests/runtime/kernels/random_weights.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

struct Fixture {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

Fixture ReadFixture(DType type) {
  std::string name(Info(type).name);
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  const char* root = std::getenv("STOKER_SOURCE_DIR");
  REQUIRE(root != nullptr);
  std::ifstream file(std::string(root) + "/tests/runtime/kernels/data/" + name + ".bin",
                     std::ios::binary);
  INFO(name);
  REQUIRE(file.good());
  uint32_t header[2];
  file.read(reinterpret_cast<char*>(header), sizeof(header));
  Fixture fixture{std::vector<std::byte>(header[1]), std::vector<float>(header[0])};
  file.read(reinterpret_cast<char*>(fixture.blocks.data()), header[1]);
  file.read(reinterpret_cast<char*>(fixture.values.data()), 4 * header[0]);
  REQUIRE(file.good());
  return fixture;
}

TEST_CASE("dequantisation agrees with the fixtures bit for bit") {
  for (const DType type : test::kQuantizedTypes) {
    if (type == DType::kInt8Row) continue;  // its codes are its values
    const Fixture fixture = ReadFixture(type);
    std::vector<float> out(fixture.values.size());
    DequantizeRow(type, fixture.blocks.data(), out.data(), static_cast<int64_t>(out.size()));
    CAPTURE(Info(type).name);
    size_t different = 0;
    for (size_t i = 0; i < out.size(); ++i) different += out[i] != fixture.values[i];
    CHECK(different == 0);
  }
}

TEST_CASE("codes, scales and additive terms give the dequantised values") {
  std::mt19937 rng(7);
  for (const DType type : test::kQuantizedTypes) {
    const std::vector<std::byte> blocks = test::RandomWeights(type, 1, 256, rng);
    std::vector<float> expected(256);
    DequantizeRow(type, blocks.data(), expected.data(), 256);
    scalar::UnpackedGroup group;
    scalar::UnpackGroup(type, blocks.data(), 256, &group);
    CAPTURE(Info(type).name);
    for (int i = 0; i < 256; ++i) {
      const float value = group.scale[i / 16] * group.codes[i] + group.add[i / 16];
      const float size = std::fabs(group.scale[i / 16] * group.codes[i]) +
                         std::fabs(group.add[i / 16]);
      if (!(std::fabs(value - expected[i]) <= 2e-7f * size)) {
        CAPTURE(i);
        CHECK(value == expected[i]);
      }
    }
  }
}

TEST_CASE("half precision round-trips every bit pattern") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float wide = F16ToF32(half);
    if (std::isnan(wide)) {
      CHECK(std::isnan(F16ToF32(F32ToF16(wide))));
    } else if (F32ToF16(wide) != half) {
      CAPTURE(bits);
      CHECK(F32ToF16(wide) == half);
    }
    const float brain = BF16ToF32(half);
    if (!std::isnan(brain) && F32ToBF16(brain) != half) {
      CAPTURE(bits);
      CHECK(F32ToBF16(brain) == half);
    }
  }
}

TEST_CASE("half precision rounds to nearest even") {
  CHECK(F16ToF32(0x3c00) == 1.0f);
  CHECK(F16ToF32(0x0001) == std::ldexp(1.0f, -24));
  CHECK(F16ToF32(0xfbff) == -65504.0f);
  CHECK(F32ToF16(1.0f + std::ldexp(1.0f, -11)) == 0x3c00);         // tie, to even below
  CHECK(F32ToF16(1.0f + 3.0f * std::ldexp(1.0f, -11)) == 0x3c02);  // tie, to even above
  CHECK(F32ToF16(65519.0f) == 0x7bff);
  CHECK(F32ToF16(65520.0f) == 0x7c00);
  CHECK(F32ToF16(std::ldexp(1.0f, -25)) == 0x0000);
  CHECK(F32ToF16(1.5f * std::ldexp(1.0f, -25)) == 0x0001);
  CHECK(F32ToBF16(1.0f + std::ldexp(1.0f, -8)) == 0x3f80);
  CHECK(F32ToBF16(1.0f + 3.0f * std::ldexp(1.0f, -8)) == 0x3f82);
  CHECK(std::isnan(BF16ToF32(F32ToBF16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace stoker
