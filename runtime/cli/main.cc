// The stoker command. The one place that knows all commands; everything else is in their files.

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <string>
#include <vector>

#include "numa/system_files.h"
#include "runtime/cli/bench_command.h"
#include "runtime/cli/chat_command.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/inspect_command.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/logits_command.h"
#include "runtime/cli/output.h"
#include "runtime/cli/perplexity_command.h"
#include "runtime/cli/probe_command.h"
#include "runtime/cli/run_command.h"
#include "runtime/cli/sim_command.h"
#include "runtime/cli/synth_command.h"
#include "runtime/cli/trace_command.h"

int main(int argc, char** argv) {
  stoker::ReserveStandardDescriptors();
  stoker::RaiseOpenFileLimit();
  stoker::InstallInterruptHandler();
  // stdout is for results.
  spdlog::set_default_logger(spdlog::stderr_color_mt("stoker"));
  spdlog::set_pattern("stoker: %v");

  const std::array<stoker::Command, 10> commands = {{
      {"run", "answer one prompt", stoker::DeclareRun},
      {"chat", "hold a conversation in the terminal", stoker::DeclareChat},
      {"inspect", "show what is in a model's files and what it needs", stoker::DeclareInspect},
      {"bench", "measure prefill and decode speed", stoker::DeclareBench},
      {"perplexity", "measure how well a model predicts a text", stoker::DeclarePerplexity},
      {"logits", "write raw logits to a file, for comparing engines", stoker::DeclareLogits},
      {"synth", "write a model of M1's shape with random weights", stoker::DeclareSynth},
      {"probe", "show what this machine offers and what holds it back", stoker::DeclareProbe},
      {"sim", "replay a routing trace through cache policies", stoker::DeclareSim},
      {"trace", "convert a routing trace, or make one up", stoker::DeclareTrace},
  }};
  return stoker::RunCommandLine(commands, std::vector<std::string>(argv + 1, argv + argc));
}
