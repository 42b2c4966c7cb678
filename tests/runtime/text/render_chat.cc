// Reads a JSON array of {"messages", "tools", "add_generation_prompt"} on standard input and writes
// an array of {"minimax-m1", "vendor"}: what both templates render. For make_chat_cases.py.

#include <iostream>
#include <nlohmann/json.hpp>

#include "runtime/text/chat_template.h"

int main() {
  using stoker::ChatTemplateKind;
  const auto cases = nlohmann::ordered_json::parse(std::cin);
  auto rendered = nlohmann::ordered_json::array();
  for (const auto& test : cases) {
    const stoker::Conversation conversation{stoker::ParseMessages(test["messages"]), test["tools"],
                                            test["add_generation_prompt"].get<bool>()};
    nlohmann::ordered_json texts;
    for (const auto kind : {ChatTemplateKind::kMiniMaxM1, ChatTemplateKind::kVendor}) {
      texts[std::string(ChatTemplateName(kind))] = RenderChat(conversation, kind).text;
    }
    rendered.push_back(texts);
  }
  std::cout << rendered.dump() << '\n';
}
