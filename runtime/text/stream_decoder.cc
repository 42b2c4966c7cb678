#include "runtime/text/stream_decoder.h"

#include "runtime/text/utf8.h"

namespace stoker {

std::string_view StreamDecoder::Push(TokenId id) {
  text_.clear();
  if (hide_special_ && tokenizer_->IsSpecial(id)) return text_;
  pending_ += tokenizer_->Bytes(id);
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Prefix(rest);
    text_ += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Step::kUnfinished) break;
    text_ += kReplacementCharacter;
    rest.remove_prefix(step.bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text_;
}

std::string_view StreamDecoder::Flush() {
  text_.clear();
  if (!pending_.empty()) text_ = kReplacementCharacter;
  pending_.clear();
  return text_;
}

}  // namespace stoker
