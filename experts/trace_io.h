#pragma once

// Trace files: a writer cheap enough for the token path, and a reader that trusts nothing. The
// format is version 1 of docs/policies.md: a header, blocks of whole records (plain or zstd, each
// with an xxh3 checksum), an end record. The writer keeps one block buffer and writes it out when
// it is full (about every hundred tokens); between that it only copies. One object per file,
// engine-thread only.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "experts/trace.h"
#include "numa/unique_fd.h"

namespace stoker {

// Records per block are bounded by this, and so is what a reader allocates for one.
inline constexpr size_t kTraceBlockBytes = size_t{1} << 20;
// What one record can hold: it fits a block with its 32 bytes and the 24 of each access.
inline constexpr size_t kMaxTraceAccesses = (kTraceBlockBytes - 32) / 24;
// Of one trace, unless a caller says otherwise.
inline constexpr uint64_t kMaxTraceMemory = uint64_t{8} << 30;

class TraceWriter {
 public:
  struct Options {
    bool compress = true;
  };

  // Creates `path`, or opens it for writing. What it holds goes with the first record only, so that
  // a run that is refused before it begins costs no older trace. Throws std::system_error naming
  // the path.
  TraceWriter(const std::filesystem::path& path, const TraceHeader& header, Options options);
  TraceWriter(const std::filesystem::path& path, const TraceHeader& header)
      : TraceWriter(path, header, Options()) {}
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  // Replaces what the file holds, by a header, as the first record does otherwise.
  void Begin() noexcept;

  // Copies one record. Allocates nothing. When a write to disk fails the trace ends there: later
  // records are dropped, and Close throws; a run is never lost to its trace. A record whose routes
  // do not fit a block (beyond some 20,000 tokens) is written without them.
  void Append(const TraceRequest& request) noexcept;

  // Writes what is buffered and the end record; without any record an older trace stays as it was.
  // Throws std::system_error naming the path for this or any earlier failure to write. Called by
  // the destructor, which swallows the exception.
  void Close();

  uint64_t n_records() const { return n_records_; }

 private:
  struct Compressor;
  void Flush() noexcept;
  void WriteAll(const std::byte* data, size_t bytes) noexcept;

  std::filesystem::path path_;
  UniqueFd fd_;
  std::vector<std::byte> header_;
  bool begun_ = false;
  std::vector<std::byte> block_;       // kTraceBlockBytes
  std::vector<std::byte> compressed_;  // its bound
  std::unique_ptr<Compressor> compressor_;
  size_t used_ = 0;
  uint64_t n_records_ = 0;
  int error_ = 0;  // errno of the first failed write
  bool closed_ = false;
};

// Errors are std::runtime_error "trace FILE: offset N: what is wrong". A file that ends within a
// block is a recording that was cut off there: no error, and no records of that block. Memory is
// bounded by two blocks and one record, whatever the file says.
class TraceReader {
 public:
  explicit TraceReader(const std::filesystem::path& path);
  ~TraceReader();
  TraceReader(const TraceReader&) = delete;
  TraceReader& operator=(const TraceReader&) = delete;

  const TraceHeader& header() const { return header_; }
  // The next record; its spans are valid until the next call. False at the end.
  bool Next(TraceRequest* request);
  // After Next returned false: whether the end record was there.
  bool complete() const { return complete_; }

 private:
  [[noreturn]] void Fail(uint64_t offset, const std::string& what) const;
  void ReadExactly(void* data, size_t bytes);
  void ReadHeader();
  bool ReadBlock();
  void ParseRecord(TraceRequest* request);

  std::filesystem::path path_;
  UniqueFd fd_;
  uint64_t file_bytes_ = 0;
  uint64_t offset_ = 0;        // of the next byte to read
  uint64_t block_offset_ = 0;  // of the block being parsed
  TraceHeader header_;
  std::vector<std::byte> stored_;
  std::vector<std::byte> block_;
  size_t position_ = 0;
  uint64_t n_records_ = 0;
  bool complete_ = false;
  std::vector<TraceAccess> accesses_;
  std::vector<uint8_t> seen_;  // [n_experts] of the record
  std::vector<RouterChoice> routes_;
};

// Whether the file begins like a trace. False when it cannot be read.
bool IsTraceFile(const std::filesystem::path& path);

// The whole file in memory. Throws as TraceReader does, and when the records need more than
// `max_bytes` of memory.
Trace LoadTrace(const std::filesystem::path& path, uint64_t max_bytes = kMaxTraceMemory);
void SaveTrace(const Trace& trace, const std::filesystem::path& path, bool compress = true);

}  // namespace stoker
