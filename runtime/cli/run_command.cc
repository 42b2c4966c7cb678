#include "runtime/cli/run_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "numa/bytes.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/generation.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/text/chat_template.h"

namespace stoker {
namespace {

// Far beyond any context; keeps a wrong file from filling the memory.
constexpr size_t kMaxPromptBytes = 256 * kMiB;

struct RunOptions {
  ModelOptions model;
  SamplingOptions sampling;
  std::string prompt, file, system;
  bool has_prompt = false, has_file = false, has_system = false;
  int64_t max_tokens = -1;
  bool raw = false;
  std::string chat_template = "minimax-m1";
  std::string stats = "line";
};

// Read before the model is loaded: a missing file should not cost a minute.
std::string ReadPrompt(const RunOptions& options) {
  std::string text;
  if (options.has_prompt) {
    text = options.prompt;
  } else {
    if (!options.has_file && ::isatty(STDIN_FILENO) == 1) {
      PrintNote("reading the prompt from the terminal; end it with Ctrl-D");
    }
    text = ReadTextFile(options.has_file ? options.file : "-", kMaxPromptBytes);
    // The newline that ends a file is not part of what was asked.
    if (!options.raw && text.ends_with('\n')) text.pop_back();
  }
  if (text.empty())
    throw std::runtime_error("the prompt is empty; give -p TEXT, -f FILE or text on stdin");
  return text;
}

// Encoding takes tens of bytes for each of a long piece: what cannot fit is refused without it.
void RequireFits(const std::string& text, const Tokenizer& tokenizer, int64_t n_ctx) {
  const uint64_t most = tokenizer.MaxTextBytes(n_ctx);
  if (text.size() <= most) return;
  throw std::runtime_error(
      fmt::format("the prompt has {}, more than the {} tokens of the context can spell ({}); raise "
                  "-c",
                  FormatBytes(text.size()), n_ctx, FormatBytes(most)));
}

std::vector<TokenId> EncodePrompt(const RunOptions& options, const Tokenizer& tokenizer,
                                  const std::string& text) {
  if (!options.raw && !SupportsChat(tokenizer)) {
    if (options.has_system) {
      throw std::runtime_error("this model has no chat tokens and takes no system prompt (-sys)");
    }
    PrintNote("note: this model has no chat tokens; the prompt is used as it stands (--raw)");
  } else if (!options.raw) {
    Conversation conversation = SingleTurn(text);
    if (options.has_system) {  // An empty one too: it takes the place of the template's own.
      conversation.messages.insert(conversation.messages.begin(),
                                   {ChatRole::kSystem, options.system, {}});
    }
    return RenderChat(conversation, *FindChatTemplate(options.chat_template)).Encode(tokenizer);
  }
  return tokenizer.Encode(text, SpecialTokens::kParse);
}

int Run(const RunOptions& options) {
  EngineOptions engine_options = ToEngineOptions(options.model);
  const std::string text = ReadPrompt(options);
  const std::unique_ptr<Engine> engine =
      OpenEngine(std::move(engine_options), {}, {NamedFile{"-f", options.file}});
  const Tokenizer& tokenizer = RequireTokenizer(*engine);
  RequireFits(text, tokenizer, options.model.n_ctx);
  const std::vector<TokenId> prompt = EncodePrompt(options, tokenizer, text);
  Sampler sampler(ResolveSampling(options.sampling), engine->config().vocab_size,
                  tokenizer.never_sampled());
  const std::unique_ptr<Session> session = engine->NewSession();

  const bool on_terminal = StdoutIsTerminal();
  TextOutput output;
  const Answer answer = StreamAnswer(
      *engine, *session, sampler, prompt, options.max_tokens, [&](std::string_view piece) {
        output.Write(on_terminal ? ForTerminal(piece) : std::string(piece));
        return !output.closed();
      });
  // On a terminal the next line should start at the margin; a file or pipe gets the text only.
  if (on_terminal && !output.ends_with_newline()) PrintNote("");
  const TokenBytes bytes = engine->model().BytesPerToken(session->state().position());
  PrintNote(options.stats == "json"
                ? StatisticsJson(answer, *engine, bytes, MeasureCeilings(*engine))
                : StatisticsLine(answer, bytes));
  return InterruptFlag() ? kExitInterrupted : kExitDone;
}

}  // namespace

std::function<int()> DeclareRun(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  AddModelOptions(app, &options->model);
  CLI::Option* prompt =
      app.add_option("-p,--prompt", options->prompt, "the prompt; default: stdin");
  prompt->type_name("TEXT");
  CLI::Option* file =
      app.add_option("-f,--file", options->file, "read the prompt from a file, - for stdin");
  file->type_name("FILE")->excludes(prompt);
  app.add_option("-n,--predict,--n-predict", options->max_tokens,
                 "most tokens to generate; -1: until the model ends or the context is full")
      ->check(WholeNumber(-1, int64_t{1} << 31))
      ->capture_default_str()
      ->type_name("N");
  CLI::Option* system =
      app.add_option("--system-prompt", options->system,
                     "(-sys) the system prompt; \"\": none, not even the template's own");
  system->type_name("TEXT");
  CLI::Option* chat_template = app.add_option("--chat-template", options->chat_template,
                                              "form of the turns: minimax-m1 or vendor");
  chat_template->check(CLI::IsMember({"minimax-m1", "vendor"}))
      ->capture_default_str()
      ->type_name("NAME");
  app.add_flag("--raw", options->raw, "use the prompt as it stands, without the chat template")
      ->excludes(system)
      ->excludes(chat_template);
  app.add_option("--stats", options->stats,
                 "form of the closing statistics on stderr: line, or json (measures the ceilings)")
      ->check(CLI::IsMember({"line", "json"}))
      ->capture_default_str()
      ->type_name("FORM");
  AddSamplingOptions(app, &options->sampling);
  return [options, prompt, file, system] {
    options->has_prompt = prompt->count() > 0;
    options->has_file = file->count() > 0;
    options->has_system = system->count() > 0;
    return Run(*options);
  };
}

}  // namespace stoker
