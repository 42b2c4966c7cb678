#pragma once

// A small text file of numbers that took time to measure and may be lost at any moment: a key in
// the first line that says what they are of, then "name value" lines. A file that is missing,
// damaged or of another key has no values; one that cannot be written is done without. Not
// thread-safe; processes may write at the same time, the last one wins.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace stoker {

class KeptValues {
 public:
  // An empty path: nothing is read or kept. The key is one line.
  KeptValues(std::filesystem::path path, std::string key);

  // nullopt also for what lies outside [least, most].
  std::optional<int64_t> Find(std::string_view name, int64_t least, int64_t most) const;
  void Set(std::string_view name, int64_t value);
  // Writes the file if anything was set; false when it cannot be.
  bool Keep();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::string key_;
  std::map<std::string, int64_t, std::less<>> values_;
  bool changed_ = false;
};

// ${XDG_CACHE_HOME:-~/.cache}/stoker; empty when there is no home.
std::filesystem::path CacheDirectory();

}  // namespace stoker
