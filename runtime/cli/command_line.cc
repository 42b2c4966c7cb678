#include "runtime/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <new>
#include <string_view>
#include <utility>

#include "numa/nearest_name.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/output.h"
#include "runtime/text/utf8.h"
#include "stoker_version.h"

namespace stoker {
namespace {

// llama.cpp's short flags of several letters, which CLI11 would take for bundled single ones.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kLongShortFlags = {{
    {"-ub", "--ubatch-size"},
    {"-ctk", "--cache-type-k"},
    {"-ctv", "--cache-type-v"},
    {"-sys", "--system-prompt"},
    {"-rt", "--random-tokens"},
}};

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::string DidYouMean(const std::string& nearest) {
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest);
}

bool LooksLikeOption(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' && argument[1] != '.' &&
         (argument[1] < '0' || argument[1] > '9');
}

// Spells multi-letter short flags in full and refuses options the command does not have, before
// CLI11 sees them: its own message neither names the nearest one nor comes first when a
// required argument is missing too. Cuts --name=value in two, since CLI11 takes the next argument
// for an empty value and keeps the '=' behind a short name.
std::vector<std::string> NormalisedArguments(const CLI::App& app,
                                             const std::vector<std::string>& arguments) {
  std::vector<std::string> normalised;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {  // No options from here on.
      normalised.insert(normalised.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i),
                        arguments.end());
      break;
    }
    if (!LooksLikeOption(argument)) {
      normalised.push_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    std::string name = argument.substr(0, equals);
    for (const auto& [flag, long_name] : kLongShortFlags) {
      if (name == flag && app.get_option_no_throw(std::string(long_name)) != nullptr) {
        name = long_name;
        break;
      }
    }
    const CLI::Option* option = app.get_option_no_throw(name);
    if (option == nullptr || (name[1] != '-' && name.size() > 2)) {
      throw UsageError(fmt::format("unknown option {}{}", name,
                                   DidYouMean(NearestName(name, OptionNames(app)))));
    }
    const bool has_value = equals != std::string::npos;
    if (option->get_items_expected_min() == 0) {
      normalised.push_back(has_value ? name + argument.substr(equals) : name);
      continue;
    }
    normalised.push_back(name);
    if (has_value) {
      normalised.push_back(argument.substr(equals + 1));
    } else if (i + 1 < arguments.size()) {
      normalised.push_back(arguments[++i]);  // Whatever it begins with: -p "--- hello".
    }
  }
  return normalised;
}

// An argument nobody asked for is often a prompt without its option, or a piece of one.
std::string Unexpected(const CLI::App& app) {
  constexpr size_t kMostShown = 40;
  const std::vector<std::string> left = app.remaining();
  std::string argument = left.empty() ? "" : left.front();
  if (argument.size() > kMostShown) {
    argument.resize(ValidUtf8Prefix(argument.substr(0, kMostShown)));
    argument += "...";
  }
  const bool takes_prompt = app.get_option_no_throw("--prompt") != nullptr;
  return fmt::format("unexpected argument \"{}\"; {}", argument,
                     takes_prompt ? "give the prompt as -p \"...\"" : "see --help");
}

std::string Overview(std::span<const Command> commands) {
  std::string text = "stoker " STOKER_VERSION_STRING
                     " - runs MiniMax-M1 on the CPU, from the files you downloaded\n\n"
                     "usage: stoker COMMAND [options]\n\n";
  for (const Command& command : commands) {
    text += fmt::format("  {:<12}{}\n", command.name, command.summary);
  }
  text += "\n`stoker COMMAND --help` explains the options of a command.\n";
  return text;
}

int Usage(const std::string& message) {
  PrintError(message);
  return kExitUsage;
}

// Help and version: what was asked for, so a stdout that cannot take it is an error.
int Show(std::string_view text) {
  try {
    TextOutput().Write(text);
    return kExitDone;
  } catch (const StdoutError& error) {
    PrintError(error.what());
    return kExitError;
  }
}

const Command* FindCommand(std::span<const Command> commands, std::string_view name) {
  const auto found = std::find_if(commands.begin(), commands.end(),
                                  [&](const Command& command) { return command.name == name; });
  return found == commands.end() ? nullptr : &*found;
}

int RunCommand(const Command& command, std::vector<std::string> arguments) {
  CLI::App app(std::string(command.summary), fmt::format("stoker {}", command.name));
  app.get_formatter()->column_width(34);
  const std::function<int()> run = command.declare(app);
  try {
    arguments = NormalisedArguments(app, arguments);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back.
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    return Show(app.help());
  } catch (const CLI::ExtrasError&) {
    return Usage(fmt::format("{}: {}", command.name, Unexpected(app)));
  } catch (const CLI::ParseError& error) {
    return Usage(fmt::format("{}: {}", command.name, error.what()));
  } catch (const UsageError& error) {
    return Usage(fmt::format("{}: {}", command.name, error.what()));
  }
  try {
    return run();
  } catch (const UsageError& error) {
    return Usage(fmt::format("{}: {}", command.name, error.what()));
  } catch (const InterruptedError&) {
    return kExitInterrupted;
  } catch (const std::bad_alloc&) {
    PrintError("out of memory; lower -c, or --memory, or close other programs");
  } catch (const std::exception& error) {
    PrintError(error.what());
  }
  return kExitError;
}

}  // namespace

void PrintError(std::string_view message) {
  std::string line = "stoker: ";
  for (const char c : message) line.push_back(c == '\n' || c == '\r' ? ' ' : c);
  while (line.back() == ' ') line.pop_back();
  line.push_back('\n');
  std::fputs(line.c_str(), stderr);
}

int RunCommandLine(std::span<const Command> commands, std::vector<std::string> arguments) {
  if (arguments.empty()) {
    std::fputs(Overview(commands).c_str(), stderr);
    return kExitUsage;
  }
  std::string name = arguments.front();
  arguments.erase(arguments.begin());
  if (name == "help" && !arguments.empty()) {  // `stoker help run` is `stoker run --help`.
    name = arguments.front();
    arguments = {"--help"};
  }
  if (name == "--help" || name == "-h" || name == "help") {
    return Show(Overview(commands));
  }
  if (name == "--version" || name == "version") {
    return Show("stoker " STOKER_VERSION_STRING "\n");
  }
  if (const Command* command = FindCommand(commands, name)) {
    return RunCommand(*command, std::move(arguments));
  }
  std::vector<std::string> names = {"--help", "--version"};
  for (const Command& command : commands) names.emplace_back(command.name);
  const std::string nearest = NearestName(name, names);
  return Usage(fmt::format("unknown command {}{}{}", name, DidYouMean(nearest),
                           nearest.empty() ? "; see stoker --help" : ""));
}

}  // namespace stoker
