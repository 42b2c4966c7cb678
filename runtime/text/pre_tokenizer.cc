#include "runtime/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <new>
#include <stdexcept>

#include "mmap/format_error.h"
#include "numa/check.h"
#include "runtime/text/o200k_scanner.h"
#include "runtime/text/pattern_dialect.h"

namespace stoker {

const char kGpt2SplitPattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// Pieces of one batch: 64 KiB of ranges.
constexpr size_t kBatchPieces = 4096;

// Steps of one match. JIT code counts repeats of groups, the interpreter also backtracking over
// characters: three per character of a 1 MiB run stay below. Patterns that explode reach it in
// well under a second.
constexpr uint32_t kMatchLimit = 8u << 20;
// Steps of one match while a pattern is tried on load.
constexpr uint32_t kProbeMatchLimit = 1u << 16;
constexpr uint32_t kHeapLimitKib = 64 << 10;
// JIT code keeps its stack here, not on the thread's.
constexpr size_t kJitStackBytes = 1 << 20;
// Compiled patterns larger than this come from repeats such as (x{1000}){1000}.
constexpr size_t kMaxPatternLength = 16 << 10;

std::string Pcre2Message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};

}  // namespace

struct PreTokenizer::Scratch::Pcre {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  Pcre() {
    // The stack is absent where PCRE2 was built without JIT; matching then uses the heap.
    if (match == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Pcre() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    if (stack != nullptr) pcre2_jit_stack_free(stack);
  }
};

PreTokenizer::Scratch::Scratch() : pcre_(std::make_unique<Pcre>()) {}
PreTokenizer::Scratch::~Scratch() = default;

struct PreTokenizer::Stage {
  std::unique_ptr<pcre2_code, CodeDeleter> code;  // null: the scanner
  std::unique_ptr<const O200kScanner> scanner;
  bool drop_gaps = false;
};

PreTokenizer::~PreTokenizer() = default;

PreTokenizer::PreTokenizer(const VocabularySource& source, bool scanner) : file_(source.file) {
  for (size_t i = 0; i < source.stages.size(); ++i) {
    const SplitStage& description = source.stages[i];
    auto stage = std::make_unique<Stage>();
    stage->drop_gaps = description.drop_gaps;
    if (scanner && O200kScanner::Matches(description.pattern)) {
      stage->scanner = std::make_unique<O200kScanner>();
      stages_.push_back(std::move(stage));
      continue;
    }
    const auto fail = [&](const std::string& reason) {
      throw FormatError(file_, source.split_field,
                        "pattern '" + Printable(description.pattern) + "': " + reason);
    };
    std::string pattern;
    try {
      pattern = TranslatePattern(description.pattern);
    } catch (const std::invalid_argument& error) {
      fail(error.what());
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    // Multiline because ^ and $ match at line ends in the dialect the patterns are written in.
    const uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
    stage->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                    options, &error, &offset, nullptr));
    if (!stage->code) fail(Pcre2Message(error));
    uint32_t matches_empty = 0;
    size_t size = 0;
    pcre2_pattern_info(stage->code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
    pcre2_pattern_info(stage->code.get(), PCRE2_INFO_SIZE, &size);
    if (matches_empty != 0) fail("can match nothing");
    if (size > kMaxPatternLength) fail("is too large");
    // Failure means no JIT on this processor; the interpreter then does the same, slower.
    pcre2_jit_compile(stage->code.get(), PCRE2_JIT_COMPLETE);

    Scratch scratch;
    pcre2_set_match_limit(scratch.pcre_->context, kProbeMatchLimit);
    std::vector<TextRange> pieces;
    for (const std::string_view unit : {"a", "A", "1", " ", "\n", "/", "'", "\xe4\xb8\xad"}) {
      std::string probe;
      for (int n = 0; n < 512; ++n) probe += unit;
      // The odd one out at the end is what makes nested repeats try every way to fail.
      probe += "\x01";
      try {
        Run(*stage, probe, 0, 0, SIZE_MAX, scratch, &pieces);
      } catch (const std::runtime_error&) {
        fail("needs more than " + std::to_string(kProbeMatchLimit) + " steps on 512 times '" +
             Printable(unit) + "'");
      }
      pieces.clear();
    }
    stages_.push_back(std::move(stage));
  }
}

std::string_view PreTokenizer::engine() const {
  return stages_.size() == 1 && stages_[0]->scanner ? "o200k scanner" : "PCRE2";
}

size_t PreTokenizer::Split(std::string_view text, size_t from, Scratch& scratch,
                           std::vector<TextRange>* pieces) const {
  pieces->clear();
  if (stages_.empty()) {
    pieces->push_back({from, text.size()});
    return text.size();
  }
  const size_t end = Run(*stages_[0], text, from, 0, kBatchPieces, scratch, pieces);
  for (size_t i = 1; i < stages_.size(); ++i) {
    scratch.pieces_.swap(*pieces);
    pieces->clear();
    for (const TextRange& piece : scratch.pieces_) {
      // Each piece is matched alone: a lookahead does not see the next one.
      Run(*stages_[i], text.substr(piece.begin, piece.end - piece.begin), 0, piece.begin,
          SIZE_MAX, scratch, pieces);
    }
  }
  return end;
}

size_t PreTokenizer::Run(const Stage& stage, std::string_view text, size_t from, size_t base,
                         size_t max_pieces, Scratch& scratch,
                         std::vector<TextRange>* pieces) const {
  if (stage.scanner) return stage.scanner->Split(text, from, base, max_pieces, pieces);
  const Scratch::Pcre& pcre = *scratch.pcre_;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(pcre.match);
  const size_t n_before = pieces->size();
  size_t gap = from;  // text before this is in a piece or dropped
  while (from < text.size()) {
    if (gap == from && pieces->size() - n_before >= max_pieces) return from;
    // The caller vouches for UTF-8: a check per match would make splitting quadratic.
    const int result = pcre2_match(stage.code.get(), subject, text.size(), from,
                                   PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, pcre.match, pcre.context);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      throw std::runtime_error(file_ + ": the pre-tokenizer's pattern fails on this text (" +
                               Pcre2Message(result) + " at byte " + std::to_string(base + from) +
                               ")");
    }
    const size_t begin = ovector[0];
    const size_t end = ovector[1];
    STOKER_CHECK(begin >= from && end > begin);
    if (begin > gap && !stage.drop_gaps) pieces->push_back({base + gap, base + begin});
    pieces->push_back({base + begin, base + end});
    gap = from = end;
  }
  if (gap < text.size() && !stage.drop_gaps) pieces->push_back({base + gap, base + text.size()});
  return text.size();
}

}  // namespace stoker
