// Reads messages in the form chat APIs use into ChatMessage values.

#include <stdexcept>

#include "runtime/text/chat_template.h"

namespace stoker {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void Fail(const std::string& field, const std::string& reason) {
  throw std::invalid_argument(field + ": " + reason);
}

const Json& Object(const Json& value, const std::string& field) {
  if (!value.is_object()) Fail(field, "must be an object");
  return value;
}

// A string member; absent and null read as "".
std::string Text(const Json& object, const char* key, const std::string& field) {
  const auto member = object.find(key);
  if (member == object.end() || member->is_null()) return {};
  if (!member->is_string()) Fail(field + "." + key, "must be a string");
  return member->get<std::string>();
}

ChatRole Role(const std::string& name, const std::string& field) {
  if (name == "system" || name == "developer") return ChatRole::kSystem;
  if (name == "user") return ChatRole::kUser;
  if (name == "assistant") return ChatRole::kAssistant;
  if (name == "tool" || name == "ipython") return ChatRole::kTool;
  Fail(field, "must be system, user, assistant or tool");
}

ContentPart Part(const Json& value, const std::string& field) {
  Object(value, field);
  ContentPart part;
  part.type = Text(value, "type", field);
  part.text = Text(value, "text", field);
  part.name = Text(value, "name", field);
  return part;
}

ToolCall Call(const Json& value, const std::string& field) {
  Object(value, field);
  const auto function = value.find("function");
  if (function == value.end()) Fail(field + ".function", "is missing");
  Object(*function, field + ".function");
  ToolCall call;
  call.name = Text(*function, "name", field + ".function");
  if (call.name.empty()) Fail(field + ".function.name", "is missing or empty");
  const auto arguments = function->find("arguments");
  if (arguments == function->end()) {
    call.arguments = Json::object();
  } else if (arguments->is_string()) {
    // Chat APIs send the arguments as JSON text; the template wants the value.
    const auto& text = arguments->get_ref<const std::string&>();
    call.arguments = text.empty() ? Json::object() : Json::parse(text, nullptr, false);
    if (call.arguments.is_discarded()) Fail(field + ".function.arguments", "is not JSON");
  } else {
    call.arguments = *arguments;
  }
  return call;
}

}  // namespace

std::vector<ChatMessage> ParseMessages(const Json& messages) {
  if (!messages.is_array()) Fail("messages", "must be an array");
  std::vector<ChatMessage> parsed;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string field = "messages[" + std::to_string(i) + "]";
    const Json& value = Object(messages[i], field);
    ChatMessage message;
    message.role = Role(Text(value, "role", field), field + ".role");
    const auto content = value.find("content");
    if (content != value.end() && content->is_array()) {
      std::vector<ContentPart> parts;
      for (size_t k = 0; k < content->size(); ++k) {
        parts.push_back(Part((*content)[k], field + ".content[" + std::to_string(k) + "]"));
      }
      message.content = std::move(parts);
    } else if (content != value.end() && content->is_string()) {
      message.content = content->get<std::string>();
    } else if (content != value.end() && !content->is_null()) {
      Fail(field + ".content", "must be a string or an array");
    }
    const auto calls = value.find("tool_calls");
    if (calls != value.end() && !calls->is_null()) {
      if (!calls->is_array()) Fail(field + ".tool_calls", "must be an array");
      for (size_t k = 0; k < calls->size(); ++k) {
        message.tool_calls.push_back(
            Call((*calls)[k], field + ".tool_calls[" + std::to_string(k) + "]"));
      }
    }
    parsed.push_back(std::move(message));
  }
  return parsed;
}

}  // namespace stoker
