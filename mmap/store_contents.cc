#include "mmap/store_contents.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "mmap/format_error.h"
#include "mmap/half.h"

namespace stoker {
namespace {

constexpr std::array<std::string_view, kExpertParts> kPartStems = {"ffn_gate", "ffn_up",
                                                                   "ffn_down"};

constexpr std::string_view kScaleEnding = "_scale";

// Element `index` of F32, F16 or BF16 values, at any address.
float ReadFloat(DType type, const std::byte* values, int64_t index) {
  const std::byte* const element = values + index * Info(type).block_bytes;
  switch (type) {
    case DType::kF32: return ReadPlain<DType::kF32>(element);
    case DType::kF16: return ReadPlain<DType::kF16>(element);
    default: return ReadPlain<DType::kBF16>(element);
  }
}

std::string Quoted(std::string_view name) { return "tensor \"" + Printable(name) + "\""; }

}  // namespace

StoreBuilder::StoreBuilder(StoreContents& contents, StoreLayout layout, std::string config_file)
    : contents_(contents), layout_(layout), config_file_(std::move(config_file)) {}

std::optional<TensorKey> StoreBuilder::Parse(std::string_view name) const {
  return layout_ == StoreLayout::kGguf ? ParseGgufName(name, contents_.config)
                                       : ParseSafetensorsName(name);
}

std::string StoreBuilder::FileName(const TensorKey& key) const {
  return layout_ == StoreLayout::kGguf ? CanonicalName(key) : SafetensorsName(key);
}

void StoreBuilder::AddScales(const FoundTensor& scales) {
  const std::string path = contents_.files[scales.extent.file].path.native();
  const std::optional<TensorKey> key =
      Parse(scales.name.substr(0, scales.name.size() - kScaleEnding.size()));
  if (!key || !WhyUnexpected(*key, contents_.config).empty()) {
    throw FormatError(path, Quoted(scales.name), "scales of a tensor that this model has not");
  }
  const std::vector<int64_t> expected = {ExpectedShape(*key, contents_.config)[0], 1};
  if (!std::ranges::equal(scales.shape, expected) &&
      !std::ranges::equal(scales.shape, std::span(expected).first(1))) {
    throw FormatError(path, Quoted(scales.name) + " shape",
                      "is " + ShapeText(scales.shape) + ", one scale per row is " +
                          ShapeText(expected));
  }
  if (!IsWeightType(scales.type) || Info(scales.type).block_elements > 1) {
    throw FormatError(path, Quoted(scales.name) + " type",
                      std::string(Info(scales.type).name) + " cannot hold scales");
  }
  FoundScales found{std::string(scales.name), scales.type, scales.extent};
  if (!scales_.emplace(CanonicalName(*key), std::move(found)).second) {
    throw FormatError(path, Quoted(scales.name), "duplicate: another file has it, too");
  }
}

void StoreBuilder::Add(const FoundTensor& tensor) {
  const std::string path = contents_.files[tensor.extent.file].path.native();
  if (layout_ == StoreLayout::kSafetensors) {
    if (tensor.name.ends_with(kScaleEnding)) return AddScales(tensor);
    if (tensor.name.ends_with(".weight_zero_point")) {
      throw FormatError(path, Quoted(tensor.name), "asymmetric weights are not supported");
    }
  }
  const std::optional<TensorKey> key = Parse(tensor.name);
  if (!key) {
    throw FormatError(path, Quoted(tensor.name), "unknown name: no such tensor in this model kind");
  }
  if (const std::string reason = WhyUnexpected(*key, contents_.config); !reason.empty()) {
    throw FormatError(path, Quoted(tensor.name), "unexpected: " + reason);
  }
  const std::vector<int64_t> expected = ExpectedShape(*key, contents_.config);
  if (!SameShape(tensor.shape, expected)) {
    throw FormatError(path, Quoted(tensor.name) + " shape",
                      "is " + ShapeText(tensor.shape) + ", the config demands " +
                          ShapeText(expected));
  }
  // The embedding is read row by row, and not by a product.
  DType type = tensor.type;
  if (layout_ == StoreLayout::kSafetensors && type == DType::kI8 && expected.size() == 2 &&
      key->rule->gguf != "token_embd.weight") {
    type = DType::kInt8Row;
    if (expected[1] % Info(type).block_elements != 0) {
      throw FormatError(path, Quoted(tensor.name) + " shape",
                        "is " + ShapeText(expected) + ", INT8 rows must be multiples of " +
                            std::to_string(Info(type).block_elements) + " columns");
    }
  }
  if (!IsWeightType(type)) {
    throw FormatError(path, Quoted(tensor.name) + " type",
                      std::string(Info(tensor.type).name) + " cannot hold a weight");
  }

  StoredTensor stored;
  stored.name = CanonicalName(*key);
  stored.file_name = tensor.name;
  stored.type = type;
  stored.shape = expected;
  stored.extent = tensor.extent;
  const auto index = static_cast<uint32_t>(contents_.tensors.size());
  if (!contents_.by_name.emplace(stored.name, index).second) {
    throw FormatError(path, Quoted(tensor.name), "duplicate: another file has it, too");
  }
  contents_.tensors.push_back(std::move(stored));
}

void StoreBuilder::Finish() {
  // llama.cpp reuses the embedding whenever output.weight is absent; a checkpoint directory must
  // say so in its config.
  const bool has_output = contents_.by_name.contains("output.weight");
  if (has_output) {
    contents_.config.tied_embeddings = false;
  } else if (layout_ == StoreLayout::kGguf) {
    contents_.config.tied_embeddings = true;
  }
  ForEachExpectedTensor(
      contents_.config, layout_ == StoreLayout::kGguf, [&](const TensorKey& key) {
        if (!contents_.by_name.contains(CanonicalName(key))) {
          throw FormatError(config_file_, Quoted(FileName(key)), "missing from the model's files");
        }
        return true;
      });
  ReadScales();
  FillExperts();
}

void StoreBuilder::ReadScales() {
  for (StoredTensor& tensor : contents_.tensors) {
    const auto found = scales_.find(tensor.name);
    const bool wants = tensor.type == DType::kInt8Row;
    if (found == scales_.end() && !wants) continue;
    if (found == scales_.end()) {
      throw FormatError(config_file_, Quoted(tensor.file_name),
                        "is INT8, but \"" + Printable(tensor.file_name) +
                            "_scale\" is missing from the model's files");
    }
    const FoundScales& scales = found->second;
    const std::string& path = contents_.files[scales.extent.file].path.native();
    if (!wants) {
      throw FormatError(path, Quoted(scales.name),
                        "scales of weights of type " + std::string(Info(tensor.type).name));
    }
    tensor.scales = scales.extent;
    tensor.first_scale = static_cast<int64_t>(contents_.row_scales.size());
    const std::byte* const bytes =
        contents_.mappings[scales.extent.file].bytes().data() + scales.extent.offset;
    for (int64_t row = 0; row < tensor.shape[0]; ++row) {
      const float scale = ReadFloat(scales.type, bytes, row);
      if (!std::isfinite(scale)) {
        throw FormatError(path, Quoted(scales.name),
                          "scale of row " + std::to_string(row) + " is not a number");
      }
      contents_.row_scales.push_back(scale);
    }
    scales_.erase(found);
  }
}

void StoreBuilder::FillExperts() {
  const ModelConfig& config = contents_.config;
  // Every expert tensor was found, so this is bounded by what the files hold.
  contents_.experts.reserve(
      static_cast<size_t>(config.n_layers * config.n_experts * kExpertParts));
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    for (int64_t expert = 0; expert < config.n_experts; ++expert) {
      for (const std::string_view stem : kPartStems) {
        const std::string base = "blk." + std::to_string(layer) + "." + std::string(stem);
        const std::string name = layout_ == StoreLayout::kGguf
                                     ? base + "_exps.weight"
                                     : base + "." + std::to_string(expert) + ".weight";
        const StoredTensor& tensor = contents_.tensors[contents_.by_name.at(name)];
        ExpertPartExtent part;
        part.type = tensor.type;
        part.rows = tensor.shape[tensor.shape.size() - 2];
        part.cols = tensor.shape[tensor.shape.size() - 1];
        part.extent = tensor.extent;
        part.first_scale = tensor.first_scale;
        if (layout_ == StoreLayout::kGguf) {
          // Whole rows are whole blocks, so the slices are equal and contiguous.
          part.extent.bytes /= static_cast<uint64_t>(config.n_experts);
          part.extent.offset += static_cast<uint64_t>(expert) * part.extent.bytes;
        }
        contents_.experts.push_back(part);
      }
    }
  }
}

}  // namespace stoker
