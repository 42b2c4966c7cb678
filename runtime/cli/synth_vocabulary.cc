#include "runtime/cli/synth_vocabulary.h"

#include <map>
#include <unordered_set>
#include <utility>

#include "numa/check.h"
#include "runtime/cli/sample_text.h"
#include "runtime/text/byte_alphabet.h"

namespace stoker {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUnused = 5;
constexpr int64_t kReservedIds = 64;

// Ids from the start of the reserved range, as in the release.
constexpr int64_t kBeginSentence = 19, kEndSentence = 20, kEndDocument = 21, kBeginDocument = 34;

// Jinja for the turns of MiniMax-M1's chat format: enough for engines that render templates from
// the file; Stoker renders its own.
constexpr const char* kChatTemplate =
    "{{ '<begin_of_document>' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ '<beginning_of_sentence>system ai_setting=MiniMax AI\\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<beginning_of_sentence>user name=user\\n' }}"
    "{% else %}"
    "{{ '<beginning_of_sentence>ai name=MiniMax AI\\n' }}"
    "{% endif %}"
    "{{ message['content'] + '<end_of_sentence>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<beginning_of_sentence>ai name=MiniMax AI\\n' }}"
    "{% endif %}";

// The bytes of the first 256 ids, in the order of their spellings' code points: printable ones
// first.
std::vector<std::string> ByteTokens() {
  std::vector<std::string> printable, others;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    (is_printable ? printable : others).push_back(AlphabetSpelling(text));
  }
  printable.insert(printable.end(), others.begin(), others.end());
  return printable;
}

// Merges in order of rank; every merge makes a token whose bytes no other token has.
class MergeList {
 public:
  explicit MergeList(size_t limit) : limit_(limit) {
    for (int byte = 0; byte < 256; ++byte) known_.insert(std::string(1, static_cast<char>(byte)));
  }
  bool full() const { return pairs_.size() >= limit_; }
  void Add(const std::string& left, const std::string& right) {
    if (!full() && known_.insert(left + right).second) pairs_.emplace_back(left, right);
  }
  const std::vector<std::pair<std::string, std::string>>& pairs() const { return pairs_; }

 private:
  size_t limit_;
  std::unordered_set<std::string> known_;
  std::vector<std::pair<std::string, std::string>> pairs_;
};

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The words of a text with their leading space, and how often each occurs. Only letters are
// learned from: digits and punctuation are split by rules of their own.
std::map<std::string, int> CountWords(std::string_view text) {
  std::map<std::string, int> counts;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    if (text[end] == ' ') ++end;
    const size_t letters = end;
    while (end < text.size() && IsLetter(text[end])) ++end;
    if (end > letters) {
      ++counts[std::string(text.substr(at, end - at))];
      at = end;
    } else {
      ++at;
    }
  }
  return counts;
}

// Plain BPE training (Sennrich et al., arXiv:1508.07909): merge the most frequent neighbouring pair
// until nothing is left to merge. A few hundred words, so counting afresh each time is quick.
void LearnMerges(std::string_view text, MergeList* merges) {
  struct Word {
    std::vector<std::string> parts;
    int count;
  };
  std::vector<Word> words;
  for (const auto& [word, count] : CountWords(text)) {
    Word entry{{}, count};
    for (const char c : word) entry.parts.emplace_back(1, c);
    words.push_back(std::move(entry));
  }
  while (!merges->full()) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const Word& word : words) {
      for (size_t i = 0; i + 1 < word.parts.size(); ++i) {
        counts[{word.parts[i], word.parts[i + 1]}] += word.count;
      }
    }
    const std::pair<const std::pair<std::string, std::string>, int>* best = nullptr;
    for (const auto& entry : counts) {
      if (best == nullptr || entry.second > best->second) best = &entry;
    }
    if (best == nullptr) return;
    const auto [left, right] = best->first;
    merges->Add(left, right);
    for (Word& word : words) {
      for (size_t i = 0; i + 1 < word.parts.size(); ++i) {
        if (word.parts[i] != left || word.parts[i + 1] != right) continue;
        word.parts[i] += right;
        word.parts.erase(word.parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
}

// Fills the list: pairs of letters, then all pairs of bytes, then a pair of lower-case letters
// and any byte. More than 200,000 in all.
void AddSystematicMerges(MergeList* merges) {
  const auto text = [](int byte) { return std::string(1, static_cast<char>(byte)); };
  for (int a = 'a'; a <= 'z'; ++a) {
    for (int b = 'a'; b <= 'z'; ++b) merges->Add(text(a), text(b));
  }
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) merges->Add(text(a), text(b));
  }
  for (int a = 'a'; a <= 'z'; ++a) {
    for (int b = 'a'; b <= 'z'; ++b) {
      for (int c = 0; c < 256; ++c) merges->Add(text(a) + text(b), text(c));
    }
  }
  STOKER_CHECK(merges->full());
}

}  // namespace

SynthVocabulary MakeSynthVocabulary(int64_t vocab_size) {
  STOKER_CHECK(vocab_size >= 512 && vocab_size <= 200064);
  const int64_t n_base = vocab_size - kReservedIds;
  MergeList merges(static_cast<size_t>(n_base - 256));
  LearnMerges(SampleText(), &merges);
  AddSystematicMerges(&merges);

  SynthVocabulary vocabulary;
  vocabulary.tokens = ByteTokens();
  for (const auto& [left, right] : merges.pairs()) {
    const std::string a = AlphabetSpelling(left), b = AlphabetSpelling(right);
    vocabulary.tokens.push_back(a + b);
    vocabulary.merges.push_back(a + " " + b);
  }
  vocabulary.types.assign(vocabulary.tokens.size(), kNormal);

  for (int64_t i = 0; i < kReservedIds; ++i) {
    std::string name;
    if (i == kBeginSentence) name = "<beginning_of_sentence>";
    if (i == kEndSentence) name = "<end_of_sentence>";
    if (i == kEndDocument) name = "<end_of_document>";
    if (i == kBeginDocument) name = "<begin_of_document>";
    if (name.empty() && i < kBeginDocument) name = "<reserved_" + std::to_string(i) + ">";
    const bool is_token = !name.empty();
    vocabulary.tokens.push_back(is_token ? name : "[PAD" + std::to_string(n_base + i) + "]");
    vocabulary.types.push_back(is_token ? kControl : kUnused);
  }
  vocabulary.bos_id = static_cast<uint32_t>(n_base + kBeginSentence);
  vocabulary.eos_id = static_cast<uint32_t>(n_base + kEndSentence);
  vocabulary.unknown_id = static_cast<uint32_t>(n_base + kEndDocument);
  vocabulary.chat_template = kChatTemplate;
  return vocabulary;
}

}  // namespace stoker
