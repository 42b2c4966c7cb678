#pragma once

// What the tokenizer's tests share: the stored files under data/, and the reference tokenizer that
// make_reference.py put there, opened as it is or with parts changed.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>

#include "runtime/text/json_text.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker::testing {

inline std::string ReadText(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot open " + path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline std::filesystem::path DataPath(const std::string& name) {
  const char* root = std::getenv("STOKER_SOURCE_DIR");
  return std::filesystem::path(root == nullptr ? "." : root) / "tests/runtime/text/data" / name;
}

inline nlohmann::ordered_json ReadJson(const std::filesystem::path& path) {
  return nlohmann::ordered_json::parse(ReadText(path));
}

// The reference tokenizer.json as a value to change.
inline nlohmann::ordered_json ReferenceJson() { return ReadJson(DataPath("tokenizer.json")); }

inline std::unique_ptr<const Tokenizer> Open(const nlohmann::ordered_json& description,
                                             int64_t vocab_size = 0) {
  return Tokenizer::FromSource(ParseTokenizerJson(description.dump(), "tokenizer.json"),
                               vocab_size);
}

}  // namespace stoker::testing
