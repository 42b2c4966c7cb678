#include "experts/trace_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "numa/bytes.h"
#include "numa/check.h"

namespace stoker {
namespace {

constexpr char kMagic[8] = {'S', 'T', 'O', 'K', 'T', 'R', 'C', '\n'};
constexpr uint32_t kVersion = 1;
constexpr size_t kPreambleBytes = 16;  // magic, version, bytes of the rest of the header
constexpr size_t kMaxHeaderBytes = size_t{1} << 20;
constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kBlockHeaderBytes = 24;
constexpr size_t kRecordBytes = 32;
constexpr size_t kAccessBytes = 24;
constexpr size_t kRouteBytes = 6;
constexpr int64_t kMaxToken = int64_t{1} << 62;  // so that sums of two stay in range
static_assert(kRecordBytes + kMaxTraceAccesses * kAccessBytes <= kTraceBlockBytes);
// Level 1 compresses a block in a few milliseconds, once per hundred tokens or so.
constexpr int kZstdLevel = 1;

enum class BlockKind : uint32_t { kPlain = 0, kZstd = 1, kEnd = 2 };

// Appends little-endian values to memory that is known to suffice.
class Packer {
 public:
  explicit Packer(std::byte* at) : at_(at) {}
  template <typename T>
  void Put(T value) {
    StoreLe(at_, value);
    at_ += sizeof(T);
  }
  void PutText(const std::string& text) {
    Put(static_cast<uint16_t>(text.size()));
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  std::byte* at() const { return at_; }

 private:
  std::byte* at_;
};

// Takes little-endian values from bounded memory; `ok` goes false for good at the first overrun.
class Unpacker {
 public:
  Unpacker(const std::byte* at, size_t bytes) : at_(at), left_(bytes) {}
  template <typename T>
  T Take() {
    if (!Has(sizeof(T))) return T{};
    const T value = LoadLe<T>(at_);
    at_ += sizeof(T);
    left_ -= sizeof(T);
    return value;
  }
  std::string TakeText() {
    const auto bytes = Take<uint16_t>();
    if (!Has(bytes)) return {};
    std::string text(reinterpret_cast<const char*>(at_), bytes);
    at_ += bytes;
    left_ -= bytes;
    return text;
  }
  bool Has(size_t bytes) {
    ok_ = ok_ && bytes <= left_;
    return ok_;
  }
  bool ok() const { return ok_; }
  size_t left() const { return left_; }

 private:
  const std::byte* at_;
  size_t left_;
  bool ok_ = true;
};

std::vector<std::byte> PackHeader(const TraceHeader& header) {
  const auto bounded = [](const std::string& text) { return text.substr(0, kMaxTextBytes); };
  STOKER_CHECK(header.expert_bytes.size() == static_cast<size_t>(header.n_layers));
  std::vector<std::byte> bytes(kPreambleBytes + 64 + 3 * (2 + kMaxTextBytes) +
                               header.expert_bytes.size() * sizeof(uint64_t));
  Packer packer(bytes.data() + kPreambleBytes);
  packer.Put(header.model_hash);
  packer.Put(header.n_layers);
  packer.Put(header.n_experts);
  packer.Put(header.top_k);
  packer.Put(header.capacity);
  packer.Put(header.seed);
  packer.PutText(bounded(header.policy));
  packer.PutText(bounded(header.model));
  packer.PutText(bounded(header.types));
  for (const uint64_t expert_bytes : header.expert_bytes) packer.Put(expert_bytes);
  packer.Put(
      XXH3_64bits(bytes.data() + kPreambleBytes, packer.at() - bytes.data() - kPreambleBytes));
  bytes.resize(packer.at() - bytes.data());
  std::memcpy(bytes.data(), kMagic, sizeof(kMagic));
  StoreLe(bytes.data() + 8, kVersion);
  StoreLe(bytes.data() + 12, static_cast<uint32_t>(bytes.size() - kPreambleBytes));
  return bytes;
}

void PackBlockHeader(std::byte* at, BlockKind kind, size_t raw, const std::byte* stored,
                     size_t stored_bytes) {
  Packer packer(at);
  packer.Put(static_cast<uint32_t>(kind));
  packer.Put(static_cast<uint32_t>(raw));
  packer.Put(static_cast<uint32_t>(stored_bytes));
  packer.Put(uint32_t{0});
  packer.Put(static_cast<uint64_t>(XXH3_64bits(stored, stored_bytes)));
}

}  // namespace

// --- Writing --------------------------------------------------------------------------------

struct TraceWriter::Compressor {
  Compressor() : context(ZSTD_createCCtx()) {
    if (context == nullptr) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, kZstdLevel);
  }
  ~Compressor() { ZSTD_freeCCtx(context); }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ZSTD_CCtx* context;
};

// The block's header stands before its records, so that a block is one write.
TraceWriter::TraceWriter(const std::filesystem::path& path, const TraceHeader& header,
                         Options options)
    : path_(path),
      fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)),
      header_(PackHeader(header)),
      block_(kBlockHeaderBytes + kTraceBlockBytes),
      used_(kBlockHeaderBytes) {
  struct stat status {};
  if (!fd_.valid() || ::fstat(fd_.get(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "trace " + path.string());
  }
  if (status.st_size == 0) Begin();
  if (error_ != 0) {
    throw std::system_error(error_, std::generic_category(), "trace " + path.string());
  }
  if (options.compress) {
    compressor_ = std::make_unique<Compressor>();
    compressed_.resize(kBlockHeaderBytes + ZSTD_compressBound(kTraceBlockBytes));
    // The first compression sizes the context's work space; later ones reuse it.
    ZSTD_compress2(compressor_->context, compressed_.data(), compressed_.size(), block_.data(),
                   kTraceBlockBytes);
  }
}

TraceWriter::~TraceWriter() {
  try {
    Close();
  } catch (const std::system_error&) {  // Whoever cares calls Close.
  }
}

void TraceWriter::Append(const TraceRequest& request) noexcept {
  Begin();
  if (error_ != 0 || closed_) return;
  const size_t fixed = kRecordBytes + request.accesses.size() * kAccessBytes;
  const bool with_routes = fixed + request.routes.size() * kRouteBytes <= kTraceBlockBytes;
  const size_t bytes = fixed + (with_routes ? request.routes.size() * kRouteBytes : 0);
  STOKER_CHECK(bytes <= kTraceBlockBytes);
  if (used_ + bytes > block_.size()) Flush();

  Packer packer(block_.data() + used_);
  packer.Put(static_cast<uint8_t>(request.kind));
  packer.Put(static_cast<uint8_t>(request.phase));
  packer.Put(static_cast<uint16_t>(request.layer));
  packer.Put(request.n_tokens);
  packer.Put(request.token);
  packer.Put(request.time_us);
  packer.Put(static_cast<uint32_t>(request.accesses.size()));
  packer.Put(static_cast<uint16_t>(with_routes ? request.routes_per_token : 0));
  packer.Put(uint16_t{0});
  for (const TraceAccess& access : request.accesses) {
    packer.Put(access.entry);
    packer.Put(access.victim);
    packer.Put(access.gate_weight);
    packer.Put(access.bytes);
    packer.Put(access.wait_us);
    packer.Put(access.rank);
    packer.Put(static_cast<uint8_t>(access.outcome));
    packer.Put(uint16_t{0});
  }
  if (with_routes) {
    for (const RouterChoice& route : request.routes) {
      packer.Put(route.expert);
      packer.Put(route.weight);
    }
  }
  used_ += bytes;
  ++n_records_;
}

void TraceWriter::Begin() noexcept {
  if (begun_) return;
  begun_ = true;
  if (::ftruncate(fd_.get(), 0) != 0 && errno != EINVAL) error_ = errno;  // EINVAL: no file
  WriteAll(header_.data(), header_.size());
}

void TraceWriter::Flush() noexcept {
  const size_t raw = used_ - kBlockHeaderBytes;
  if (raw == 0) return;
  const std::byte* records = block_.data() + kBlockHeaderBytes;
  used_ = kBlockHeaderBytes;
  if (compressor_ != nullptr) {
    std::byte* out = compressed_.data() + kBlockHeaderBytes;
    const size_t stored = ZSTD_compress2(compressor_->context, out,
                                         compressed_.size() - kBlockHeaderBytes, records, raw);
    if (ZSTD_isError(stored) == 0 && stored < raw) {
      PackBlockHeader(compressed_.data(), BlockKind::kZstd, raw, out, stored);
      WriteAll(compressed_.data(), kBlockHeaderBytes + stored);
      return;
    }
  }
  PackBlockHeader(block_.data(), BlockKind::kPlain, raw, records, raw);
  WriteAll(block_.data(), kBlockHeaderBytes + raw);
}

void TraceWriter::WriteAll(const std::byte* data, size_t bytes) noexcept {
  while (bytes > 0 && error_ == 0) {
    const ssize_t written = ::write(fd_.get(), data, bytes);
    if (written < 0) {
      if (errno != EINTR) error_ = errno;
      continue;
    }
    data += written;
    bytes -= static_cast<size_t>(written);
  }
}

void TraceWriter::Close() {
  if (closed_) return;
  closed_ = true;
  Flush();
  if (!begun_) return;
  std::byte end[kBlockHeaderBytes + 8];
  StoreLe(end + kBlockHeaderBytes, n_records_);
  PackBlockHeader(end, BlockKind::kEnd, 8, end + kBlockHeaderBytes, 8);
  WriteAll(end, sizeof(end));
  if (error_ != 0) {
    throw std::system_error(error_, std::generic_category(), "trace " + path_.string());
  }
}

// --- Reading --------------------------------------------------------------------------------

TraceReader::TraceReader(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  struct stat status {};
  if (!fd_.valid() || ::fstat(fd_.get(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "trace " + path.string());
  }
  if (!S_ISREG(status.st_mode)) Fail(0, "not a regular file");
  file_bytes_ = static_cast<uint64_t>(status.st_size);
  ReadHeader();
}

TraceReader::~TraceReader() = default;

void TraceReader::Fail(uint64_t offset, const std::string& what) const {
  throw std::runtime_error("trace " + path_.string() + ": offset " + std::to_string(offset) + ": " +
                           what);
}

// The file has them, unless somebody shortens it now.
void TraceReader::ReadExactly(void* data, size_t bytes) {
  auto* at = static_cast<std::byte*>(data);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_.get(), at, bytes, static_cast<off_t>(offset_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category(), "trace " + path_.string());
    if (got == 0) Fail(offset_, "file was cut short while it was read");
    at += got;
    bytes -= static_cast<size_t>(got);
    offset_ += static_cast<uint64_t>(got);
  }
}

void TraceReader::ReadHeader() {
  std::byte preamble[kPreambleBytes];
  if (file_bytes_ < sizeof(preamble)) Fail(0, "file ends within the header");
  ReadExactly(preamble, sizeof(preamble));
  if (std::memcmp(preamble, kMagic, sizeof(kMagic)) != 0) Fail(0, "not a trace file");
  const auto version = LoadLe<uint32_t>(preamble + 8);
  if (version != kVersion) {
    Fail(8, "version " + std::to_string(version) + ", this program reads version " +
                std::to_string(kVersion));
  }
  const auto bytes = LoadLe<uint32_t>(preamble + 12);
  if (bytes > kMaxHeaderBytes || bytes > file_bytes_ - offset_ || bytes < 8) {
    Fail(12, "header of " + std::to_string(bytes) + " bytes");
  }
  std::vector<std::byte> payload(bytes);
  ReadExactly(payload.data(), bytes);
  if (LoadLe<uint64_t>(payload.data() + bytes - 8) != XXH3_64bits(payload.data(), bytes - 8)) {
    Fail(kPreambleBytes, "header checksum does not match");
  }
  Unpacker unpacker(payload.data(), bytes - 8);
  header_.model_hash = unpacker.Take<uint64_t>();
  header_.n_layers = unpacker.Take<int32_t>();
  header_.n_experts = unpacker.Take<int32_t>();
  header_.top_k = unpacker.Take<int32_t>();
  header_.capacity = unpacker.Take<uint32_t>();
  header_.seed = unpacker.Take<uint64_t>();
  header_.policy = unpacker.TakeText();
  header_.model = unpacker.TakeText();
  header_.types = unpacker.TakeText();
  if (!unpacker.ok()) Fail(kPreambleBytes, "header is too short");
  if (header_.n_layers < 1 || header_.n_layers > 4096 || header_.n_experts < 1 ||
      header_.n_experts > 65536 || header_.top_k < 1 || header_.top_k > header_.n_experts ||
      static_cast<int64_t>(header_.n_layers) * header_.n_experts > kMaxEntries) {
    Fail(kPreambleBytes + 8, "impossible shape: " + std::to_string(header_.n_layers) +
                                 " layers of " + std::to_string(header_.n_experts) +
                                 " experts, top-" + std::to_string(header_.top_k));
  }
  if (unpacker.left() != static_cast<size_t>(header_.n_layers) * sizeof(uint64_t)) {
    Fail(kPreambleBytes, "header does not hold one expert size per layer");
  }
  header_.expert_bytes.resize(header_.n_layers);
  for (uint64_t& expert_bytes : header_.expert_bytes) {
    expert_bytes = unpacker.Take<uint64_t>();
    if (expert_bytes == 0 || expert_bytes > uint64_t{1} << 40) {
      Fail(kPreambleBytes, "impossible expert size of " + std::to_string(expert_bytes) + " bytes");
    }
  }
}

bool TraceReader::ReadBlock() {
  block_offset_ = offset_;
  std::byte head[kBlockHeaderBytes];
  // At the end, or within the header that was being written when the recording stopped.
  if (complete_ || sizeof(head) > file_bytes_ - offset_) return false;
  ReadExactly(head, sizeof(head));
  const auto kind = LoadLe<uint32_t>(head);
  const auto raw = LoadLe<uint32_t>(head + 4);
  const auto stored = LoadLe<uint32_t>(head + 8);
  const auto reserved = LoadLe<uint32_t>(head + 12);
  const auto checksum = LoadLe<uint64_t>(head + 16);
  if (reserved != 0) Fail(block_offset_, "reserved field of a block header is not zero");
  if (kind > static_cast<uint32_t>(BlockKind::kEnd)) {
    Fail(block_offset_, "unknown block kind " + std::to_string(kind));
  }
  if (raw == 0 || raw > kTraceBlockBytes || stored == 0 || stored > raw) {
    Fail(block_offset_, "block of " + std::to_string(stored) + " bytes holding " +
                            std::to_string(raw) + "; the limit is " +
                            std::to_string(kTraceBlockBytes));
  }
  if (stored > file_bytes_ - offset_) {
    offset_ = file_bytes_;  // Nothing more to read, however often the caller asks.
    return false;
  }
  stored_.resize(stored);
  ReadExactly(stored_.data(), stored);
  if (XXH3_64bits(stored_.data(), stored) != checksum) {
    Fail(block_offset_, "block checksum does not match");
  }
  position_ = 0;
  switch (static_cast<BlockKind>(kind)) {
    case BlockKind::kPlain:
      if (stored != raw) Fail(block_offset_, "plain block of two sizes");
      block_.swap(stored_);
      return true;
    case BlockKind::kZstd: {
      block_.resize(raw);
      const size_t got = ZSTD_decompress(block_.data(), raw, stored_.data(), stored);
      if (got != raw) Fail(block_offset_, "block does not decompress to its stated size");
      return true;
    }
    case BlockKind::kEnd:
      break;
  }
  if (raw != 8 || stored != 8) Fail(block_offset_, "malformed end record");
  if (LoadLe<uint64_t>(stored_.data()) != n_records_) {
    Fail(block_offset_, "end record counts " + std::to_string(LoadLe<uint64_t>(stored_.data())) +
                            " records, the file has " + std::to_string(n_records_));
  }
  if (offset_ != file_bytes_) Fail(offset_, "bytes after the end record");
  complete_ = true;
  block_.clear();
  return false;
}

bool TraceReader::Next(TraceRequest* request) {
  if (position_ == block_.size()) {
    block_.clear();
    position_ = 0;
    if (!ReadBlock()) return false;
  }
  ParseRecord(request);
  ++n_records_;
  return true;
}

void TraceReader::ParseRecord(TraceRequest* request) {
  // Offsets in messages are of the block; inside a compressed one there are no others.
  const std::string record = "record " + std::to_string(n_records_) + ": ";
  Unpacker unpacker(block_.data() + position_, block_.size() - position_);
  const auto kind = unpacker.Take<uint8_t>();
  const auto phase = unpacker.Take<uint8_t>();
  request->layer = unpacker.Take<uint16_t>();
  request->n_tokens = unpacker.Take<uint32_t>();
  request->token = unpacker.Take<int64_t>();
  request->time_us = unpacker.Take<uint64_t>();
  const auto n_accesses = unpacker.Take<uint32_t>();
  request->routes_per_token = unpacker.Take<uint16_t>();
  unpacker.Take<uint16_t>();
  if (!unpacker.ok()) Fail(block_offset_, record + "cut off");
  if (kind > static_cast<uint8_t>(TraceKind::kProtect)) {
    Fail(block_offset_, record + "unknown kind " + std::to_string(kind));
  }
  if (phase > static_cast<uint8_t>(Phase::kDecode)) {
    Fail(block_offset_, record + "unknown phase " + std::to_string(phase));
  }
  if (request->layer >= header_.n_layers) {
    Fail(block_offset_, record + "layer " + std::to_string(request->layer) + " of " +
                            std::to_string(header_.n_layers));
  }
  if (request->token < 0 || request->token > kMaxToken) {
    Fail(block_offset_, record + "token " + std::to_string(request->token) + " out of range");
  }
  request->kind = static_cast<TraceKind>(kind);
  request->phase = static_cast<Phase>(phase);
  const uint64_t n_routes = uint64_t{request->n_tokens} * request->routes_per_token;
  if (n_accesses > static_cast<uint32_t>(header_.n_experts) ||
      n_accesses * kAccessBytes > unpacker.left() ||
      n_routes > (unpacker.left() - n_accesses * kAccessBytes) / kRouteBytes) {
    Fail(block_offset_, record + std::to_string(n_accesses) + " experts and " +
                            std::to_string(n_routes) + " routes do not fit");
  }

  const EntryId first = static_cast<EntryId>(request->layer) * header_.n_experts;
  const EntryId n_entries = static_cast<EntryId>(header_.n_layers) * header_.n_experts;
  accesses_.clear();
  for (uint32_t i = 0; i < n_accesses; ++i) {
    TraceAccess access;
    access.entry = unpacker.Take<uint32_t>();
    access.victim = unpacker.Take<uint32_t>();
    access.gate_weight = unpacker.Take<float>();
    access.bytes = unpacker.Take<uint32_t>();
    access.wait_us = unpacker.Take<uint32_t>();
    access.rank = unpacker.Take<uint8_t>();
    const auto outcome = unpacker.Take<uint8_t>();
    unpacker.Take<uint16_t>();
    if (access.entry < first || access.entry - first >= static_cast<EntryId>(header_.n_experts)) {
      Fail(block_offset_, record + "entry " + std::to_string(access.entry) + " is not of layer " +
                              std::to_string(request->layer));
    }
    if (access.victim != kNoEntry && access.victim >= n_entries) {
      Fail(block_offset_, record + "victim " + std::to_string(access.victim));
    }
    if (outcome > static_cast<uint8_t>(AccessOutcome::kHitPrefetched)) {
      Fail(block_offset_, record + "unknown outcome " + std::to_string(outcome));
    }
    access.outcome = static_cast<AccessOutcome>(outcome);
    accesses_.push_back(access);
  }
  seen_.assign(header_.n_experts, 0);
  for (const TraceAccess& access : accesses_) {
    if (seen_[access.entry - first]++ != 0) {
      Fail(block_offset_, record + "entry " + std::to_string(access.entry) + " twice");
    }
  }
  routes_.clear();
  for (uint64_t i = 0; i < n_routes; ++i) {
    RouterChoice route;
    route.expert = unpacker.Take<uint16_t>();
    route.weight = unpacker.Take<float>();
    if (route.expert >= header_.n_experts) {
      Fail(block_offset_, record + "routed expert " + std::to_string(route.expert) + " of " +
                              std::to_string(header_.n_experts));
    }
    routes_.push_back(route);
  }
  request->accesses = accesses_;
  request->routes = routes_;
  position_ = block_.size() - unpacker.left();
}

// --- Whole files ----------------------------------------------------------------------------

bool IsTraceFile(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char magic[sizeof(kMagic)];
  return fd.valid() && ::pread(fd.get(), magic, sizeof(magic), 0) == sizeof(magic) &&
         std::memcmp(magic, kMagic, sizeof(kMagic)) == 0;
}

Trace LoadTrace(const std::filesystem::path& path, uint64_t max_bytes) {
  TraceReader reader(path);
  Trace trace;
  trace.header = reader.header();
  TraceRequest request;
  while (reader.Next(&request)) {
    trace.Append(request);
    if (trace.memory_bytes() > max_bytes) {
      throw std::runtime_error("trace " + path.string() + ": needs more than " +
                               FormatBytes(max_bytes) + " of memory; record a shorter run");
    }
  }
  trace.complete = reader.complete();
  return trace;
}

void SaveTrace(const Trace& trace, const std::filesystem::path& path, bool compress) {
  TraceWriter writer(path, trace.header, {.compress = compress});
  writer.Begin();
  for (size_t i = 0; i < trace.size(); ++i) writer.Append(trace[i]);
  writer.Close();
}

}  // namespace stoker
