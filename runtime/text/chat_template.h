#pragma once

// Renders a conversation into MiniMax-M1's prompt format. Two forms exist: the vendor's own
// (tokenizer_config.json of the release) and the one that serving engines settled on, which is the
// default; both are rendered by our code, byte for byte as Jinja renders their sources, and
// no template from a model file is ever executed. Pure functions on values; thread-safe.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/text/token_id.h"
#include "runtime/text/tokenizer.h"

namespace stoker {

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant, kTool };

// One item of a content list. In tool messages `name` is the tool's.
struct ContentPart {
  std::string type = "text";
  std::string text;
  std::string name;
};

struct ToolCall {
  std::string name;
  nlohmann::ordered_json arguments;  // an object; a string would be replayed as a JSON string
};

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::variant<std::string, std::vector<ContentPart>> content;
  std::vector<ToolCall> tool_calls;  // empty: none
};

struct Conversation {
  std::vector<ChatMessage> messages;
  nlohmann::ordered_json tools;  // null: none; else an array of any JSON values, key order kept
  bool add_generation_prompt = true;
};

enum class ChatTemplateKind : uint8_t { kMiniMaxM1, kVendor };

// "minimax-m1" and "vendor", the values of --chat-template; nullopt for other names.
std::optional<ChatTemplateKind> FindChatTemplate(std::string_view name);
std::string_view ChatTemplateName(ChatTemplateKind kind);

// A rendered prompt and which parts of it came from outside. The latter are encoded with special
// tokens as plain text, so a user who writes <end_of_sentence> does not end a sentence.
struct RenderedPrompt {
  std::string text;
  std::vector<TextRange> foreign;  // ascending, disjoint

  std::vector<TokenId> Encode(const Tokenizer& tokenizer) const {
    return tokenizer.Encode(text, foreign);
  }
};

// Renders. Throws std::invalid_argument for JSON nested deeper than 64 levels.
//
// kMiniMaxM1: a first system message, or else the default sentence, is the system prompt; later
// system messages are dropped; user and assistant text is trimmed; a message with tool calls
// replays the calls and drops its text.
// kVendor: the system prompt is the first part of every system message joined, and nothing when
// there is none; the first part only of user messages; no trimming; tool calls are not replayed. A
// string counts as a list of one text part.
RenderedPrompt RenderChat(const Conversation& conversation, ChatTemplateKind kind);

// One user turn with the generation prompt; `system` empty: as the template does without one.
Conversation SingleTurn(std::string_view user, std::string_view system = {});

// Whether the vocabulary has the tokens both forms are written with, each as one special token.
bool SupportsChat(const Tokenizer& tokenizer);

// Reads OpenAI-style messages ([{"role", "content", "tool_calls"}...]); arguments given as a JSON
// string are parsed, "ipython" counts as tool. Throws std::invalid_argument naming the message
// and the field.
std::vector<ChatMessage> ParseMessages(const nlohmann::ordered_json& messages);

}  // namespace stoker
