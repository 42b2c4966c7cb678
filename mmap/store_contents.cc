#include "mmap/store_contents.h"

#include <array>
#include <utility>

#include "mmap/format_error.h"

namespace stoker {
namespace {

constexpr std::array<std::string_view, kExpertParts> kPartStems = {"ffn_gate", "ffn_up",
                                                                   "ffn_down"};

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

void StoreBuilder::Add(const FoundTensor& tensor) {
  const std::string path = contents_.files[tensor.extent.file].path.native();
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
  if (!IsWeightType(tensor.type)) {
    throw FormatError(path, Quoted(tensor.name) + " type",
                      std::string(Info(tensor.type).name) + " cannot hold a weight");
  }

  StoredTensor stored;
  stored.name = CanonicalName(*key);
  stored.file_name = tensor.name;
  stored.type = tensor.type;
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
  FillExperts();
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
