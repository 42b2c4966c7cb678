#pragma once

// Cuts a text into the pieces that are merged separately. The patterns come from the model file and
// run in PCRE2 (JIT) within step limits; the one pattern family M1 uses also has a hand-written
// scanner (o200k_scanner.h), chosen when the file's pattern is exactly it. Immutable after
// construction and thread-safe; the caller brings the scratch.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary_source.h"

namespace stoker {

class PreTokenizer {
 public:
  // One thread's matching state.
  class Scratch {
   public:
    Scratch();
    ~Scratch();

   private:
    friend class PreTokenizer;
    struct Pcre;
    std::unique_ptr<Pcre> pcre_;
    std::vector<TextRange> pieces_;  // of the previous stage
  };

  // Compiles the stages and tries them on runs of one character. Throws FormatError for patterns
  // that do not compile, can match nothing, use constructs that regex libraries understand
  // differently, or whose steps grow faster than a run. scanner: false forces PCRE2, for
  // comparison.
  explicit PreTokenizer(const VocabularySource& source, bool scanner = true);
  ~PreTokenizer();

  // Replaces `pieces` by the next few thousand pieces of well-formed UTF-8, in order, and returns
  // where they end. Call with from = 0, then with what it returned, until that is text.size().
  // Bounded batches keep the list in the cache however long the text is. Throws std::runtime_error
  // when a pattern passes its step limit.
  size_t Split(std::string_view text, size_t from, Scratch& scratch,
               std::vector<TextRange>* pieces) const;

  // "o200k scanner" or "PCRE2", for banners and tests.
  std::string_view engine() const;

 private:
  struct Stage;
  // Appends the pieces that one stage makes of text, offset by `base`, from `from` until there are
  // about `max_pieces`; returns where they end.
  size_t Run(const Stage& stage, std::string_view text, size_t from, size_t base,
             size_t max_pieces, Scratch& scratch, std::vector<TextRange>* pieces) const;
  // Throws std::invalid_argument naming the run on which a pattern takes too many steps. What it
  // takes is subtracted from *steps_left.
  void TryOnRuns(std::string_view pattern, uint64_t* steps_left) const;

  std::string file_;
  std::vector<std::unique_ptr<Stage>> stages_;
};

}  // namespace stoker
