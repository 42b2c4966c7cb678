// Files that are large and hostile: memory stays within 64 MiB and eight times their size, where a
// reader that trusts counts or builds trees would take far more.

#include <string>

#include "tests/mmap/malformed_cases.h"
#include "tests/support/catch.h"

namespace stoker::test {

TEST_CASE("large hostile files stay within the memory bound") {
  TempDir directory;
  const auto check = [&](const std::filesystem::path& path) {
    const ChildResult result = OpenInChild(path);
    CAPTURE(result.answer, result.peak_rise_bytes);
    CHECK(result.finished);
    CHECK(result.answer != "");
#if !defined(__SANITIZE_THREAD__)  // whose shadow takes several times the memory
    CHECK(result.peak_rise_bytes <= AllowedPeakBytes(directory.path()));
#endif
  };
  SECTION("GGUF of 65,536 one-byte entries") {
    RawGguf file;
    for (int i = 0; i < 65536; ++i) file.entries.push_back({std::to_string(i), 0, "v", {}});
    WriteFile(directory / "m.gguf", file.Build());
    check(directory / "m.gguf");
  }
  SECTION("GGUF of 200,000 tiny tensors") {
    RawGguf file = TinyGguf();
    for (int i = 0; i < 200'000; ++i) file.AddF32("t" + std::to_string(i), {1});
    WriteFile(directory / "m.gguf", file.Build());
    check(directory / "m.gguf");
  }
  SECTION("GGUF of 2,000,000 empty strings") {
    RawGguf file = TinyGguf();
    file.SetArray("tokenizer.ggml.tokens", 8, 2'000'000, std::string(16'000'000, '\0'));
    WriteFile(directory / "m.gguf", file.Build());
    check(directory / "m.gguf");
  }
  SECTION("safetensors header of 100,000 empty tensors") {
    RawCheckpoint checkpoint = TinyCheckpoint();
    RawShard& shard = checkpoint.shards[0].second;
    for (int i = 0; i < 100'000; ++i) {
      shard.tensors.push_back({"t" + std::to_string(i), {0}, "U8", 0, {}});
    }
    checkpoint.Write(directory.path());
    check(directory.path());
  }
  SECTION("index of 500,000 tensors") {
    RawCheckpoint checkpoint = TinyCheckpoint();
    std::string text = "{\"weight_map\":{\"a\":\"b.safetensors\"";
    for (int i = 0; i < 500'000; ++i) {
      text += ",\"" + std::to_string(i) + "\":\"b.safetensors\"";
    }
    checkpoint.index_text = text + "}}";
    checkpoint.Write(directory.path());
    check(directory.path());
  }
  SECTION("config of empty members") {
    RawCheckpoint checkpoint = TinyCheckpoint();
    std::string text = "{\"\":1";
    while (text.size() < (1 << 20) - 20) text += ",\"" + std::to_string(text.size()) + "\":1";
    checkpoint.config_text = text + "}";
    checkpoint.Write(directory.path());
    check(directory.path());
  }
}

}  // namespace stoker::test
