#include "runtime/text/chat_template.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "runtime/text/json_text.h"
#include "runtime/text/utf8.h"

namespace stoker {
namespace {

// The words below are what the model was trained on: not one byte may change.
constexpr std::string_view kBeginDocument = "<begin_of_document>";
constexpr std::string_view kBegin = "<beginning_of_sentence>";
constexpr std::string_view kEnd = "<end_of_sentence>";
constexpr std::string_view kEndLine = "<end_of_sentence>\n";
constexpr std::string_view kDefaultSystem =
    "You are a helpful assistant created by Minimax based on MiniMax-M1 model.";
constexpr std::string_view kToolsHead =
    "<beginning_of_sentence>system tool_setting=tools\n"
    "You are provided with these tools:\n"
    "<tools>\n";
constexpr std::string_view kToolsInstruction =
    "</tools>\n\n"
    "If you need to call tools, please respond with <tool_calls></tool_calls> XML tags, and "
    "provide tool-name and json-object of arguments, following the format below:\n"
    "<tool_calls>\n";
constexpr std::string_view kToolsTail =
    "\n...\n"
    "</tool_calls><end_of_sentence>\n";

// Collects the prompt and remembers what came from outside.
class PromptWriter {
 public:
  void Own(std::string_view text) { prompt_.text += text; }

  void Foreign(std::string_view text) {
    if (text.empty()) return;
    const size_t begin = prompt_.text.size();
    prompt_.text += text;
    if (!prompt_.foreign.empty() && prompt_.foreign.back().end == begin) {
      prompt_.foreign.back().end = prompt_.text.size();
    } else {
      prompt_.foreign.push_back({begin, prompt_.text.size()});
    }
  }

  RenderedPrompt Take() { return std::move(prompt_); }

 private:
  RenderedPrompt prompt_;
};

// What Python's str.strip() removes: White_Space and the four ASCII separators.
bool IsPythonSpace(char32_t c) { return IsUnicodeSpace(c) || (c >= 0x1c && c <= 0x1f); }

// The trim filter. Ill-formed bytes are no space.
std::string_view Trim(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    size_t bytes = 0;
    if (step.kind != Utf8Step::kCharacter || !IsPythonSpace(DecodeUtf8(text.data(), &bytes))) break;
    text.remove_prefix(step.bytes);
  }
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 &&
           (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) {
      --begin;
    }
    const std::string_view last = text.substr(begin);
    const Utf8Step step = NextUtf8(last);
    size_t bytes = 0;
    if (step.kind != Utf8Step::kCharacter || step.bytes != last.size() ||
        !IsPythonSpace(DecodeUtf8(last.data(), &bytes))) {
      break;
    }
    text.remove_suffix(last.size());
  }
  return text;
}

const std::string* AsString(const ChatMessage& message) {
  return std::get_if<std::string>(&message.content);
}

const std::vector<ContentPart>& AsParts(const ChatMessage& message) {
  return std::get<std::vector<ContentPart>>(message.content);
}

// The whole string, or the first item's text whatever its type.
std::string_view FirstText(const ChatMessage& message) {
  if (const std::string* text = AsString(message)) return *text;
  const auto& parts = AsParts(message);
  return parts.empty() ? std::string_view() : std::string_view(parts.front().text);
}

void WriteTools(const nlohmann::ordered_json& tools, std::string_view sample_call,
                PromptWriter& out) {
  out.Own(kToolsHead);
  for (const auto& tool : tools) {
    out.Foreign(PythonJson(tool));
    out.Own("\n");
  }
  out.Own(kToolsInstruction);
  out.Own(sample_call);
  out.Own(kToolsTail);
}

// --- The form serving engines use ---------------------------------------------------------------

constexpr std::string_view kAssistantHead = "<beginning_of_sentence>ai name=MiniMax AI\n";

void WriteTrimmed(const ChatMessage& message, PromptWriter& out) {
  if (const std::string* text = AsString(message)) {
    out.Foreign(Trim(*text));
    return;
  }
  for (const ContentPart& part : AsParts(message)) {
    if (part.type == "text") out.Foreign(Trim(part.text));
  }
}

void WriteToolCalls(const ChatMessage& message, PromptWriter& out) {
  out.Own(kAssistantHead);
  out.Own("<tool_calls>\n");
  for (const ToolCall& call : message.tool_calls) {
    out.Own("{\"name\": \"");
    out.Foreign(call.name);
    out.Own("\", \"arguments\": ");
    out.Foreign(PythonJson(call.arguments));
    out.Own("}\n");
  }
  out.Own("</tool_calls>");
  out.Own(kEndLine);
}

void WriteToolResults(const ChatMessage& message, PromptWriter& out) {
  out.Own(kBegin);
  out.Own("tool name=tools\n");
  const auto result = [&out](std::string_view text) {
    out.Own("tool result: ");
    out.Foreign(text);
    out.Own("\n\n");
  };
  if (const std::string* text = AsString(message)) {
    result(*text);
  } else {
    for (const ContentPart& part : AsParts(message)) {
      if (part.type == "text") {
        result(part.text);
      } else if (!part.name.empty()) {
        out.Own("tool name: ");
        out.Foreign(part.name);
        out.Own("\n");
        result(part.text);
      }
    }
  }
  out.Own(kEndLine);
}

RenderedPrompt RenderMiniMaxM1(const Conversation& conversation) {
  PromptWriter out;
  out.Own(kBeginDocument);
  std::span<const ChatMessage> messages = conversation.messages;

  // 1. The system prompt: a first system message or the default one; an empty message means none.
  const bool has_system = !messages.empty() && messages.front().role == ChatRole::kSystem;
  const std::string_view system = has_system ? Trim(FirstText(messages.front())) : kDefaultSystem;
  if (has_system) messages = messages.subspan(1);
  if (!system.empty()) {
    out.Own(kBegin);
    out.Own("system ai_setting=MiniMax AI\n");
    if (has_system) {
      out.Foreign(system);
    } else {
      out.Own(system);
    }
    out.Own(kEndLine);
  }

  // 2. Tools.
  if (!conversation.tools.is_null()) {
    WriteTools(conversation.tools, R"({"name": <tool-name>, "arguments": <args-json-object>})",
               out);
  }

  // 3. Turns; system messages after the first are not rendered.
  for (const ChatMessage& message : messages) {
    if (!message.tool_calls.empty()) {
      WriteToolCalls(message, out);
    } else if (message.role == ChatRole::kTool) {
      WriteToolResults(message, out);
    } else if (message.role == ChatRole::kUser || message.role == ChatRole::kAssistant) {
      if (message.role == ChatRole::kUser) {
        out.Own(kBegin);
        out.Own("user name=user\n");
      } else {
        out.Own(kAssistantHead);
      }
      WriteTrimmed(message, out);
      out.Own(kEndLine);
    }
  }
  if (conversation.add_generation_prompt) out.Own(kAssistantHead);
  return out.Take();
}

// --- The vendor's form --------------------------------------------------------------------------

constexpr std::string_view kVendorAssistantHead = "<beginning_of_sentence>ai name=assistant\n";

void WriteVendorMessage(const ChatMessage& message, PromptWriter& out) {
  switch (message.role) {
    case ChatRole::kSystem:
      return;
    case ChatRole::kUser:
      out.Own(kBegin);
      out.Own("user name=user\n");
      out.Foreign(FirstText(message));
      break;
    case ChatRole::kAssistant:
      out.Own(kVendorAssistantHead);
      if (const std::string* text = AsString(message)) {
        out.Foreign(*text);
      } else {
        for (const ContentPart& part : AsParts(message)) {
          if (part.type == "text") out.Foreign(part.text);
        }
      }
      break;
    case ChatRole::kTool: {
      out.Own(kBegin);
      out.Own("tool name=tools\n");
      const auto result = [&out](std::string_view name, std::string_view text) {
        out.Own("tool name: ");
        out.Foreign(name);
        out.Own("\ntool result: ");
        out.Foreign(text);
        out.Own("\n\n");
      };
      if (const std::string* text = AsString(message)) {
        result("", *text);
      } else {
        for (const ContentPart& part : AsParts(message)) result(part.name, part.text);
      }
      break;
    }
  }
  out.Own(kEndLine);
}

RenderedPrompt RenderVendor(const Conversation& conversation) {
  PromptWriter out;
  out.Own(kBeginDocument);
  // 1. The first part of every system message, joined.
  const auto is_system = [](const ChatMessage& m) {
    return m.role == ChatRole::kSystem && !FirstText(m).empty();
  };
  if (std::any_of(conversation.messages.begin(), conversation.messages.end(), is_system)) {
    out.Own(kBegin);
    out.Own("system ai_setting=assistant\n");
    for (const ChatMessage& message : conversation.messages) {
      if (message.role == ChatRole::kSystem) out.Foreign(FirstText(message));
    }
    out.Own(kEndLine);
  }
  // 2. Tools.
  if (!conversation.tools.empty()) {
    WriteTools(conversation.tools, R"({"name": <tool-name-1>, "arguments": <args-json-object-1>})",
               out);
  }
  // 3. Turns.
  for (const ChatMessage& message : conversation.messages) WriteVendorMessage(message, out);
  if (conversation.add_generation_prompt) out.Own(kVendorAssistantHead);
  return out.Take();
}

}  // namespace

std::optional<ChatTemplateKind> FindChatTemplate(std::string_view name) {
  for (const ChatTemplateKind kind : {ChatTemplateKind::kMiniMaxM1, ChatTemplateKind::kVendor}) {
    if (ChatTemplateName(kind) == name) return kind;
  }
  return std::nullopt;
}

std::string_view ChatTemplateName(ChatTemplateKind kind) {
  return kind == ChatTemplateKind::kMiniMaxM1 ? "minimax-m1" : "vendor";
}

RenderedPrompt RenderChat(const Conversation& conversation, ChatTemplateKind kind) {
  if (!conversation.tools.is_null() && !conversation.tools.is_array()) {
    throw std::invalid_argument("tools: must be an array");
  }
  return kind == ChatTemplateKind::kMiniMaxM1 ? RenderMiniMaxM1(conversation)
                                              : RenderVendor(conversation);
}

Conversation SingleTurn(std::string_view user, std::string_view system) {
  Conversation conversation;
  if (!system.empty()) {
    conversation.messages.push_back({ChatRole::kSystem, std::string(system), {}});
  }
  conversation.messages.push_back({ChatRole::kUser, std::string(user), {}});
  return conversation;
}

bool SupportsChat(const Tokenizer& tokenizer) {
  constexpr std::array<std::string_view, 3> kTokens = {kBeginDocument, kBegin, kEnd};
  return std::all_of(kTokens.begin(), kTokens.end(), [&](std::string_view text) {
    const std::optional<TokenId> id = tokenizer.Find(text);
    return id && tokenizer.IsSpecial(*id);
  });
}

}  // namespace stoker
