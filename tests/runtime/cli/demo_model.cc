#include "tests/runtime/cli/demo_model.h"

#include <cstdlib>
#include <stdexcept>

#include "tests/runtime/cli/stoker_process.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

struct World {
  TempDir dir;
  std::string model;
  World() : model((dir / "demo.gguf").string()) {
    // History of chat and the like belong here, not into the user's home.
    ::setenv("XDG_STATE_HOME", dir.path().c_str(), 1);
    ::setenv("XDG_CACHE_HOME", dir.path().c_str(), 1);
    const ProcessResult made =
        RunStoker({"synth", model, "--preset", "demo", "--hidden", "128", "--expert-hidden", "128",
                   "--vocab", "1024", "--type", "q8_0"});
    if (made.exit_code != 0) throw std::runtime_error("synth failed: " + made.err);
  }
};

}  // namespace

const std::string& Model() {
  static const World world;
  return world.model;
}

}  // namespace stoker::test
