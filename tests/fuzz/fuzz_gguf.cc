// Any bytes as a GGUF file: parse, bind to a model, read every metadata value. What is accepted
// must lie inside the bytes; nothing else may escape than a FormatError naming the file.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "mmap/format_error.h"
#include "mmap/gguf_reader.h"
#include "mmap/store_contents.h"
#include "tests/fuzz/seeds.h"
#include "tests/support/gguf_builder.h"

namespace stoker {
namespace {

void Demand(bool holds) {
  if (!holds) std::abort();
}

// The getter of the entry's type must work on what the parser let through.
void ReadAll(const GgufMetadata& metadata) {
  for (const GgufEntry& entry : metadata.entries()) {
    Demand(metadata.Find(entry.key) == &entry);
    try {
      if (entry.type == GgufType::kString) {
        Demand(metadata.FindString(entry.key).has_value());
      } else if (entry.type != GgufType::kArray) {
        if (entry.type == GgufType::kBool) {
          metadata.FindBool(entry.key);
        } else if (entry.type == GgufType::kFloat32 || entry.type == GgufType::kFloat64) {
          metadata.FindFloat(entry.key);
        } else {
          metadata.FindInt(entry.key);
        }
      } else if (entry.element == GgufType::kString) {
        uint64_t total = 0;
        for (const std::string_view text : metadata.Strings(entry.key)) total += text.size();
        Demand(total + 8 * entry.count == entry.data.size());
      } else if (entry.element == GgufType::kFloat32) {
        Demand(metadata.FindFloats(entry.key)->size() == entry.count);
      } else if (entry.element != GgufType::kFloat64 && entry.element != GgufType::kArray) {
        Demand(metadata.FindInts(entry.key)->size() == entry.count);
      }
    } catch (const FormatError& error) {
      Demand(std::string_view(error.what()).find("2^63-1") != std::string_view::npos);
    }
  }
}

void RunOne(std::span<const std::byte> bytes) {
  StoreContents contents;
  contents.files.push_back({"fuzz", bytes.size()});
  std::vector<GgufFile> parts;
  try {
    parts.push_back(ParseGguf(bytes, "fuzz"));
  } catch (const FormatError& error) {
    Demand(std::string_view(error.what()).starts_with("fuzz: "));
    return;
  }
  uint64_t end = 0;
  for (const GgufTensorInfo& tensor : parts[0].tensors) {
    Demand(tensor.offset >= end && tensor.bytes > 0);
    end = tensor.offset + tensor.bytes;
    Demand(end > tensor.offset && end <= bytes.size());
  }
  ReadAll(parts[0].metadata);
  try {
    BindGguf(parts, contents);
  } catch (const FormatError& error) {
    const std::string_view message = error.what();
    Demand(message.starts_with("fuzz: ") && message.find('\n') == std::string_view::npos);
    return;
  }
  for (const ExpertPartExtent& part : contents.experts) {
    Demand(part.extent.offset + part.extent.bytes <= bytes.size());
    Demand(TypedBytes(part.type, static_cast<uint64_t>(part.rows * part.cols)) ==
           part.extent.bytes);
  }
}

std::vector<std::string> Seeds() {
  using test::Le;
  using test::LeString;
  test::RawGguf rich = test::TinyGguf();
  rich.SetArray("tokenizer.ggml.tokens", 8, 4,
                LeString("a") + LeString("b") + LeString("") + LeString("dd"));
  rich.SetArray("tokenizer.ggml.scores", 6, 2, Le(1.0f) + Le(2.0f));
  rich.SetArray("nested", 9, 1, Le<uint32_t>(5) + Le<uint64_t>(1) + Le<int32_t>(7));
  rich.SetU32("general.alignment", 32);
  rich.Set("flag", 7, "\x01");
  rich.Set("split.count", 2, Le<uint16_t>(1));
  test::RawGguf empty;
  return {test::TinyGguf().Build(), rich.Build(), empty.Build(), "GGUF"};
}

}  // namespace
}  // namespace stoker

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  stoker::test::WriteSeeds(*argc, *argv, stoker::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  stoker::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
