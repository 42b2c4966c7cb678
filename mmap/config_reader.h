#pragma once

// Reads a ModelConfig from either spelling a model file may have, and checks it once. Every error
// is a FormatError naming the file, the key as the file spells it, and the value. Pure;
// thread-safe.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "mmap/gguf_reader.h"
#include "mmap/model_config.h"

namespace stoker {

// Upper limits of a config. The released models stay more than three times below each; they keep
// products of two or three of them far inside 64 bits and tables of them small.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHidden = int64_t{1} << 20;
inline constexpr int64_t kMaxVocab = int64_t{1} << 24;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxExperts = 1024;
inline constexpr int64_t kMaxPosition = int64_t{1} << 40;

// GGUF metadata of arch minimax-01 (llama.cpp). `embedding_rows` is token_embd.weight's number of
// rows, used as the vocabulary size when neither vocab_size nor a token list is present.
ModelConfig ConfigFromGguf(const GgufMetadata& metadata, std::optional<int64_t> embedding_rows);

// A config.json: model_type minimax_m1 or minimax_text_01 with the vendor's keys, or minimax with
// those of the -hf checkpoints; either set of keys is accepted under either model_type.
ModelConfig ConfigFromJson(std::string_view text, const std::string& file);

// Relations between fields that hold for every spelling. `where` names the file.
void ValidateConfig(const ModelConfig& config, const std::string& where);

}  // namespace stoker
