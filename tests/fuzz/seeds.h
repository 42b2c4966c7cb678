#pragma once

// Seed inputs for the fuzz targets, made at start-up from the tests' builders, so that no binary
// corpus is kept in the repository: a target hands them to libFuzzer by writing them beside its
// corpus before the first run.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/temp_dir.h"

namespace stoker::test {

// The corpus directory is the last argument that is no flag. Adds each seed to it as "seed-N".
inline void WriteSeeds(int argc, char** argv, const std::vector<std::string>& seeds) {
  for (int i = argc - 1; i > 0; --i) {
    if (std::string_view(argv[i]).starts_with('-')) continue;
    if (!std::filesystem::is_directory(argv[i])) return;
    int number = 0;
    for (const std::string& seed : seeds) {
      WriteFile(std::filesystem::path(argv[i]) / ("seed-" + std::to_string(number++)), seed);
    }
    return;
  }
}

}  // namespace stoker::test
