#include <signal.h>

#include <string>

#include "runtime/cli/chat_input.h"
#include "runtime/cli/generation.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/output.h"
#include "runtime/cli/think_dimmer.h"
#include "tests/support/catch.h"

namespace stoker {
namespace {

constexpr const char* kDim = "\x1b[2m";
constexpr const char* kNormal = "\x1b[22m";

TEST_CASE("a line is a message, a slash word a command, a path a message") {
  ChatInputParser parser;
  CHECK(parser.Push("hello there")->text == "hello there");
  CHECK_FALSE(parser.Push("   ").has_value());
  const auto command = parser.Push("/save  notes.json ");
  REQUIRE(command.has_value());
  CHECK(command->kind == ChatInput::Kind::kCommand);
  CHECK(command->command == "save");
  CHECK(command->text == "notes.json");
  CHECK(parser.Push("/etc/hosts is a file")->kind == ChatInput::Kind::kMessage);
}

TEST_CASE("a trailing backslash and a quoted block continue a message") {
  ChatInputParser parser;
  CHECK_FALSE(parser.Push("one\\").has_value());
  CHECK(parser.continues());
  CHECK_FALSE(parser.Push("/two\\").has_value());  // no command inside a message
  CHECK(parser.Push("three")->text == "one\n/two\nthree");
  CHECK_FALSE(parser.continues());

  CHECK_FALSE(parser.Push("\"\"\"").has_value());
  CHECK_FALSE(parser.Push("a\\").has_value());
  CHECK_FALSE(parser.Push("").has_value());
  CHECK(parser.Push("b\"\"\"")->text == "a\\\n\nb");
  CHECK(parser.Push("\"\"\"inline\"\"\"")->text == "inline");
  CHECK_FALSE(parser.Push("\"\"\"first").has_value());
  CHECK(parser.Push("\"\"\"")->text == "first");
}

TEST_CASE("every line of a block keeps its indentation, the closing mark's own is none of it") {
  ChatInputParser parser;
  CHECK_FALSE(parser.Push("\"\"\"").has_value());
  CHECK_FALSE(parser.Push("def f():").has_value());
  CHECK(parser.Push("    return 1\"\"\"  ")->text == "def f():\n    return 1");
  CHECK_FALSE(parser.Push("\"\"\"").has_value());
  CHECK_FALSE(parser.Push("  a").has_value());
  CHECK(parser.Push(" \t\"\"\"\r")->text == "  a");
  CHECK_FALSE(parser.continues());
}

TEST_CASE("an interrupted message is dropped, an unfinished one counts at the end") {
  ChatInputParser parser;
  CHECK_FALSE(parser.Push("lost\\").has_value());
  parser.Reset();
  CHECK(parser.Push("kept")->text == "kept");
  CHECK_FALSE(parser.Push("\"\"\"last").has_value());
  CHECK(parser.Finish()->text == "last\n");
  CHECK_FALSE(parser.Finish().has_value());
}

TEST_CASE("thinking is dimmed however the text is cut") {
  const std::string text = "a<b <think>why < not</think> so";
  const std::string expected =
      std::string("a<b ") + kDim + "<think>why < not</think>" + kNormal + " so";
  for (size_t step = 1; step <= text.size(); ++step) {
    CAPTURE(step);
    ThinkDimmer dimmer(true);
    std::string out;
    for (size_t at = 0; at < text.size(); at += step) out += dimmer.Push(text.substr(at, step));
    CHECK(out + dimmer.Finish() == expected);
  }
  ThinkDimmer plain(false);
  CHECK(plain.Push(text) == text);
}

TEST_CASE("an unfinished thought ends the shade") {
  ThinkDimmer dimmer(true);
  std::string out = dimmer.Push("<think>hm");
  out += dimmer.Push("</thi");
  out += dimmer.Finish();
  std::string expected(kDim);
  expected.append("<think>hm</thi").append(kNormal);
  CHECK(out == expected);
}

TEST_CASE("control characters do not reach a terminal") {
  CHECK(ForTerminal("a\tb\nc") == "a\tb\nc");
  CHECK(ForTerminal("\x1b[2J\x07\x7f") == "\uFFFD[2J\uFFFD\uFFFD");
  CHECK(ForTerminal("\u00e9\u4e2d\u00a0") == "\u00e9\u4e2d\u00a0");
  CHECK(ForTerminal("\u0080x\u009b2J\u009f") == "\uFFFDx\uFFFD2J\uFFFD");
}

TEST_CASE("a prompt that was stopped counts the tokens that were fed") {
  Answer answer;
  answer.stats.stop_reason = StopReason::kInterrupted;
  answer.stats.prompt_tokens = 10'000;
  answer.stats.reused_tokens = 100;
  answer.stats.prefilled_tokens = 50;
  answer.stats.prefill_seconds = 2.0;
  const std::string line = StatisticsLine(answer, TokenBytes());
  CHECK_THAT(line, test::HasText("prefill 25.0 tok/s"));
  CHECK(line.find("decode") == std::string::npos);
}

TEST_CASE("no speed is told of what was not done") {
  Answer answer;
  answer.stats.stop_reason = StopReason::kLength;
  answer.stats.prompt_tokens = answer.stats.reused_tokens = 12;
  answer.stats.generated_tokens = 1;
  CHECK(StatisticsLine(answer, TokenBytes()) ==
        "stats: prompt 12 tokens (12 reused); generated 1; stopped: length (-n)");
  answer.stats.generated_tokens = 5;
  answer.stats.decode_steps = 4;
  answer.stats.decode_seconds = 2.0;
  CHECK_THAT(StatisticsLine(answer, TokenBytes()), test::HasText("generated 5, decode 2.00 tok/s"));
}

TEST_CASE("Ctrl-C can be forgotten") {
  InstallInterruptHandler();
  ::raise(SIGINT);
  CHECK(InterruptFlag());
  CHECK_FALSE(TerminationRequested());
  ClearInterrupt();
  CHECK_FALSE(InterruptFlag());
}

}  // namespace
}  // namespace stoker
