#pragma once

// Runs a function in a forked child and reports its answer and how far the child's peak memory rose
// meanwhile: bounds on memory can be tested without one test hiding behind another's peak.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace stoker::test {

struct ChildResult {
  bool finished = false;  // false: the child died
  uint64_t peak_rise_bytes = 0;
  std::string answer;
};

inline uint64_t PeakBytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

// fn() -> std::string runs in the child; it must not throw.
template <typename Fn>
ChildResult RunInChild(Fn fn) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("cannot make a pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    const uint64_t before = PeakBytes();
    std::string answer = fn();
    const uint64_t rise = PeakBytes() - before;
    answer.append(reinterpret_cast<const char*>(&rise), sizeof(rise));
    const bool sent =
        ::write(ends[1], answer.data(), answer.size()) == static_cast<ssize_t>(answer.size());
    ::_exit(sent ? 0 : 1);
  }
  ::close(ends[1]);
  ChildResult result;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof(buffer))) > 0;) {
    result.answer.append(buffer, static_cast<size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.finished = WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                    result.answer.size() >= sizeof(result.peak_rise_bytes);
  if (result.finished) {
    const size_t at = result.answer.size() - sizeof(result.peak_rise_bytes);
    result.answer.copy(reinterpret_cast<char*>(&result.peak_rise_bytes),
                       sizeof(result.peak_rise_bytes), at);
    result.answer.resize(at);
  }
  return result;
}

}  // namespace stoker::test
