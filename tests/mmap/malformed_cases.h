#pragma once

// The hand-made malformed models: each writes its files into an empty directory, returns the path
// to open, and says what the refusal must name. Grouped by what is wrong; the numbers of public
// advisories stand beside the cases they gave rise to.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/checkpoint_builder.h"
#include "tests/support/child_process.h"
#include "tests/support/gguf_builder.h"

namespace stoker::test {

struct MalformedCase {
  std::string name;
  std::function<std::filesystem::path(const std::filesystem::path& directory)> write;
  std::string file;    // must occur in the message, as must the next two
  std::string field;
  std::string reason;
};

// A GGUF file "model.gguf" from a tiny valid one, changed.
MalformedCase GgufCase(std::string name, std::function<void(RawGguf&)> change, std::string field,
                       std::string reason);
// A GGUF file "model.gguf" of exactly these bytes.
MalformedCase BytesCase(std::string name, std::string bytes, std::string field,
                        std::string reason);
// A safetensors directory from a tiny valid one, changed; `file` is the one at fault.
MalformedCase CheckpointCase(std::string name, std::function<void(RawCheckpoint&)> change,
                             std::string file, std::string field, std::string reason);

std::vector<MalformedCase> GgufSyntaxCases();      // header, metadata, tensor table
std::vector<MalformedCase> GgufModelCases();       // config and tensors of the model, split sets
std::vector<MalformedCase> SafetensorsCases();     // one shard's header
std::vector<MalformedCase> IndexCases();           // index.json, shards, paths
std::vector<MalformedCase> ConfigJsonCases();

// All of the above.
std::vector<MalformedCase> AllMalformedCases();

// Opens a model in a child process; the answer is the refusal, empty when it opened.
ChildResult OpenInChild(const std::filesystem::path& path);

// The bound on memory: 64 MiB and eight times the bytes of the files under `directory`.
uint64_t AllowedPeakBytes(const std::filesystem::path& directory);

}  // namespace stoker::test
