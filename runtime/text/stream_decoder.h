#pragma once

// Turns tokens into text as they are generated: emits complete UTF-8 characters only and holds
// back the first bytes of one that is still to come. What it emits in all equals
// Tokenizer::Decode of all its tokens. One per stream; borrows the tokenizer; thread-compatible.

#include <string>
#include <string_view>

#include "runtime/text/token_id.h"
#include "runtime/text/tokenizer.h"

namespace stoker {

class StreamDecoder {
 public:
  // hide_special: special tokens (<end_of_sentence>) give no text.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool hide_special = true)
      : tokenizer_(&tokenizer), hide_special_(hide_special) {}

  // The text that became certain with this token; valid until the next call. Bytes that cannot
  // begin or continue a character become U+FFFD.
  std::string_view Push(TokenId id);

  // The end of the stream: U+FFFD for an unfinished character, else nothing. Ready for reuse.
  std::string_view Flush();

  // Bytes held back, 0..3.
  size_t pending_bytes() const { return pending_.size(); }

 private:
  const Tokenizer* tokenizer_;
  bool hide_special_;
  std::string pending_;
  std::string text_;
};

}  // namespace stoker
