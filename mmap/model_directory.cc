#include "mmap/model_directory.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "mmap/format_error.h"

namespace stoker {
namespace {

namespace fs = std::filesystem;

bool IsInside(const fs::path& path, const fs::path& root) {
  const auto [root_end, at] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return root_end == root.end() && at != path.end();
}

}  // namespace

bool HasFile(const fs::path& directory, std::string_view name) {
  std::error_code ignored;
  return fs::symlink_status(directory / name, ignored).type() != fs::file_type::not_found;
}

fs::path ResolveInside(const fs::path& directory, std::string_view name) {
  const fs::path path = directory / name;
  std::error_code error;
  const fs::path resolved = fs::canonical(path, error);
  if (error) throw std::system_error(error, PrintablePath(path.native()) + ": cannot open");
  const fs::path root = fs::canonical(directory);
  if (IsInside(resolved, root)) return resolved;
  if (root.parent_path().filename() == "snapshots" &&
      IsInside(resolved, root.parent_path().parent_path() / "blobs")) {
    return resolved;
  }
  throw FormatError(path.native(), "path", "is a link to \"" + PrintablePath(resolved.native()) +
                                               "\", outside the model's directory");
}

FileMapping MapTextFile(const fs::path& directory, std::string_view name, uint64_t max_bytes) {
  FileMapping mapping = FileMapping::Open(ResolveInside(directory, name));
  if (mapping.size() > max_bytes) {
    throw FormatError((directory / name).native(), "file",
                      "has " + std::to_string(mapping.size()) + " bytes, at most " +
                          std::to_string(max_bytes) + " are sensible");
  }
  return mapping;
}

std::string_view TextOf(const FileMapping& mapping) {
  return {reinterpret_cast<const char*>(mapping.bytes().data()), mapping.bytes().size()};
}

}  // namespace stoker
