// Generated damage to a valid GGUF file, parsed from memory: integer boundaries at every position,
// every truncation, every flipped bit of the header. Each gives an error that names the file, or a
// model that is consistent with itself.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "mmap/gguf_reader.h"
#include "mmap/store_contents.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"

namespace stoker::test {

// Boundaries of each integer field: either refused, or opened because the value is the valid one.
TEST_CASE("integer boundaries in every field of a GGUF header") {
  const std::vector<uint64_t> boundaries = {0,
                                            1,
                                            (uint64_t{1} << 31) - 1,
                                            uint64_t{1} << 31,
                                            (uint64_t{1} << 32) - 1,
                                            uint64_t{1} << 32,
                                            (uint64_t{1} << 53) + 1,
                                            (uint64_t{1} << 63) - 1,
                                            uint64_t{1} << 63,
                                            UINT64_MAX - 31,
                                            UINT64_MAX};
  const std::string valid = TinyGguf().Build();
  RawGguf::Sections at;
  TinyGguf().Header(&at);
  int opened = 0;
  bool named = true;
  // Every position stands for every field that starts there, whichever its width.
  for (uint64_t offset = 4; offset + 8 <= at.table_end; ++offset) {
    for (const uint64_t value : boundaries) {
      for (const size_t width : {4, 8}) {
        if (width == 4 && value > UINT32_MAX) continue;
        std::string bytes = valid;
        bytes.replace(offset, width, Le(value).substr(0, width));
        if (bytes == valid) continue;
        try {
          ParseGguf(std::as_bytes(std::span(bytes)), "boundary");
          ++opened;
        } catch (const std::runtime_error& error) {
          named = named && std::string_view(error.what()).starts_with("boundary: ");
        }
      }
    }
  }
  // Changed values of hyperparameters and letters in names are well-formed GGUF.
  CHECK(opened > 0);
  CHECK(named);
}

TEST_CASE("a GGUF file cut at any byte of its header, or of its data, is refused") {
  const std::string valid = TinyGguf().Build();
  for (size_t size = 0; size < valid.size(); ++size) {
    bool refused = false;
    try {
      ParseGguf(std::as_bytes(std::span(valid.data(), size)), "cut");
    } catch (const std::runtime_error&) {
      refused = true;
    }
    if (!refused) FAIL("accepted when cut to " << size << " bytes");
  }
}

TEST_CASE("flipping any bit of a header gives an error or a consistent model") {
  std::string bytes = TinyGguf().Build();
  RawGguf::Sections at;
  TinyGguf().Header(&at);
  int opened = 0;
  for (uint64_t bit = 0; bit < at.table_end * 8; ++bit) {
    const auto flip = static_cast<char>(1 << (bit % 8));
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ flip);
    try {
      StoreContents contents;
      contents.files.push_back({"flip", bytes.size()});
      std::vector<GgufFile> parts;
      parts.push_back(ParseGguf(std::as_bytes(std::span(bytes)), "flip"));
      BindGguf(parts, contents);
      ++opened;
      for (const StoredTensor& tensor : contents.tensors) {
        if (tensor.extent.offset + tensor.extent.bytes > bytes.size()) FAIL("extent past the end");
      }
      if (contents.experts.size() != 2 * 2 * 3) FAIL("wrong number of experts");
    } catch (const std::runtime_error& error) {
      if (!std::string_view(error.what()).starts_with("flip: ")) FAIL(error.what());
    }
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ flip);
  }
  // Bits of the model's name, of the context length and of factors.
  CHECK(opened > 0);
}

}  // namespace stoker::test
