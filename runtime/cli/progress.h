#pragma once

// A progress line on stderr: redrawn in place on a terminal, silent otherwise. Erased when it ends.
// Safe to update from one thread at a time.

#include <chrono>
#include <cstdint>
#include <string>

namespace stoker {

class ProgressLine {
 public:
  // label: "loading", "writing".
  explicit ProgressLine(std::string label);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Bytes of a total; redraws at most ten times a second.
  void UpdateBytes(uint64_t done, uint64_t total);
  // Counted things ("tokens", "chunks") of a total.
  void UpdateCount(int64_t done, int64_t total, const char* unit);
  // Removes the line.
  void Finish();

  double seconds() const;

 private:
  void Draw(const std::string& text);
  bool Due();

  std::string label_;
  bool is_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point next_draw_;
};

}  // namespace stoker
