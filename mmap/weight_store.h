#pragma once

// Weights at rest: opens what the user downloaded, a GGUF file (single or split) or a safetensors
// directory, validates every header once, and answers "which bytes are this tensor". Tensor names
// are canonical (the GGUF names of llama.cpp's minimax-01, see mmap/tensor_names.h) whichever
// format the file has. The store owns file descriptors and read-only mappings; views borrow from it
// and live as long as it does. Immutable after Open: thread-safe. It neither caches nor decodes.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mmap/file_mapping.h"
#include "mmap/gguf_reader.h"
#include "mmap/model_config.h"
#include "mmap/tensor_view.h"

namespace stoker {

// A contiguous range of one file. `file` indexes WeightStore::files().
struct FileExtent {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct ExpertId {
  int32_t layer = 0;
  int32_t expert = 0;
  friend bool operator==(const ExpertId&, const ExpertId&) = default;
};

enum class ExpertPart : uint8_t { kGate = 0, kUp = 1, kDown = 2 };  // w1, w3, w2
inline constexpr int kExpertParts = 3;

// One matrix of one expert, [rows, cols]: where it is and what it is.
struct ExpertPartExtent {
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  FileExtent extent;
  int64_t first_scale = 0;  // of kInt8Row, see StoredTensor
};

struct StoredTensor {
  std::string name;          // canonical: "blk.3.attn_qkv.weight"
  std::string file_name;     // as spelled in the file
  DType type = DType::kF32;
  std::vector<int64_t> shape;  // slowest first
  FileExtent extent;
  // Of kInt8Row: the tensor that holds the scales of its rows, and where they begin among all of
  // the store, which has read them.
  FileExtent scales;
  int64_t first_scale = 0;
};

struct StoredFile {
  std::filesystem::path path;
  uint64_t bytes = 0;
};

struct StoreContents;

class WeightStore {
 public:
  // path: a .gguf file (any one part of a split set finds the others), or a directory holding
  // config.json and safetensors. Throws std::runtime_error with one line "FILE: FIELD: reason" for
  // anything malformed, truncated, unsupported or missing (std::system_error, also naming the file,
  // when the system refuses to open or map it); all tensors of the model are there afterwards, with
  // the shapes the config demands. Reads headers only, and the scales of INT8 rows: no other tensor
  // data is touched.
  static std::unique_ptr<WeightStore> Open(const std::filesystem::path& path);
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  const ModelConfig& config() const { return config_; }
  const std::vector<StoredFile>& files() const { return files_; }
  // Every tensor of the files in file order, experts in the form the file has (GGUF: stacked 3-D,
  // "blk.3.ffn_gate_exps.weight"; safetensors: one each, "blk.3.ffn_gate.7.weight").
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  uint64_t total_bytes() const;  // of tensor data
  // Memory that the scales of INT8 rows take, as long as the store lives.
  uint64_t row_scale_bytes() const { return row_scales_.size() * sizeof(float); }
  uint64_t expert_bytes_per_token() const;  // top_k experts of every layer
  std::string_view format() const { return format_; }  // "GGUF v3" or "safetensors"
  // The directory that holds the files: where a safetensors model keeps its tokenizer.json.
  const std::filesystem::path& directory() const { return directory_; }
  // Metadata of a GGUF model (its first part), for the tokenizer; nullptr for a directory. Lives as
  // long as the store, as do all views obtained from it.
  const GgufMetadata* gguf_metadata() const;

  // A tensor by canonical name, as listed in tensors(); nullptr when absent. Experts are better
  // reached by Expert().
  const StoredTensor* Find(std::string_view name) const;
  // Throws std::runtime_error naming the tensor and the file when absent.
  const StoredTensor& Get(std::string_view name) const;
  // The mapped bytes of an extent: valid for the store's lifetime. Touching them pages in.
  const std::byte* Mapped(const FileExtent& extent) const;
  TensorView View(const StoredTensor& tensor) const;
  // TensorView::row_unit of a tensor: the rows of q, k and v of a lightning head; those of a kv
  // head, with its group of queries in q; 1 for all others.
  int64_t RowUnit(const StoredTensor& tensor) const;

  // One matrix of one expert. The id must be one of the config's; anything else is a bug.
  ExpertPartExtent Expert(ExpertId id, ExpertPart part) const;
  TensorView ExpertView(ExpertId id, ExpertPart part) const;  // through the mapping

  // Read-only descriptor of files()[i], for pagers.
  int fd(uint32_t file) const;

 private:
  // TensorView::row_scales.
  const float* RowScales(DType type, int64_t first_scale) const {
    return type == DType::kInt8Row ? row_scales_.data() + first_scale : nullptr;
  }

  explicit WeightStore(StoreContents&& contents);

  ModelConfig config_;
  std::vector<StoredFile> files_;
  std::vector<FileMapping> mappings_;  // as files_
  std::vector<StoredTensor> tensors_;
  std::map<std::string, uint32_t, std::less<>> by_name_;
  std::vector<ExpertPartExtent> experts_;  // [n_layers, n_experts, kExpertParts]
  std::vector<float> row_scales_;          // of every row of every kInt8Row
  std::optional<GgufMetadata> gguf_metadata_;
  std::filesystem::path directory_;
  std::string_view format_;
};

}  // namespace stoker
