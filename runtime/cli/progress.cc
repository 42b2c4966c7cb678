#include "runtime/cli/progress.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "numa/bytes.h"
#include "runtime/cli/output.h"

namespace stoker {

using Clock = std::chrono::steady_clock;

ProgressLine::ProgressLine(std::string label)
    : label_(std::move(label)), is_terminal_(StderrIsTerminal()), start_(Clock::now()) {
  // Work that ends at once draws nothing.
  next_draw_ = start_ + std::chrono::milliseconds(300);
}

ProgressLine::~ProgressLine() { Finish(); }

void ProgressLine::UpdateBytes(uint64_t done, uint64_t total) {
  if (!Due()) return;
  const double rate = static_cast<double>(done) / std::max(seconds(), 1e-3);
  Draw(fmt::format("{} {} of {} ({:.0f} %, {:.2f} GB/s)", label_, FormatBytes(done),
                   FormatBytes(total), total == 0 ? 100.0 : 100.0 * done / total, rate / 1e9));
}

void ProgressLine::UpdateCount(int64_t done, int64_t total, const char* unit) {
  if (!Due()) return;
  Draw(fmt::format("{} {} of {} {} ({:.0f} %)", label_, done, total, unit,
                   total == 0 ? 100.0 : 100.0 * done / total));
}

void ProgressLine::Finish() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

double ProgressLine::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

bool ProgressLine::Due() {
  if (!is_terminal_ || Clock::now() < next_draw_) return false;
  next_draw_ = Clock::now() + std::chrono::milliseconds(100);
  return true;
}

void ProgressLine::Draw(const std::string& text) {
  fmt::print(stderr, "\r\x1b[K{}", text);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace stoker
