#include "numa/system_files.h"

#include <sys/resource.h>

#include <cstdlib>
#include <fstream>

namespace stoker {

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string StatusField(const std::filesystem::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key) || line.find(':') != key.size()) continue;
    const size_t value = line.find_first_not_of(" \t", key.size() + 1);
    return value == line.npos ? "" : line.substr(value);
  }
  return "";
}

std::filesystem::path UserDirectory(const char* variable, const char* fallback) {
  const char* chosen = std::getenv(variable);
  if (chosen != nullptr && *chosen == '/') return std::filesystem::path(chosen) / "stoker";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path(home) / fallback / "stoker";
}

void RaiseOpenFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // What the old one is too small for will say so.
}

}  // namespace stoker
