#pragma once

// The file that `perplexity --save-base` writes and `--kl-base` reads: the tokens that were scored
// and the log-probabilities of every scored position, at 16 bits each. Written front to back, read
// the same way. Not thread-safe. Little-endian, format (offsets in bytes):
//
//   0   "STKRKLD2", u32 n_vocab, u32 n_ctx, u32 n_chunks, u32 first scored position of a chunk
//   24  i32 tokens[n_chunks * n_ctx]
//   ..  per scored position, n_ctx - 1 - first a chunk: f32 max, f32 step, f32 log-probability of
//       the token that follows, u16 code[n_vocab]
//
// Log-probability i is max - step * code[i]. Codes reach down to 20 below max. The last one, 65535,
// stands for all that is as low or lower and is read as -inf: such a token's share of any
// divergence is nothing, but thousands of them, all read as 20 below, would add up to something.
// The perplexity hangs on the token that follows alone, however unlikely it was, so that one is
// kept as it is.

#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "mmap/atomic_file.h"

namespace stoker {

struct DivergenceBaseHeader {
  uint32_t n_vocab = 0;
  uint32_t n_ctx = 0;
  uint32_t n_chunks = 0;
  uint32_t first = 0;
};

class DivergenceBaseWriter {
 public:
  // Throws std::system_error when it cannot write, std::runtime_error for a header the reader would
  // refuse. `tokens` are n_chunks * n_ctx. The file appears with Commit.
  DivergenceBaseWriter(const std::string& path, const DivergenceBaseHeader& header,
                       std::span<const int32_t> tokens);
  // The next position's log-probabilities [n_vocab] and the token that follows. Throws
  // std::runtime_error for NaN, and where that token is ruled out.
  void Add(std::span<const float> log_probs, int32_t next);
  void Commit() { file_.Commit(); }

 private:
  AtomicFile file_;
  std::vector<std::byte> row_;
};

class DivergenceBaseReader {
 public:
  // Throws std::runtime_error for a file of another kind, another size than its header says, or
  // sizes out of range.
  explicit DivergenceBaseReader(const std::string& path);
  const DivergenceBaseHeader& header() const { return header_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // The next position's log-probabilities [n_vocab], which `next` follows; -inf for tokens too
  // unlikely to have been told apart. Throws std::runtime_error when they cannot be read or are
  // damaged.
  void Next(int32_t next, std::vector<float>* log_probs);

 private:
  std::string path_;
  std::ifstream file_;
  DivergenceBaseHeader header_;
  std::vector<int32_t> tokens_;
  std::vector<char> row_;
};

}  // namespace stoker
