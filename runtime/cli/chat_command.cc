#include "runtime/cli/chat_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "numa/nearest_name.h"
#include "runtime/cli/chat_input.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/generation.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/line_editor.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/output_files.h"
#include "runtime/cli/think_dimmer.h"
#include "runtime/text/chat_template.h"

namespace stoker {
namespace {

constexpr const char* kHelp =
    "/help          this list\n"
    "/clear         forget the conversation and start again\n"
    "/system TEXT   set the system prompt (without TEXT: show it)\n"
    "/save FILE     write the conversation as JSON messages\n"
    "/stats         tokens, speed and context of the last answer\n"
    "/exit          leave (also Ctrl-D)\n"
    "A line ending in \\ goes on in the next one; a block between lines of \"\"\" keeps its line "
    "breaks. Ctrl-C stops an answer.";

struct ChatOptions {
  ModelOptions model;
  SamplingOptions sampling;
  std::optional<std::string> system;  // empty: none; nullopt: the template's own
  int64_t max_tokens = -1;
  std::string chat_template = "minimax-m1";
};

// The conversation and its tokens. An answer stays in the prompt as the very ids that were
// generated where the template would render it unchanged, so that the sequence state can be reused
// whole.
class ChatHistory {
 public:
  ChatHistory(const Tokenizer& tokenizer, ChatTemplateKind kind, std::optional<std::string> system)
      : tokenizer_(tokenizer), kind_(kind), system_(std::move(system)) {}

  const std::optional<std::string>& system() const { return system_; }
  void SetSystem(std::string system) {
    system_ = std::move(system);
    ids_.clear();  // The prompt changes from its first line on.
  }
  void Clear() {
    messages_.clear();
    ids_.clear();
  }

  // Appends the user's turn and returns the prompt for the answer.
  std::vector<TokenId> Ask(std::string text) {
    messages_.push_back({ChatRole::kUser, std::move(text), {}});
    Conversation conversation;
    if (system_) conversation.messages.push_back({ChatRole::kSystem, *system_, {}});
    conversation.messages.insert(conversation.messages.end(), messages_.begin(), messages_.end());
    RenderedPrompt prompt = RenderChat(conversation, kind_);
    std::vector<TokenId> ids;
    if (!ids_.empty() && prompt.text.starts_with(text_)) {
      ids = ids_;
      RenderedPrompt rest{prompt.text.substr(text_.size()), {}};
      for (const TextRange& range : prompt.foreign) {
        if (range.begin < text_.size()) continue;
        rest.foreign.push_back({range.begin - text_.size(), range.end - text_.size()});
      }
      const std::vector<TokenId> more = rest.Encode(tokenizer_);
      ids.insert(ids.end(), more.begin(), more.end());
    } else {
      ids = prompt.Encode(tokenizer_);
    }
    text_ = std::move(prompt.text);
    ids_ = ids;
    return ids;
  }

  // The question was refused or not answered: takes it back.
  void Withdraw() {
    messages_.pop_back();
    ids_.clear();
  }

  void Answered(const Answer& answer) {
    messages_.push_back({ChatRole::kAssistant, answer.text, {}});
    text_ += answer.text;
    ids_.insert(ids_.end(), answer.ids.begin(), answer.ids.end());
  }

  std::string Json() const {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    if (system_) list.push_back({{"role", "system"}, {"content", *system_}});
    for (const ChatMessage& message : messages_) {
      list.push_back({{"role", message.role == ChatRole::kUser ? "user" : "assistant"},
                      {"content", std::get<std::string>(message.content)}});
    }
    return list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  size_t n_messages() const { return messages_.size(); }

 private:
  const Tokenizer& tokenizer_;
  ChatTemplateKind kind_;
  std::optional<std::string> system_;
  std::vector<ChatMessage> messages_;
  std::string text_;          // rendered prompt and answer so far
  std::vector<TokenId> ids_;  // its tokens; empty: encode afresh
};

class Chat {
 public:
  Chat(const ChatOptions& options, Engine& engine)
      : options_(options),
        engine_(engine),
        session_(engine.NewSession()),
        sampler_(ResolveSampling(options.sampling), engine.config().vocab_size,
                 engine.tokenizer()->never_sampled()),
        history_(*engine.tokenizer(), *FindChatTemplate(options.chat_template), options.system),
        editor_(ChatHistoryFile()) {}

  int Loop() {
    if (editor_.is_terminal()) PrintNote("type a message, or /help; Ctrl-D leaves");
    ChatInputParser parser;
    std::string entry, line;
    while (!output_.closed()) {
      const LineEditor::Result result = editor_.Read(parser.continues() ? "... " : "> ", &line);
      if (result == LineEditor::Result::kInterrupted) {
        if (MustLeave()) return kExitInterrupted;
        ClearInterrupt();
        parser.Reset();
        entry.clear();
        continue;
      }
      const bool at_end = result == LineEditor::Result::kEnd;
      const std::optional<ChatInput> input = at_end ? parser.Finish() : parser.Push(line);
      if (!at_end) entry += (entry.empty() ? "" : "\n") + line;
      if (!parser.continues()) editor_.Remember(std::exchange(entry, {}));
      if (input && !Handle(*input)) return kExitDone;
      if (MustLeave()) return kExitInterrupted;
      if (at_end) {
        if (editor_.is_terminal()) PrintNote("");
        return kExitDone;
      }
    }
    return kExitDone;
  }

 private:
  // Ctrl-C ends a chat in which nobody types; SIGTERM ends every chat.
  bool MustLeave() const {
    return InterruptFlag() && (!editor_.is_terminal() || TerminationRequested());
  }

  // False: leave.
  bool Handle(const ChatInput& input) {
    if (input.kind == ChatInput::Kind::kCommand) return Obey(input.command, input.text);
    try {
      AnswerMessage(input.text);
    } catch (const StdoutError&) {
      throw;  // Nobody would see the rest.
    } catch (const std::runtime_error& error) {
      // Such as weights that could not be read: whoever sits there may try again. A script must
      // learn that nothing was answered.
      if (!editor_.is_terminal()) throw;
      if (!output_.ends_with_newline()) output_.Write("\n");
      PrintError(error.what());
    }
    return true;
  }

  bool Obey(const std::string& command, const std::string& rest) {
    if (command == "exit" || command == "quit") return false;
    if (command == "help" || command == "?") {
      PrintNote(kHelp);
    } else if (command == "clear") {
      history_.Clear();
      session_->Reset();
      PrintNote("the conversation is empty");
    } else if (command == "system") {
      if (!rest.empty()) history_.SetSystem(rest);
      ShowSystem();
    } else if (command == "save") {
      if (rest.empty()) {
        PrintError("/save needs a file name");
      } else {
        Save(rest);
      }
    } else if (command == "stats") {
      PrintNote(statistics_.empty() ? "no answer yet" : statistics_);
      PrintNote(
          fmt::format("context: {} of {} tokens", session_->state().position(), session_->n_ctx()));
    } else {
      const std::vector<std::string> known = {"help", "clear", "system", "save", "stats", "exit"};
      const std::string nearest = NearestName(command, known);
      PrintError(fmt::format("unknown command /{}; {}", command,
                             nearest.empty() ? "see /help" : "did you mean /" + nearest + "?"));
    }
    return true;
  }

  void ShowSystem() const {
    const std::optional<std::string>& system = history_.system();
    if (!system) {
      PrintNote("no system prompt of your own");
    } else {
      PrintNote(system->empty() ? "no system prompt" : "system prompt: " + *system);
    }
  }

  void Save(const std::string& path) {
    try {
      CheckOutput(engine_, {"/save", path});
      WriteFileAtomically(path, history_.Json());
      PrintNote(fmt::format("{} messages saved to {}", history_.n_messages(), path));
    } catch (const std::runtime_error& error) {
      PrintError(error.what());  // A file that cannot be written does not end the chat.
    }
  }

  void AnswerMessage(const std::string& text) {
    const std::vector<TokenId> prompt = history_.Ask(text);
    if (static_cast<int64_t>(prompt.size()) >= session_->n_ctx()) {
      history_.Withdraw();
      throw std::runtime_error(
          fmt::format("the conversation would have {} tokens and the context holds {}; /clear it, "
                      "or start again with a larger -c",
                      prompt.size(), session_->n_ctx()));
    }
    const bool on_terminal = StdoutIsTerminal();
    ThinkDimmer dimmer(on_terminal);
    Answer answer;
    try {
      answer = StreamAnswer(
          engine_, *session_, sampler_, prompt, options_.max_tokens, [&](std::string_view piece) {
            output_.Write(on_terminal ? dimmer.Push(ForTerminal(piece)) : std::string(piece));
            return !output_.closed();
          });
    } catch (...) {
      history_.Withdraw();
      output_.Write(dimmer.Finish());
      throw;
    }
    output_.Write(dimmer.Finish());
    output_.Write("\n");
    if (answer.stats.stop_reason == StopReason::kInterrupted && answer.ids.empty()) {
      history_.Withdraw();
      PrintNote("stopped before the answer began; the message is taken back");
    } else {
      history_.Answered(answer);
    }
    statistics_ =
        StatisticsLine(answer, engine_.model().BytesPerToken(session_->state().position()));
    if (answer.stats.stop_reason == StopReason::kContextFull) {
      PrintNote("the context is full; /clear starts again, -c makes it larger");
    }
    if (editor_.is_terminal()) ClearInterrupt();
  }

  const ChatOptions& options_;
  Engine& engine_;
  std::unique_ptr<Session> session_;
  Sampler sampler_;
  ChatHistory history_;
  LineEditor editor_;
  TextOutput output_;
  std::string statistics_;
};

int RunChat(const ChatOptions& options) {
  const std::unique_ptr<Engine> engine = OpenEngine(ToEngineOptions(options.model));
  if (!SupportsChat(RequireTokenizer(*engine))) {
    throw std::runtime_error(
        "this model has no chat tokens; `stoker run --raw` continues plain text");
  }
  return Chat(options, *engine).Loop();
}

}  // namespace

std::function<int()> DeclareChat(CLI::App& app) {
  auto options = std::make_shared<ChatOptions>();
  AddModelOptions(app, &options->model);
  // Not straight into the optional, which CLI11 leaves unset for an empty value.
  app.add_option_function<std::string>(
         "--system-prompt", [options](const std::string& text) { options->system = text; },
         "(-sys) the system prompt; \"\": none, not even the template's own")
      ->type_name("TEXT");
  app.add_option("-n,--predict,--n-predict", options->max_tokens,
                 "most tokens of one answer; -1: until the model ends it")
      ->check(WholeNumber(-1, int64_t{1} << 31))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--chat-template", options->chat_template,
                 "form of the turns: minimax-m1 or vendor")
      ->check(CLI::IsMember({"minimax-m1", "vendor"}))
      ->capture_default_str()
      ->type_name("NAME");
  AddSamplingOptions(app, &options->sampling);
  return [options] { return RunChat(*options); };
}

}  // namespace stoker
