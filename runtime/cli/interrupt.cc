#include "runtime/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "runtime/cli/command_line.h"

namespace stoker {
namespace {

std::atomic<bool> g_interrupted = false;
std::atomic<bool> g_terminated = false;
std::atomic<bool> g_exit_at_once = false;
static_assert(std::atomic<bool>::is_always_lock_free, "the flag is set in a signal handler");

void OnSignal(int number) {
  if (number != SIGINT) g_terminated = true;
  const bool again = g_interrupted.exchange(true);
  // A terminal that closes sends SIGHUP itself and through its shell: the second is no more urgent.
  if (g_exit_at_once || (again && number != SIGHUP)) {
    // A progress line may be half drawn; the shell's prompt should not land in it.
    if (::isatty(STDERR_FILENO) == 1) [[maybe_unused]]
      const ssize_t n = ::write(STDERR_FILENO, "\n", 1);
    ::_exit(kExitInterrupted);
  }
}

}  // namespace

void InstallInterruptHandler() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  struct sigaction inherited = {};
  ::sigaction(SIGHUP, nullptr, &inherited);
  if (inherited.sa_handler != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

std::atomic<bool>& InterruptFlag() { return g_interrupted; }

bool TerminationRequested() { return g_terminated; }

void ClearInterrupt() {
  g_interrupted = false;
  // Looked at afterwards: a signal that comes in between sets the flag itself.
  if (g_terminated) g_interrupted = true;
}

void ThrowIfInterrupted() {
  if (g_interrupted) throw InterruptedError();
}

ExitOnInterrupt::ExitOnInterrupt() {
  ThrowIfInterrupted();
  g_exit_at_once = true;
}

ExitOnInterrupt::~ExitOnInterrupt() { g_exit_at_once = false; }

}  // namespace stoker
