#pragma once

// A TempDir filled with small files by path: the manual fake of /proc and /sys. Not thread-safe.

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/support/temp_dir.h"

namespace stoker {

class FileTree {
 public:
  FileTree() : root_(directory_.path().string()) {}

  // Creates the directories on the way; `path` begins with a slash.
  FileTree& Write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ + std::string(path);
    std::filesystem::create_directories(file.parent_path());
    test::WriteFile(file, text);
    return *this;
  }

  const std::string& root() const { return root_; }

 private:
  test::TempDir directory_;
  std::string root_;
};

}  // namespace stoker
