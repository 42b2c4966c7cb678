#include "runtime/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <new>
#include <stdexcept>

#include "mmap/format_error.h"
#include "numa/check.h"
#include "runtime/text/o200k_scanner.h"
#include "runtime/text/pattern_dialect.h"
#include "runtime/text/utf8.h"

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
constexpr uint32_t kHeapLimitKib = 64 << 10;
// JIT code keeps its stack here, not on the thread's.
constexpr size_t kJitStackBytes = 1 << 20;
// Compiled patterns larger than this come from repeats such as (x{1000}){1000}.
constexpr size_t kMaxPatternLength = 16 << 10;

// A pattern is tried on a run of so many characters, then on one so many times as long. Steps in
// proportion grow alike, quadratic ones by the square; twice the proportion tells them apart,
// whatever a pattern costs for each character.
constexpr size_t kShortRun = 64;
constexpr size_t kRunGrowth = 16;
// Steps on the short run: 4096 for each character, which is more than a pattern has elements.
constexpr uint64_t kMaxShortRunSteps = 1u << 18;
// Steps on all runs of all patterns of a file; real ones take up to 100,000 each.
constexpr uint64_t kMaxTrialSteps = 1u << 24;

std::string Pcre2Message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
using Code = std::unique_ptr<pcre2_code, CodeDeleter>;

// Throws std::invalid_argument with PCRE2's reason.
Code Compile(std::string_view pattern, uint32_t more_options) {
  // Multiline because ^ and $ match at line ends in the dialect the patterns are written in.
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                           PCRE2_NO_AUTO_CAPTURE | more_options;
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options,
                          &error, &offset, nullptr));
  if (!code) throw std::invalid_argument(Pcre2Message(error));
  return code;
}

struct StepCounter {
  uint64_t steps = 0;
  uint64_t limit = 0;
};

// The callout of counted patterns: ends the match at the first step beyond the limit.
int CountStep(pcre2_callout_block* /*where*/, void* data) {
  StepCounter& counter = *static_cast<StepCounter*>(data);
  return ++counter.steps > counter.limit ? PCRE2_ERROR_CALLOUT : 0;
}

// One character of each kind, and every one that the pattern, which is UTF-8, is written with.
std::vector<std::string> TrialCharacters(std::string_view pattern) {
  std::vector<std::string> characters = {"a", "A", "1", " ", "\n", "/", "'", "\xe4\xb8\xad"};
  while (!pattern.empty()) {
    const std::string character(pattern.substr(0, NextUtf8(pattern).bytes));
    if (std::find(characters.begin(), characters.end(), character) == characters.end()) {
      characters.push_back(character);
    }
    pattern.remove_prefix(character.size());
  }
  return characters;
}

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
  Code code;  // null: the scanner
  std::unique_ptr<const O200kScanner> scanner;
  bool drop_gaps = false;
};

PreTokenizer::~PreTokenizer() = default;

PreTokenizer::PreTokenizer(const VocabularySource& source, bool scanner) : file_(source.file) {
  uint64_t steps_left = kMaxTrialSteps;
  for (const SplitStage& description : source.stages) {
    auto stage = std::make_unique<Stage>();
    stage->drop_gaps = description.drop_gaps;
    if (scanner && O200kScanner::Matches(description.pattern)) {
      stage->scanner = std::make_unique<O200kScanner>();
      stages_.push_back(std::move(stage));
      continue;
    }
    try {
      stage->code = Compile(TranslatePattern(description.pattern), 0);
      uint32_t matches_empty = 0;
      size_t size = 0;
      pcre2_pattern_info(stage->code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
      pcre2_pattern_info(stage->code.get(), PCRE2_INFO_SIZE, &size);
      if (matches_empty != 0) throw std::invalid_argument("can match nothing");
      if (size > kMaxPatternLength) throw std::invalid_argument("is too large");
      TryOnRuns(description.pattern, &steps_left);
    } catch (const std::invalid_argument& error) {
      throw FormatError(file_, source.split_field,
                        "pattern '" + Printable(description.pattern) + "': " + error.what());
    }
    // Failure means no JIT on this processor; the interpreter then does the same, slower.
    pcre2_jit_compile(stage->code.get(), PCRE2_JIT_COMPLETE);
    stages_.push_back(std::move(stage));
  }
}

void PreTokenizer::TryOnRuns(std::string_view pattern, uint64_t* steps_left) const {
  // Interpreted, and without the look ahead for characters that a match needs: the number of steps
  // is then the same everywhere and for every text of this kind.
  Stage counted;
  counted.code = Compile(TranslatePattern(pattern, true), PCRE2_NO_START_OPTIMIZE);
  Scratch scratch;
  StepCounter counter;
  pcre2_set_callout(scratch.pcre_->context, CountStep, &counter);
  std::vector<TextRange> pieces;
  for (const std::string& character : TrialCharacters(pattern)) {
    uint64_t limit = kMaxShortRunSteps;
    for (const size_t length : {kShortRun, kShortRun * kRunGrowth}) {
      std::string run;
      for (size_t n = 0; n < length; ++n) run += character;
      // The odd one out at the end is what makes nested repeats try every way to fail.
      run += '\x01';
      counter.steps = 0;
      counter.limit = std::min(limit, *steps_left);
      pieces.clear();
      try {
        Run(counted, run, 0, 0, SIZE_MAX, scratch, &pieces);
      } catch (const std::runtime_error&) {
        throw std::invalid_argument("needs more than " + std::to_string(counter.limit) +
                                    " steps on " + std::to_string(length) + " times '" +
                                    Printable(character) + "'");
      }
      *steps_left -= counter.steps;
      limit = 2 * kRunGrowth * std::max<uint64_t>(counter.steps, kShortRun);
    }
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
