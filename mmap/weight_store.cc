#include "mmap/weight_store.h"

#include <system_error>
#include <utility>

#include "mmap/format_error.h"
#include "mmap/store_contents.h"
#include "numa/check.h"

namespace stoker {
namespace {

size_t ExpertIndex(const ModelConfig& config, ExpertId id, ExpertPart part) {
  STOKER_CHECK(id.layer >= 0 && id.layer < config.n_layers);
  STOKER_CHECK(id.expert >= 0 && id.expert < config.n_experts);
  return static_cast<size_t>((id.layer * config.n_experts + id.expert) * kExpertParts +
                             static_cast<int64_t>(part));
}

}  // namespace

std::unique_ptr<WeightStore> WeightStore::Open(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw FormatError(path.native(), "model", "no such file or directory");
  }
  if (path.extension() == ".safetensors") {
    throw FormatError(path.native(), "model",
                      "is a part of a model; give the directory that holds it and config.json");
  }
  StoreContents contents = status.type() == std::filesystem::file_type::directory
                               ? OpenSafetensors(path)
                               : OpenGguf(path);
  return std::unique_ptr<WeightStore>(new WeightStore(std::move(contents)));
}

WeightStore::WeightStore(StoreContents&& contents)
    : config_(std::move(contents.config)),
      files_(std::move(contents.files)),
      mappings_(std::move(contents.mappings)),
      tensors_(std::move(contents.tensors)),
      by_name_(std::move(contents.by_name)),
      experts_(std::move(contents.experts)),
      row_scales_(std::move(contents.row_scales)),
      gguf_metadata_(std::move(contents.gguf_metadata)),
      directory_(std::move(contents.directory)),
      format_(contents.format) {}

WeightStore::~WeightStore() = default;

uint64_t WeightStore::total_bytes() const {
  // Extents are disjoint and inside their files, so the sum is below that of the file sizes.
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : tensors_) bytes += tensor.extent.bytes + tensor.scales.bytes;
  return bytes;
}

uint64_t WeightStore::expert_bytes_per_token() const {
  uint64_t bytes = 0;
  for (int32_t layer = 0; layer < config_.n_layers; ++layer) {
    for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
      bytes += Expert({layer, 0}, part).extent.bytes *
               static_cast<uint64_t>(config_.n_experts_per_token);
    }
  }
  return bytes;
}

const GgufMetadata* WeightStore::gguf_metadata() const {
  return gguf_metadata_ ? &*gguf_metadata_ : nullptr;
}

const StoredTensor* WeightStore::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

const StoredTensor& WeightStore::Get(std::string_view name) const {
  const StoredTensor* tensor = Find(name);
  if (tensor == nullptr) {
    throw FormatError(files_[0].path.native(), "tensor \"" + Printable(name) + "\"",
                      "missing from the model's files");
  }
  return *tensor;
}

const std::byte* WeightStore::Mapped(const FileExtent& extent) const {
  STOKER_CHECK(extent.file < mappings_.size());
  const std::span<const std::byte> bytes = mappings_[extent.file].bytes();
  STOKER_CHECK(extent.offset <= bytes.size() && extent.bytes <= bytes.size() - extent.offset);
  return bytes.data() + extent.offset;
}

TensorView WeightStore::View(const StoredTensor& tensor) const {
  TensorView view;
  view.type = tensor.type;
  view.n_dims = static_cast<int>(tensor.shape.size());
  for (size_t d = 0; d < tensor.shape.size(); ++d) view.shape[d] = tensor.shape[d];
  view.data = Mapped(tensor.extent);
  view.bytes = tensor.extent.bytes;
  view.row_unit = RowUnit(tensor);
  view.row_scales = RowScales(tensor.type, tensor.first_scale);
  return view;
}

int64_t WeightStore::RowUnit(const StoredTensor& tensor) const {
  const auto is = [&](std::string_view part) { return tensor.name.ends_with(part); };
  if (is(".attn_qkv.weight")) return 3 * config_.head_dim;
  if (is(".attn_q.weight")) return config_.n_heads / config_.n_kv_heads * config_.head_dim;
  if (is(".attn_k.weight") || is(".attn_v.weight")) return config_.head_dim;
  return 1;
}

ExpertPartExtent WeightStore::Expert(ExpertId id, ExpertPart part) const {
  return experts_[ExpertIndex(config_, id, part)];
}

TensorView WeightStore::ExpertView(ExpertId id, ExpertPart part) const {
  const ExpertPartExtent& found = experts_[ExpertIndex(config_, id, part)];
  TensorView view;
  view.type = found.type;
  view.n_dims = 2;
  view.shape = {found.rows, found.cols, 1, 1};
  view.data = Mapped(found.extent);
  view.bytes = found.extent.bytes;
  view.row_scales = RowScales(found.type, found.first_scale);
  return view;
}

int WeightStore::fd(uint32_t file) const {
  STOKER_CHECK(file < mappings_.size());
  return mappings_[file].fd();
}

}  // namespace stoker
