#include "runtime/cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>
#include <filesystem>
#include <system_error>
#include <utility>

#include "numa/system_files.h"
#include "runtime/cli/interrupt.h"

namespace stoker {
namespace {

constexpr int kHistoryEntries = 1000;

// libedit's own reader tries again after a signal; this one gives up, so that Ctrl-C drops the
// line. The flag is looked at before every wait and ten times a second in it: a signal that came
// while the previous command was still at work would interrupt no system call.
int ReadCharacter(EditLine* editor, wchar_t* out) {
  static_cast<void>(editor);
  std::mbstate_t state = {};
  while (true) {
    if (InterruptFlag()) return -1;
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    if (::poll(&input, 1, 100) <= 0) continue;
    char byte = 0;
    const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;  // A resized window, a stopped job.
      return -1;
    }
    const size_t length = std::mbrtowc(out, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // More bytes of this character to come.
    if (length == static_cast<size_t>(-1)) {
      state = {};
      *out = L'\uFFFD';
    }
    return 1;
  }
}

void UseUtf8() {
  // Editing needs to know characters; the C locale has bytes only.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
}

}  // namespace

struct LineEditor::Terminal {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string history_file;
  std::string prompt;

  static char* Prompt(EditLine* editor) {
    Terminal* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return self->prompt.data();
  }

  explicit Terminal(std::string file) : history_file(std::move(file)) {
    UseUtf8();
    HistEvent event;
    history = ::history_init();
    ::history(history, &event, H_SETSIZE, kHistoryEntries);
    ::history(history, &event, H_SETUNIQUE, 1);
    if (!history_file.empty()) ::history(history, &event, H_LOAD, history_file.c_str());

    editor = ::el_init("stoker", stdin, stdout, stderr);
    ::el_set(editor, EL_CLIENTDATA, this);
    ::el_set(editor, EL_PROMPT, Prompt);
    ::el_set(editor, EL_EDITOR, "emacs");
    ::el_set(editor, EL_HIST, ::history, history);
    ::el_set(editor, EL_GETCFN, ReadCharacter);
    ::el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    ::el_source(editor, nullptr);  // ~/.editrc
  }

  ~Terminal() {
    ::el_end(editor);
    ::history_end(history);
  }
};

LineEditor::LineEditor(std::string history_file) {
  if (::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) {
    terminal_ = std::make_unique<Terminal>(std::move(history_file));
  }
}

LineEditor::~LineEditor() = default;

bool LineEditor::is_terminal() const { return terminal_ != nullptr; }

LineEditor::Result LineEditor::Read(const std::string& prompt, std::string* line) {
  line->clear();
  if (terminal_ == nullptr) {
    int c;
    while ((c = std::getc(stdin)) != EOF && c != '\n') line->push_back(static_cast<char>(c));
    const int error = errno;
    if (InterruptFlag()) return Result::kInterrupted;
    if (c == EOF && std::ferror(stdin) != 0) {
      throw std::system_error(error, std::generic_category(), "cannot read stdin");
    }
    return c == EOF && line->empty() ? Result::kEnd : Result::kLine;
  }
  terminal_->prompt = prompt;
  // Before the prompt is printed, which el_gets does first: Ctrl-D typed at once would be taken for
  // the terminal's own end of input, and lost.
  ::el_set(terminal_->editor, EL_PREP_TERM, 1);
  int length = 0;
  const char* text = ::el_gets(terminal_->editor, &length);
  if (InterruptFlag()) {
    ::el_reset(terminal_->editor);
    std::fputs("^C\n", stdout);
    std::fflush(stdout);
    return Result::kInterrupted;
  }
  if (text == nullptr || length <= 0) return Result::kEnd;
  line->assign(text, static_cast<size_t>(length));
  if (line->ends_with('\n')) line->pop_back();
  return Result::kLine;
}

void LineEditor::Remember(const std::string& entry) {
  if (terminal_ == nullptr || entry.empty()) return;
  HistEvent event;
  ::history(terminal_->history, &event, H_ENTER, entry.c_str());
  if (!terminal_->history_file.empty()) {
    ::history(terminal_->history, &event, H_SAVE, terminal_->history_file.c_str());
  }
}

std::string ChatHistoryFile() {
  const std::filesystem::path directory = UserDirectory("XDG_STATE_HOME", ".local/state");
  if (directory.empty()) return "";
  std::error_code ignored;
  std::filesystem::create_directories(directory, ignored);
  return (directory / "chat_history").string();
}

}  // namespace stoker
