// The writers: what they write reads back, appears only when complete, and a disk that cannot take
// it is named.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "mmap/atomic_file.h"
#include "mmap/gguf_writer.h"
#include "mmap/safetensors_reader.h"
#include "mmap/safetensors_writer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

namespace fs = std::filesystem;

}  // namespace

TEST_CASE("the GGUF writer's file reads back, for every type of metadata") {
  TempDir directory;
  const fs::path path = directory / "w.gguf";
  const std::vector<std::string> strings = {"a", "", "long text"};
  const std::vector<float> floats = {1.0f, -2.5f};
  const std::vector<int32_t> ints = {1, 2, 3};
  std::vector<std::byte> data(2 * 144 + 12);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  {
    GgufWriter writer(path);
    writer.AddString("general.architecture", "test");
    writer.Add<uint8_t>("u8", 255);
    writer.Add<int8_t>("i8", -1);
    writer.Add<uint16_t>("u16", 65535);
    writer.Add<int16_t>("i16", -2);
    writer.Add<uint32_t>("u32", 7);
    writer.Add<int32_t>("i32", -3);
    writer.Add("f32", 0.5f);
    writer.Add("bool", true);
    writer.Add<uint64_t>("u64", 1ull << 40);
    writer.Add<int64_t>("i64", -4);
    writer.Add("f64", 0.25);
    writer.AddStrings("strings", strings);
    writer.AddArray("floats", std::span<const float>(floats));
    writer.AddArray("ints", std::span<const int32_t>(ints));
    writer.AddTensor("q", DType::kQ4_K, std::vector<int64_t>{2, 256});
    writer.AddTensor("v", DType::kF32, std::vector<int64_t>{3});
    // In pieces that cross the boundary between the tensors.
    for (size_t at = 0; at < data.size(); at += 100) {
      writer.WriteData(std::span(data).subspan(at, std::min<size_t>(100, data.size() - at)));
      CHECK_FALSE(fs::exists(path));
    }
    writer.Finish();
    CHECK(fs::file_size(path) == writer.file_bytes());
  }
  CHECK(std::distance(fs::directory_iterator(directory.path()), {}) == 1);
  const std::string bytes = ReadFile(path);
  const GgufFile parsed = ParseGguf(std::as_bytes(std::span(bytes)), "w");
  CHECK(parsed.metadata.Int("u8") == 255);
  CHECK(parsed.metadata.Int("i16") == -2);
  CHECK(parsed.metadata.Int("u64") == 1ll << 40);
  CHECK(parsed.metadata.Float("f64") == 0.25);
  CHECK(parsed.metadata.FindBool("bool") == true);
  CHECK(parsed.metadata.Strings("strings") ==
        std::vector<std::string_view>(strings.begin(), strings.end()));
  CHECK(parsed.metadata.FindFloats("floats") == floats);
  CHECK(parsed.metadata.FindInts("ints") == std::vector<int64_t>{1, 2, 3});
  REQUIRE(parsed.tensors.size() == 2);
  CHECK(parsed.tensors[0].type == DType::kQ4_K);
  CHECK(parsed.tensors[0].ne == std::array<int64_t, 4>{256, 2, 1, 1});
  CHECK(parsed.tensors[0].bytes == 288);
  CHECK(std::memcmp(bytes.data() + parsed.tensors[0].offset, data.data(), 288) == 0);
  CHECK(std::memcmp(bytes.data() + parsed.tensors[1].offset, data.data() + 288, 12) == 0);

  SECTION("a writer that does not finish leaves nothing, and what was there stays") {
    {
      GgufWriter broken(path);
      broken.AddTensor("v", DType::kF32, std::vector<int64_t>{3});
      broken.WriteData(std::span(data).first(4));
    }
    CHECK(ReadFile(path) == bytes);
    CHECK(std::distance(fs::directory_iterator(directory.path()), {}) == 1);
  }
}

TEST_CASE("writers name the path when they cannot write") {
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const std::system_error& error) {
      return error.what();
    }
    return "";
  };
  const std::string absent =
      message([] { GgufWriter writer("/nonexistent-directory/m.gguf"); });
  CHECK(absent.find("/nonexistent-directory/m.gguf: cannot create") == 0);
  if (!fs::exists("/dev/full")) return;
  TempDir directory;
  // The temporary name of this process, as a link to a device that is always full.
  const fs::path path = directory / "m.gguf";
  const std::string full = message([&] {
    AtomicFile out(path);
    const fs::path temporary = fs::directory_iterator(directory.path())->path();
    const int device = ::open("/dev/full", O_WRONLY);
    CHECK(temporary.native().starts_with(path.native()));
    // Replaces the descriptor behind the file's back.
    for (int fd = 3; fd < 64; ++fd) {
      char link[32];
      char target[4096];
      std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
      const ssize_t n = ::readlink(link, target, sizeof(target));
      if (n > 0 && temporary.native() == std::string_view(target, static_cast<size_t>(n))) {
        ::dup2(device, fd);
      }
    }
    ::close(device);
    out.Write("x");
  });
  CHECK(full.find((path.native() + ": cannot write after 0 bytes; free some space").c_str()) == 0);
  CHECK(fs::is_empty(directory.path()));
}

TEST_CASE("the safetensors writer's file reads back") {
  TempDir directory;
  const fs::path path = directory / "out.safetensors";
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
  const std::vector<int32_t> ids = {7, 8};
  const uint8_t byte = 9;
  const TensorToWrite tensors[] = {
      {"flag", DType::kU8, {1}, std::as_bytes(std::span(&byte, 1))},
      {"logits", DType::kF32, {2, 3}, std::as_bytes(std::span(logits))},
      {"ids \"quoted\"\n", DType::kI32, {2}, std::as_bytes(std::span(ids))},
      {"none", DType::kF32, {0, 4}, {}}};
  WriteSafetensors(path, tensors, {{"model", "x\ty"}});
  const std::string bytes = ReadFile(path);
  const auto infos = ParseSafetensors(std::as_bytes(std::span(bytes)), "out");
  REQUIRE(infos.size() == 4);
  for (const SafetensorsInfo& info : infos) {
    if (info.name == "logits") {
      CHECK(info.shape == std::vector<int64_t>{2, 3});
      CHECK(info.offset % 4 == 0);
      CHECK(std::memcmp(bytes.data() + info.offset, logits.data(), 24) == 0);
    }
    if (info.name == "ids \"quoted\"\n") {
      CHECK(info.type == DType::kI32);
      CHECK(std::memcmp(bytes.data() + info.offset, ids.data(), 8) == 0);
    }
  }
}

}  // namespace stoker::test
