#include "mmap/kept_values.h"

#include <exception>
#include <fstream>
#include <sstream>
#include <utility>

#include "mmap/atomic_file.h"
#include "numa/check.h"
#include "numa/system_files.h"

namespace stoker {

KeptValues::KeptValues(std::filesystem::path path, std::string key)
    : path_(std::move(path)), key_(std::move(key)) {
  STOKER_CHECK(key_.find('\n') == std::string::npos);
  if (path_.empty()) return;
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line) || line != key_) return;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string name;
    int64_t value = 0;
    if (fields >> name >> value) values_[name] = value;
  }
}

std::optional<int64_t> KeptValues::Find(std::string_view name, int64_t least, int64_t most) const {
  const auto found = values_.find(name);
  if (found == values_.end() || found->second < least || found->second > most) return std::nullopt;
  return found->second;
}

void KeptValues::Set(std::string_view name, int64_t value) {
  values_[std::string(name)] = value;
  changed_ = true;
}

bool KeptValues::Keep() {
  if (!changed_) return true;
  if (path_.empty()) return false;
  std::string text = key_ + "\n";
  for (const auto& [name, value] : values_) text += name + " " + std::to_string(value) + "\n";
  try {
    std::filesystem::create_directories(path_.parent_path());
    AtomicFile file(path_);
    file.Write(text);
    file.Commit();
    changed_ = false;
    return true;
  } catch (const std::exception&) {
    return false;  // then the next run measures again
  }
}

std::filesystem::path CacheDirectory() { return UserDirectory("XDG_CACHE_HOME", ".cache"); }

}  // namespace stoker
