#pragma once

// Ctrl-C as a flag: the first SIGINT asks the running work to stop at the next step, a second one
// within the same piece of work ends the process at once. SIGTERM does the same and cannot be
// cleared: whatever would go on after Ctrl-C ends after it. SIGHUP is taken as SIGTERM, but a
// second one ends nothing at once. One handler a process; the flags may be read from any thread.

#include <atomic>
#include <stdexcept>

namespace stoker {

// Thrown by commands whose work was interrupted and has nothing left to report: exit code 130.
class InterruptedError : public std::runtime_error {
 public:
  InterruptedError() : std::runtime_error("interrupted") {}
};

// Installs the handler for SIGINT, SIGTERM and, unless nohup had it ignored, SIGHUP, and ignores
// SIGPIPE (writes report EPIPE instead). System calls are not restarted, so that waiting for input
// ends too.
void InstallInterruptHandler();

// True after a signal, until cleared. Pass it as the stop flag of model work.
std::atomic<bool>& InterruptFlag();

// True after a SIGTERM or SIGHUP, for good.
bool TerminationRequested();

// Forgets Ctrl-C: the next piece of work starts afresh. After the others the flag stays set.
void ClearInterrupt();

// Throws InterruptedError when a signal came.
void ThrowIfInterrupted();

// While one lives, a signal ends the process at once with code 130: for work that cannot be
// stopped half-way and has nothing to clean up, such as loading a model.
class ExitOnInterrupt {
 public:
  ExitOnInterrupt();
  ~ExitOnInterrupt();
  ExitOnInterrupt(const ExitOnInterrupt&) = delete;
  ExitOnInterrupt& operator=(const ExitOnInterrupt&) = delete;
};

}  // namespace stoker
