#pragma once

// The files of a model's directory by their names: symbolic links are resolved, and what they lead
// to must lie inside. Functions of the file system without state; thread-safe.

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "mmap/file_mapping.h"

namespace stoker {

// Whether the directory has such a name; a link to nothing is one.
bool HasFile(const std::filesystem::path& directory, std::string_view name);

// The file behind a name in the directory. It must lie in the directory itself or, in a Hugging
// Face cache (REPO/snapshots/REVISION of links into REPO/blobs), among the blobs of the same
// repository. Throws std::system_error when there is none, FormatError when it lies elsewhere.
std::filesystem::path ResolveInside(const std::filesystem::path& directory, std::string_view name);

// A text file of the directory, mapped. Throws as ResolveInside and FileMapping::Open do, and
// FormatError beyond max_bytes, which no such file has.
FileMapping MapTextFile(const std::filesystem::path& directory, std::string_view name,
                        uint64_t max_bytes);
// Its text; lives as long as the mapping.
std::string_view TextOf(const FileMapping& mapping);

}  // namespace stoker
