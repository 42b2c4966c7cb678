// Files that are not well-formed GGUF: the 29 classes of llama.cpp's own malformed set and the
// public advisories of GGUF readers.

#include <cstdint>

#include "tests/mmap/malformed_cases.h"

namespace stoker::test {
namespace {

constexpr uint64_t kMax = UINT64_MAX;
constexpr uint32_t kString = 8, kArray = 9;

}  // namespace

std::vector<MalformedCase> GgufSyntaxCases() {
  const std::string valid = TinyGguf().Build();
  RawGguf::Sections at;
  TinyGguf().Header(&at);
  std::vector<MalformedCase> cases;

  // Magic, version, counts.
  cases.push_back(BytesCase("empty file", "", "file", "is empty"));
  cases.push_back(BytesCase("one byte", "G", "magic", "truncated"));
  cases.push_back(BytesCase("magic only", "GGUF", "version", "truncated"));
  cases.push_back(BytesCase("text file", "# A model\n\nof words.\n", "magic", "expected \"GGUF\""));
  cases.push_back(GgufCase("bad magic", [](RawGguf& f) { f.magic = "GGUX"; }, "magic", "GGUX"));
  cases.push_back(GgufCase("old ggml magic", [](RawGguf& f) { f.magic = "lmgg"; }, "magic",
                           "lmgg"));
  cases.push_back(GgufCase("magic with control characters",
                           [](RawGguf& f) { f.magic = "\n\x1b[2"; }, "magic", "\\x0a\\x1b"));
  cases.push_back(GgufCase("version 0", [](RawGguf& f) { f.version = 0; }, "version", "0"));
  cases.push_back(GgufCase("version 1", [](RawGguf& f) { f.version = 1; }, "version", "outdated"));
  cases.push_back(GgufCase("version 2", [](RawGguf& f) { f.version = 2; }, "version", "outdated"));
  cases.push_back(GgufCase("version 4", [](RawGguf& f) { f.version = 4; }, "version",
                           "not supported"));
  cases.push_back(GgufCase("big-endian", [](RawGguf& f) { f.version = 0x03000000; }, "version",
                           "big-endian"));
  cases.push_back(GgufCase("n_tensors -1", [](RawGguf& f) { f.n_tensors = kMax; }, "tensor_count",
                           "18446744073709551615"));
  cases.push_back(GgufCase("n_kv -1", [](RawGguf& f) { f.n_entries = kMax; }, "metadata_kv_count",
                           "18446744073709551615"));
  // candle 3533, ollama CVE-2025-66960: a tiny file asks for billions of elements.
  cases.push_back(BytesCase("24-byte file, 2^63 tensors",
                            "GGUF" + Le<uint32_t>(3) + Le(uint64_t{1} << 63) + Le<uint64_t>(0),
                            "tensor_count", "does not fit"));
  cases.push_back(BytesCase("24-byte file, 2^32 entries",
                            "GGUF" + Le<uint32_t>(3) + Le<uint64_t>(0) + Le(uint64_t{1} << 32),
                            "metadata_kv_count", "does not fit"));
  cases.push_back(GgufCase("one tensor more than the table has",
                           [](RawGguf& f) { f.n_tensors = f.tensors.size() + 1; }, "tensor 23",
                           ""));
  cases.push_back(GgufCase("one entry more than there are",
                           [](RawGguf& f) { f.n_entries = f.entries.size() + 1; }, "", ""));
  cases.push_back(BytesCase("no metadata at all",
                            "GGUF" + Le<uint32_t>(3) + Le<uint64_t>(0) + Le<uint64_t>(0),
                            "general.architecture", "missing"));

  // Truncation at each section.
  const auto cut = [&](std::string name, uint64_t size, std::string field, std::string reason) {
    cases.push_back(
        BytesCase(std::move(name), valid.substr(0, size), std::move(field), std::move(reason)));
  };
  cut("cut after the version", 8, "tensor_count", "truncated");
  cut("cut after tensor_count", 16, "metadata_kv_count", "truncated");
  cut("cut after the counts", at.entries_begin, "metadata_kv_count", "does not fit");
  cut("cut before the last metadata byte", at.entries_end - 1, "", "");
  cut("cut before the table", at.entries_end, "tensor 0 name", "truncated");
  cut("cut inside the table", at.table_end - 1, "tensor", "truncated");
  cut("cut before the data", at.data_begin, "tensor \"token_embd.weight\"", "truncated");
  cut("cut before the last byte of data", valid.size() - 1, "tensor \"output.weight\"",
      "truncated");

  // Keys and values.
  cases.push_back(GgufCase("empty key", [](RawGguf& f) { f.entries[1].key = ""; },
                           "metadata key 1", "empty name"));
  cases.push_back(GgufCase("key length 2^64-1",
                           [](RawGguf& f) { f.entries[0].key_length = kMax; }, "metadata key 0",
                           "exceeds 65535"));
  cases.push_back(GgufCase("key length past the end",
                           [](RawGguf& f) { f.entries[0].key_length = 65535; }, "metadata key 0",
                           "truncated"));
  cases.push_back(GgufCase("key of 65536 bytes",
                           [](RawGguf& f) { f.entries[1].key = std::string(65536, 'k'); },
                           "metadata key 1", "exceeds 65535"));
  cases.push_back(GgufCase("value type 13", [](RawGguf& f) { f.entries[2].type = 13; },
                           "minimax-01.block_count", "unknown value type 13"));
  cases.push_back(GgufCase("value type -1", [](RawGguf& f) { f.entries[2].type = UINT32_MAX; },
                           "minimax-01.block_count", "unknown value type 4294967295"));
  cases.push_back(GgufCase("duplicate key",
                           [](RawGguf& f) { f.entries.push_back(f.entries[0]); },
                           "general.architecture", "duplicate metadata key"));
  cases.push_back(GgufCase("bool of 2", [](RawGguf& f) { f.Set("x.flag", 7, "\x02"); }, "x.flag",
                           "neither 0 nor 1"));
  // TALOS-2024-1912..1916: lengths whose +1 or product wraps.
  cases.push_back(GgufCase("string length 2^64-1",
                           [](RawGguf& f) { f.Set("x.s", kString, Le(kMax)); }, "x.s",
                           "exceeds"));
  cases.push_back(GgufCase("string length 2^63",
                           [](RawGguf& f) { f.Set("x.s", kString, Le(uint64_t{1} << 63)); },
                           "x.s", "exceeds"));
  cases.push_back(GgufCase("array element type 99",
                           [](RawGguf& f) { f.SetArray("x.a", 99, 1, "aaaa"); }, "x.a",
                           "unknown value type 99"));
  cases.push_back(GgufCase("array of 2^64-1 bytes",
                           [](RawGguf& f) { f.SetArray("x.a", 0, kMax, ""); }, "x.a",
                           "truncated"));
  cases.push_back(GgufCase("array of 2^62 u32: the size wraps to 0",
                           [](RawGguf& f) { f.SetArray("x.a", 4, uint64_t{1} << 62, ""); }, "x.a",
                           "too long"));
  cases.push_back(GgufCase("array of 2^62+1 u32: the size wraps to 4",
                           [](RawGguf& f) {
                             f.SetArray("x.a", 4, (uint64_t{1} << 62) + 1, "abcd");
                           },
                           "x.a", "too long"));
  cases.push_back(GgufCase("array of 2^60 strings",
                           [](RawGguf& f) { f.SetArray("x.a", 8, uint64_t{1} << 60, ""); }, "x.a",
                           "does not fit"));
  cases.push_back(GgufCase("array of strings, second too long",
                           [](RawGguf& f) {
                             f.SetArray("x.a", 8, 2, LeString("ok") + Le(kMax - 7));
                           },
                           "x.a", "exceeds"));
  cases.push_back(GgufCase("arrays nested five deep",
                           [](RawGguf& f) {
                             std::string value;
                             for (int i = 0; i < 5; ++i) value += Le(kArray) + Le<uint64_t>(1);
                             f.Set("x.a", kArray, value + Le<uint32_t>(0) + Le<uint64_t>(0));
                           },
                           "x.a", "nested deeper"));
  cases.push_back(GgufCase("nested array of 2^64-1 arrays",
                           [](RawGguf& f) { f.SetArray("x.a", kArray, kMax, ""); }, "x.a",
                           "does not fit"));

  // Alignment (llama.cpp PR 24997).
  for (const uint32_t alignment : {0u, 3u, 13u, 33u, 1u << 21, 1u << 31, UINT32_MAX}) {
    cases.push_back(GgufCase("alignment " + std::to_string(alignment),
                             [=](RawGguf& f) { f.SetU32("general.alignment", alignment); },
                             "general.alignment", "power of two"));
  }
  cases.push_back(GgufCase("alignment of the wrong type",
                           [](RawGguf& f) { f.Set("general.alignment", 10, Le<uint64_t>(32)); },
                           "general.alignment", "wrong type"));
  cases.push_back(GgufCase("alignment that the offsets do not keep",
                           [](RawGguf& f) { f.SetU32("general.alignment", 1024); },
                           "attn_norm.weight", "multiple"));

  // Tensor table.
  const auto tensor = [&](std::string name, std::function<void(RawTensor&)> change,
                          std::string field, std::string reason) {
    cases.push_back(GgufCase(
        std::move(name), [=](RawGguf& f) { change(f.Tensor("blk.0.attn_qkv.weight")); },
        std::move(field), std::move(reason)));
  };
  const std::string qkv = "blk.0.attn_qkv.weight";
  tensor("empty tensor name", [](RawTensor& t) { t.name = ""; }, "tensor 2", "empty name");
  tensor("tensor name of 64 bytes", [](RawTensor& t) { t.name = std::string(64, 'n'); },
         "tensor 2 name", "exceeds 63");
  tensor("tensor name length 2^64-1", [](RawTensor& t) { t.name_length = kMax; }, "tensor 2 name",
         "exceeds 63");
  tensor("duplicate tensor name", [](RawTensor& t) { t.name = "blk.0.attn_norm.weight"; },
         "blk.0.attn_norm.weight", "duplicate tensor name");
  tensor("n_dims 0", [](RawTensor& t) { t.n_dims = 0; }, qkv + "\" n_dims", "is 0");
  tensor("n_dims 5", [](RawTensor& t) { t.n_dims = 5; }, qkv + "\" n_dims", "is 5");
  tensor("n_dims 2^32-1", [](RawTensor& t) { t.n_dims = UINT32_MAX; }, qkv + "\" n_dims",
         "4294967295");
  tensor("dimension 0", [](RawTensor& t) { t.ne[1] = 0; }, qkv + "\" ne[1]", "is 0");
  tensor("dimension -1", [](RawTensor& t) { t.ne[0] = kMax; }, qkv + "\" ne[0]",
         "18446744073709551615");
  tensor("dimension 2^63", [](RawTensor& t) { t.ne[1] = uint64_t{1} << 63; }, qkv + "\" ne[1]",
         "expected 1 to 2^63-1");
  tensor("product of dimensions wraps",
         [](RawTensor& t) { t.ne = {uint64_t{1} << 32, uint64_t{1} << 32}; }, qkv + "\" shape",
         "exceeds 2^63-1");
  tensor("product of dimensions is 2^63",
         [](RawTensor& t) { t.ne = {uint64_t{1} << 31, uint64_t{1} << 32}; }, qkv + "\" shape",
         "exceeds 2^63-1");
  // safetensors-cpp's proof of concept in GGUF form: the product wraps to 4 elements.
  tensor("product of dimensions wraps to 4",
         [](RawTensor& t) { t.ne = {4194305, 4194305, 211106198978564}; }, qkv + "\" shape",
         "exceeds 2^63-1");
  // CVE-2026-33298: elements fit in 63 bits, bytes do not in 64.
  tensor("number of bytes wraps",
         [](RawTensor& t) {
           t.ne = {uint64_t{1} << 31, uint64_t{1} << 31};
           t.type = 28;  // F64
         },
         qkv + "\" shape", "exceeds 2^64-1");
  tensor("retired tensor type 4", [](RawTensor& t) { t.type = 4; }, qkv + "\" type",
         "unknown tensor type 4");
  tensor("tensor type 31", [](RawTensor& t) { t.type = 31; }, qkv + "\" type",
         "unknown tensor type 31");
  tensor("tensor type 2^32-1", [](RawTensor& t) { t.type = UINT32_MAX; }, qkv + "\" type",
         "4294967295");
  tensor("row that is no whole number of blocks", [](RawTensor& t) { t.type = 12; },
         qkv + "\" ne[0]", "Q4_K block of 256");
  tensor("offset not aligned", [](RawTensor& t) { t.offset = 161; }, qkv + "\" offset",
         "not a multiple");
  tensor("offset overlapping the tensor before", [](RawTensor& t) { t.offset = 128; },
         qkv + "\" offset", "overlaps");
  tensor("offset leaving a gap", [](RawTensor& t) { t.offset = 192; }, qkv + "\" offset", "gap");
  tensor("offset far past the end", [](RawTensor& t) { t.offset = uint64_t{1} << 40; },
         qkv + "\" offset", "gap");
  tensor("offset at the top of 64 bits", [](RawTensor& t) { t.offset = kMax - 31; },
         qkv + "\" offset", "gap");
  // "Bleeding Llama", CVE-2026-7482: extent past the end of the file.
  tensor("tensor longer than the file",
         [](RawTensor& t) { t.ne = {8, uint64_t{1} << 40}; }, qkv, "pass the end of the file");
  // CVE-2026-27940 and CVE-2025-53630: sizes whose sum wraps.
  cases.push_back(GgufCase("two tensors of 2^63-64 bytes",
                           [](RawGguf& f) {
                             f.tensors = {};
                             f.tensors.push_back({"a", {0x7fffffffffffffc0}, 24, 64, {}, {}, {}});
                             f.tensors.push_back({"b",
                                                  {0x7fffffffffffffc0},
                                                  24,
                                                  64,
                                                  {},
                                                  {},
                                                  0x7fffffffffffffc0});
                           },
                           "tensor \"a\"", "pass the end"));
  cases.push_back(GgufCase("tensor name with a newline",
                           [](RawGguf& f) {
                             RawTensor& t = f.Tensor("blk.0.attn_qkv.weight");
                             t.name = "evil\nname";
                             t.offset = 0;
                           },
                           "evil\\x0aname", "overlaps"));
  return cases;
}

}  // namespace stoker::test
