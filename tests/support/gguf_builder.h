#pragma once

// Builds the bytes of a GGUF file field by field, valid unless a field is overridden: the tests'
// own encoder, independent of the writer under test, and able to lie. TinyGguf is a complete model
// of two layers (one lightning, one softmax) and eight kilobytes.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stoker::test {

template <typename T>
std::string Le(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string LeString(std::string_view text) {
  return Le<uint64_t>(text.size()) + std::string(text);
}

struct RawEntry {
  std::string key;
  uint32_t type = 0;
  std::string value;                   // encoded
  std::optional<uint64_t> key_length;  // instead of the true one
};

struct RawTensor {
  std::string name;
  std::vector<uint64_t> ne;  // fastest first
  uint32_t type = 0;         // ggml number; F32 is 0
  uint64_t bytes = 0;
  std::optional<uint64_t> name_length;
  std::optional<uint32_t> n_dims;
  std::optional<uint64_t> offset;
};

struct RawGguf {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<RawEntry> entries;
  std::vector<RawTensor> tensors;
  std::optional<uint64_t> n_entries;
  std::optional<uint64_t> n_tensors;
  uint64_t alignment = 32;

  RawEntry& Entry(std::string_view key) {
    return *std::find_if(entries.begin(), entries.end(),
                         [&](const RawEntry& entry) { return entry.key == key; });
  }
  RawTensor& Tensor(std::string_view name) {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const RawTensor& tensor) { return tensor.name == name; });
  }
  void Set(std::string_view key, uint32_t type, std::string value) {
    const auto it = std::find_if(entries.begin(), entries.end(),
                                 [&](const RawEntry& entry) { return entry.key == key; });
    if (it != entries.end()) {
      it->type = type;
      it->value = std::move(value);
    } else {
      entries.push_back({std::string(key), type, std::move(value), std::nullopt});
    }
  }
  void SetU32(std::string_view key, uint32_t value) { Set(key, 4, Le(value)); }
  void SetF32(std::string_view key, float value) { Set(key, 6, Le(value)); }
  void SetString(std::string_view key, std::string_view value) { Set(key, 8, LeString(value)); }
  void SetArray(std::string_view key, uint32_t element, uint64_t count, std::string_view data) {
    Set(key, 9, Le(element) + Le(count) + std::string(data));
  }
  void Remove(std::string_view key) {
    std::erase_if(entries, [&](const RawEntry& entry) { return entry.key == key; });
  }
  void RemoveTensor(std::string_view name) {
    std::erase_if(tensors, [&](const RawTensor& tensor) { return tensor.name == name; });
  }
  void AddF32(std::string name, std::vector<uint64_t> ne) {
    uint64_t elements = 1;
    for (const uint64_t n : ne) elements *= n;
    tensors.push_back({std::move(name), std::move(ne), 0, elements * 4, {}, {}, {}});
  }

  // Where each section ends in the last Header().
  struct Sections {
    uint64_t entries_begin = 0, entries_end = 0, table_end = 0, data_begin = 0;
  };

  std::string Header(Sections* sections = nullptr) const {
    std::string out = magic + Le(version) + Le<uint64_t>(n_tensors.value_or(tensors.size())) +
                      Le<uint64_t>(n_entries.value_or(entries.size()));
    Sections at;
    at.entries_begin = out.size();
    for (const RawEntry& entry : entries) {
      out += Le<uint64_t>(entry.key_length.value_or(entry.key.size())) + entry.key +
             Le(entry.type) + entry.value;
    }
    at.entries_end = out.size();
    uint64_t offset = 0;
    for (const RawTensor& tensor : tensors) {
      out += Le<uint64_t>(tensor.name_length.value_or(tensor.name.size())) + tensor.name;
      out += Le<uint32_t>(tensor.n_dims.value_or(static_cast<uint32_t>(tensor.ne.size())));
      for (const uint64_t n : tensor.ne) out += Le(n);
      out += Le(tensor.type) + Le(tensor.offset.value_or(offset));
      offset += (tensor.bytes + alignment - 1) / alignment * alignment;
    }
    at.table_end = out.size();
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    at.data_begin = out.size();
    if (sections != nullptr) *sections = at;
    return out;
  }

  // Header and data; tensor i's bytes are all i + 1.
  std::string Build() const {
    std::string out = Header();
    for (size_t i = 0; i < tensors.size(); ++i) {
      out.append(tensors[i].bytes, static_cast<char>(i + 1));
      out.append((alignment - tensors[i].bytes % alignment) % alignment, '\0');
    }
    return out;
  }
};

inline constexpr uint64_t kTinyHidden = 8, kTinyInner = 8, kTinyExperts = 2, kTinyVocab = 4;

inline RawGguf TinyGguf() {
  RawGguf file;
  const std::string p = "minimax-01.";
  file.SetString("general.architecture", "minimax-01");
  file.SetString("general.name", "Tiny");
  file.SetU32(p + "block_count", 2);
  file.SetU32(p + "context_length", 128);
  file.SetU32(p + "embedding_length", kTinyHidden);
  file.SetU32(p + "feed_forward_length", kTinyInner);
  file.SetU32(p + "attention.head_count", 2);
  file.SetU32(p + "attention.head_count_kv", 1);
  file.SetU32(p + "attention.key_length", 4);
  file.SetU32(p + "attention.value_length", 4);
  file.SetF32(p + "attention.layer_norm_rms_epsilon", 1e-5f);
  file.SetF32(p + "rope.freq_base", 1e7f);
  file.SetU32(p + "rope.dimension_count", 2);
  file.SetU32(p + "expert_count", kTinyExperts);
  file.SetU32(p + "expert_used_count", 2);
  file.SetF32(p + "residual_scale", 1.5f);
  file.SetU32(p + "full_attention_interval", 2);

  file.AddF32("token_embd.weight", {8, 4});
  for (const int layer : {0, 1}) {
    const std::string b = "blk." + std::to_string(layer) + ".";
    file.AddF32(b + "attn_norm.weight", {8});
    if (layer == 0) {
      file.AddF32(b + "attn_qkv.weight", {8, 24});
      file.AddF32(b + "attn_gate.weight", {8, 8});
      file.AddF32(b + "attn_norm_2.weight", {8});
    } else {
      file.AddF32(b + "attn_q.weight", {8, 8});
      file.AddF32(b + "attn_k.weight", {8, 4});
      file.AddF32(b + "attn_v.weight", {8, 4});
    }
    file.AddF32(b + "attn_output.weight", {8, 8});
    file.AddF32(b + "ffn_norm.weight", {8});
    file.AddF32(b + "ffn_gate_inp.weight", {8, 2});
    file.AddF32(b + "ffn_down_exps.weight", {8, 8, 2});
    file.AddF32(b + "ffn_gate_exps.weight", {8, 8, 2});
    file.AddF32(b + "ffn_up_exps.weight", {8, 8, 2});
  }
  file.AddF32("output_norm.weight", {8});
  file.AddF32("output.weight", {8, 4});
  return file;
}

}  // namespace stoker::test
