#include "numa/bytes.h"

#include <limits>

#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST_CASE("division and alignment round as named") {
  CHECK(DivCeil(0, 4) == 0);
  CHECK(DivCeil(1, 4) == 1);
  CHECK(DivCeil(8, 4) == 2);
  CHECK(DivCeil(kMax, uint64_t{2}) == kMax / 2 + 1);
  CHECK(AlignUp(uint64_t{5}, uint64_t{4}) == 8);
  CHECK(AlignUp(uint64_t{8}, uint64_t{4}) == 8);
  CHECK(AlignDown(uint64_t{7}, uint64_t{4}) == 4);
}

TEST_CASE("checked arithmetic refuses what does not fit") {
  CHECK(CheckedAdd(kMax, 0) == kMax);
  CHECK_FALSE(CheckedAdd(kMax, 1));
  CHECK(CheckedMul(kMax, 1) == kMax);
  CHECK_FALSE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 32));
  CHECK(CheckedAlignUp(13, 32) == 32);
  CHECK_FALSE(CheckedAlignUp(kMax, 32));
}

TEST_CASE("little-endian access at any address") {
  unsigned char bytes[9] = {};
  StoreLe<uint32_t>(bytes + 1, 0x11223344);
  CHECK(bytes[1] == 0x44);
  CHECK(bytes[4] == 0x11);
  CHECK(LoadLe<uint32_t>(bytes + 1) == 0x11223344);
}

TEST_CASE("sizes for people have three digits") {
  CHECK(FormatBytes(0) == "0 B");
  CHECK(FormatBytes(12) == "12 B");
  CHECK(FormatBytes(1023) == "1023 B");
  CHECK(FormatBytes(1024) == "1.00 KiB");
  CHECK(FormatBytes(640 * kMiB) == "640 MiB");
  CHECK(FormatBytes(18 * kGiB + kGiB / 5) == "18.2 GiB");
  CHECK(FormatBytes(kMiB - 1) == "1.00 MiB");
  CHECK(FormatBytes(1020 * kKiB) == "1020 KiB");
  CHECK(FormatBytes(10 * kKiB - 1) == "10.0 KiB");
  CHECK(FormatBytes(kMax) == "16.0 EiB");
}

TEST_CASE("sizes from people") {
  CHECK(ParseBytes("4096") == 4096);
  CHECK(ParseBytes("0") == 0);
  CHECK(ParseBytes("7B") == 7);
  CHECK(ParseBytes("24G") == 24 * kGiB);
  CHECK(ParseBytes("24GiB") == 24 * kGiB);
  CHECK(ParseBytes("24GB") == 24 * kGiB);
  CHECK(ParseBytes("24 gib") == 24 * kGiB);
  CHECK(ParseBytes("1.5g") == 3 * kGiB / 2);
  CHECK(ParseBytes("512M") == 512 * kMiB);
  CHECK(ParseBytes("3k") == 3 * kKiB);
  CHECK(ParseBytes("2TiB") == 2048 * kGiB);
  CHECK(ParseBytes("9223372036854775808") == uint64_t{1} << 63);
  CHECK(ParseBytes(FormatBytes(3 * kGiB)) == 3 * kGiB);

  for (const char* bad : {"",
                          " ",
                          "G",
                          "-1",
                          "+1",
                          "1.5",
                          "1.G",
                          ".5G",
                          "1e9",
                          "24X",
                          "24Gi B",
                          "24GG",
                          "24 ",
                          " 24",
                          "24Bi",
                          "1,5G",
                          "9223372036854775809",
                          "18446744073709551616",
                          "8388609T",
                          "99999999999999999999T",
                          "0x10"}) {
    CAPTURE(bad);
    CHECK_FALSE(ParseBytes(bad));
  }
}

}  // namespace
}  // namespace stoker
