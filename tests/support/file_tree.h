#pragma once

// A directory that lives as long as the value, filled with small files: the manual fake of /proc
// and /sys. Not thread-safe.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace stoker {

class FileTree {
 public:
  FileTree() {
    std::string pattern = (std::filesystem::temp_directory_path() / "stoker-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
    root_ = pattern;
  }
  FileTree(const FileTree&) = delete;
  FileTree& operator=(const FileTree&) = delete;
  ~FileTree() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  // Creates the directories on the way; `path` begins with a slash.
  FileTree& Write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ + std::string(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return *this;
  }

  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

}  // namespace stoker
