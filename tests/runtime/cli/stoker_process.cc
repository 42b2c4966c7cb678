#include "tests/runtime/cli/stoker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

namespace stoker::test {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Exec(const std::vector<std::string>& arguments) {
  const char* binary = std::getenv("STOKER_BINARY");
  std::vector<char*> argv = {const_cast<char*>(binary)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

void Close(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

}  // namespace

StokerProcess::StokerProcess(const std::vector<std::string>& arguments, Terminal terminal) {
  ::signal(SIGPIPE, SIG_IGN);
  if (terminal == Terminal::kPty) {
    const struct winsize size = {24, 100, 0, 0};
    pid_ = ::forkpty(&out_, nullptr, nullptr, &size);
    if (pid_ < 0) throw std::runtime_error("cannot fork a terminal");
    if (pid_ == 0) Exec(arguments);
    in_ = ::dup(out_);
    return;
  }
  std::array<int, 2> in, out, err;
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0 ||
      ::pipe2(err.data(), O_CLOEXEC) != 0) {
    throw std::runtime_error("cannot make pipes");
  }
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ == 0) {
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    Exec(arguments);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
}

StokerProcess::~StokerProcess() {
  Close(in_);
  Close(out_);
  Close(err_);
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void StokerProcess::Send(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const ssize_t n = ::write(in_, text.data() + at, text.size() - at);
    if (n <= 0) return;
    at += static_cast<size_t>(n);
  }
}

void StokerProcess::CloseInput() { Close(in_); }
void StokerProcess::Signal(int number) { ::kill(pid_, number); }
void StokerProcess::CloseOutput() { Close(out_); }

// False when both streams have ended.
bool StokerProcess::Pump(int milliseconds) {
  std::array<struct pollfd, 2> fds = {{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};
  if (out_ < 0 && err_ < 0) return false;
  ::poll(fds.data(), fds.size(), milliseconds);
  const auto read = [](int& fd, short events, std::string& text) {
    if (fd < 0 || events == 0) return;
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n > 0) {
      text.append(buffer.data(), static_cast<size_t>(n));
    } else {
      Close(fd);  // A pty answers EIO when its other side is gone.
    }
  };
  read(out_, fds[0].revents, result_.out);
  read(err_, fds[1].revents, result_.err);
  return true;
}

bool StokerProcess::WaitIn(const std::string& stream, const std::string& text, int seconds) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  while (stream.find(text) == std::string::npos) {
    if (Clock::now() > end || !Pump(100)) return false;
  }
  return true;
}

bool StokerProcess::WaitFor(const std::string& text, int seconds) {
  return WaitIn(result_.out, text, seconds);
}

bool StokerProcess::WaitForError(const std::string& text, int seconds) {
  return WaitIn(result_.err, text, seconds);
}

ProcessResult StokerProcess::Finish(int seconds) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  while (Pump(100)) {
    if (Clock::now() > end) throw std::runtime_error("stoker did not end; stderr: " + result_.err);
  }
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (Clock::now() > end) throw std::runtime_error("stoker did not end");
    ::usleep(1000);
  }
  pid_ = -1;
  result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result_;
}

ProcessResult RunStoker(const std::vector<std::string>& arguments, const std::string& input,
                        int seconds) {
  StokerProcess process(arguments, StokerProcess::Terminal::kNone);
  process.Send(input);
  process.CloseInput();
  return process.Finish(seconds);
}

}  // namespace stoker::test
