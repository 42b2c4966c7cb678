#pragma once

// The tokenizer of a synthetic model: byte-level BPE with MiniMax-M1's layout of ids, learned from
// the sample text and filled up with systematic merges to any size. M1's special tokens lie at M1's
// ids relative to the end. Pure and deterministic; it writes nothing.

#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

// In the form of GGUF's tokenizer.ggml.* keys.
struct SynthVocabulary {
  std::vector<std::string> tokens;  // [vocab_size], bytes spelled in GPT-2's printable alphabet
  std::vector<int32_t> types;       // 1 normal, 3 control, 4 user-defined, 5 unused
  std::vector<std::string> merges;  // "left right", in order of rank
  uint32_t bos_id = 0;
  uint32_t eos_id = 0;
  uint32_t unknown_id = 0;
  std::string chat_template;  // Jinja, MiniMax-M1's turns
};

// vocab_size in [512, 200064]. The last 64 ids are special or unused: with M1's 200064 rows
// <beginning_of_sentence> is 200019, <end_of_sentence> 200020 and <begin_of_document> 200034.
SynthVocabulary MakeSynthVocabulary(int64_t vocab_size);

}  // namespace stoker
