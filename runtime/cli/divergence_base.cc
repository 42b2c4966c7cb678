#include "runtime/cli/divergence_base.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr char kMagic[8] = {'S', 'T', 'K', 'R', 'K', 'L', 'D', '2'};
constexpr size_t kHeaderBytes = 24;
constexpr size_t kRowHeaderBytes = 12;  // max, step, the token that follows
constexpr float kRange = 20.0f;
constexpr uint16_t kLowestCode = 65535;  // of everything kRange or more below the likeliest
constexpr uint32_t kMaxVocab = 1u << 24, kMaxContext = 1u << 24, kMaxChunks = 1u << 20;

size_t RowBytes(const DivergenceBaseHeader& header) {
  return kRowHeaderBytes + size_t{2} * header.n_vocab;
}

// Scored positions of the whole file; 0 when the header's numbers are out of range.
uint64_t Rows(const DivergenceBaseHeader& header) {
  const bool in_range = header.n_vocab > 0 && header.n_vocab <= kMaxVocab &&
                        header.n_ctx <= kMaxContext && header.n_chunks <= kMaxChunks &&
                        header.n_ctx > header.first + uint64_t{1};
  return in_range ? uint64_t{header.n_chunks} * (header.n_ctx - 1 - header.first) : 0;
}

}  // namespace

DivergenceBaseWriter::DivergenceBaseWriter(const std::string& path,
                                           const DivergenceBaseHeader& header,
                                           std::span<const int32_t> tokens)
    : file_(path), row_(RowBytes(header)) {
  if (Rows(header) == 0) {
    throw std::runtime_error(
        fmt::format("{}: a base holds up to {} chunks of 3 to {} tokens; change -c or --chunks",
                    path, kMaxChunks, kMaxContext));
  }
  STOKER_CHECK(tokens.size() == uint64_t{header.n_chunks} * header.n_ctx);
  char head[kHeaderBytes];
  std::memcpy(head, kMagic, 8);
  StoreLe(head + 8, header.n_vocab);
  StoreLe(head + 12, header.n_ctx);
  StoreLe(head + 16, header.n_chunks);
  StoreLe(head + 20, header.first);
  file_.Write(std::string_view(head, sizeof(head)));
  file_.Write(std::as_bytes(tokens));
}

void DivergenceBaseWriter::Add(std::span<const float> log_probs, int32_t next) {
  const float max = *std::max_element(log_probs.begin(), log_probs.end());
  const float step = kRange / kLowestCode;
  const float exact = log_probs[static_cast<size_t>(next)];
  if (!std::isfinite(exact)) {
    throw std::runtime_error("the log-probability of the next token is not finite");
  }
  StoreLe(row_.data(), max);
  StoreLe(row_.data() + 4, step);
  StoreLe(row_.data() + 8, exact);
  for (size_t i = 0; i < log_probs.size(); ++i) {
    const float code = std::min(std::round((max - log_probs[i]) / step), float{kLowestCode});
    if (std::isnan(code)) {
      throw std::runtime_error("a log-probability to be saved is not a number");
    }
    StoreLe(row_.data() + kRowHeaderBytes + 2 * i, static_cast<uint16_t>(code));
  }
  file_.Write(row_);
}

DivergenceBaseReader::DivergenceBaseReader(const std::string& path)
    : path_(path), file_(path, std::ios::binary) {
  char head[kHeaderBytes];
  if (!file_.read(head, sizeof(head)) || std::memcmp(head, kMagic, 8) != 0) {
    throw std::runtime_error(path + ": no base that perplexity --save-base of this version wrote");
  }
  header_ = {LoadLe<uint32_t>(head + 8), LoadLe<uint32_t>(head + 12), LoadLe<uint32_t>(head + 16),
             LoadLe<uint32_t>(head + 20)};
  const uint64_t rows = Rows(header_);
  const uint64_t n_tokens = uint64_t{header_.n_chunks} * header_.n_ctx;
  if (rows == 0 ||
      std::filesystem::file_size(path) != kHeaderBytes + 4 * n_tokens + rows * RowBytes(header_)) {
    throw std::runtime_error(path + ": header and size of the file do not fit together");
  }
  tokens_.resize(n_tokens);
  file_.read(reinterpret_cast<char*>(tokens_.data()), static_cast<std::streamsize>(4 * n_tokens));
  if (!file_) throw std::runtime_error(path + ": cannot read the tokens");
  row_.resize(RowBytes(header_));
}

void DivergenceBaseReader::Next(int32_t next, std::vector<float>* log_probs) {
  if (!file_.read(row_.data(), static_cast<std::streamsize>(row_.size()))) {
    throw std::runtime_error(path_ + ": cannot read the next position");
  }
  const auto max = LoadLe<float>(row_.data()), step = LoadLe<float>(row_.data() + 4);
  const auto exact = LoadLe<float>(row_.data() + 8);
  if (!std::isfinite(max) || !std::isfinite(step) || !std::isfinite(exact)) {
    throw std::runtime_error(path_ + ": damaged: the scale of a position is not finite");
  }
  log_probs->resize(header_.n_vocab);
  const char* codes = row_.data() + kRowHeaderBytes;
  for (size_t i = 0; i < log_probs->size(); ++i) {
    const auto code = LoadLe<uint16_t>(codes + 2 * i);
    (*log_probs)[i] = code == kLowestCode ? -std::numeric_limits<float>::infinity()
                                          : max - step * static_cast<float>(code);
  }
  (*log_probs)[static_cast<size_t>(next)] = exact;
}

}  // namespace stoker
