#pragma once

// What the two readers hand to WeightStore: the plain result of opening a model, before it becomes
// immutable. StoreBuilder collects tensors one at a time, checks each against the config, and
// refuses to finish while one is missing. Internal to mmap/; not thread-safe.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/file_mapping.h"
#include "mmap/gguf_reader.h"
#include "mmap/model_config.h"
#include "mmap/tensor_names.h"
#include "mmap/weight_store.h"

namespace stoker {

// Everything a WeightStore holds. gguf_metadata borrows from mappings[0].
struct StoreContents {
  ModelConfig config;
  std::vector<StoredFile> files;
  std::vector<FileMapping> mappings;  // as files; empty when parsed from memory
  std::vector<StoredTensor> tensors;
  std::map<std::string, uint32_t, std::less<>> by_name;  // canonical name -> index into tensors
  std::vector<ExpertPartExtent> experts;                 // [n_layers, n_experts, kExpertParts]
  std::vector<float> row_scales;                         // of every row of every kInt8Row
  std::optional<GgufMetadata> gguf_metadata;
  std::filesystem::path directory;
  std::string_view format;
};

// One tensor as a reader found it, its extent already checked against the file.
struct FoundTensor {
  std::string_view name;  // as spelled in the file
  DType type = DType::kF32;
  std::vector<int64_t> shape;  // slowest first
  FileExtent extent;
};

// A tensor that holds the scales of another one's rows.
struct FoundScales {
  std::string name;
  DType type = DType::kF32;
  FileExtent extent;
};

// How a format stores a model.
enum class StoreLayout : uint8_t { kGguf, kSafetensors };

class StoreBuilder {
 public:
  // Fills `contents`, whose config and files are set; `config_file` names the config's origin in
  // errors.
  StoreBuilder(StoreContents& contents, StoreLayout layout, std::string config_file);

  // Checks name, shape and type against the config. Throws FormatError naming file and tensor. In a
  // checkpoint an I8 matrix is kInt8Row, whose scales are the tensor of its name with "_scale"
  // behind.
  void Add(const FoundTensor& tensor);

  // Throws FormatError naming the first tensor that is missing, or a scale that is no number.
  // Decides config.tied_embeddings, reads the scales of rows through the mappings and fills the
  // expert table.
  void Finish();

 private:
  std::optional<TensorKey> Parse(std::string_view name) const;
  std::string FileName(const TensorKey& key) const;
  void AddScales(const FoundTensor& scales);
  void ReadScales();
  void FillExperts();

  StoreContents& contents_;
  StoreLayout layout_;
  std::string config_file_;
  std::map<std::string, FoundScales, std::less<>> scales_;  // by canonical name of the weight
};

// The two readers. Both throw as WeightStore::Open says.
StoreContents OpenGguf(const std::filesystem::path& path);
StoreContents OpenSafetensors(const std::filesystem::path& directory);

// The part of OpenGguf after parsing: reads the config from the first part and adds the tensors of
// all. contents.files must name the parts. Separate so that it runs on memory, too.
void BindGguf(const std::vector<GgufFile>& parts, StoreContents& contents);

}  // namespace stoker
