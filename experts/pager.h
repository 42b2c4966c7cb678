#pragma once

// Reads file extents into memory, many at a time, at the speed of the device. A Pager owns its own
// (direct) descriptors of a fixed list of files; memory belongs to the caller, but from Submit
// until its completion is reaped a destination belongs to the pager, errors and destruction
// included. Three implementations share one contract, byte for byte: io_uring, a pool of pread
// threads, and the page cache ("mapped"). Engine-thread only. It knows nothing of experts, slots or
// policies.
//
// Alignment. Direct I/O wants aligned offsets, lengths and addresses, and extents of downloaded
// files have none. So a destination is an aligned block with slack: the pager reads the aligned
// superset of the extent, and the payload starts `offset % alignment()` bytes into the block, which
// must hold PaddedBytes(offset, bytes, alignment()). Bytes of the block outside the payload are
// neighbouring bytes of the file, or untouched beyond its end.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stoker {

class WeightStore;

enum class IoBackend : uint8_t { kAuto, kUring, kPread, kMapped };

std::string_view IoBackendName(IoBackend backend);  // "auto", "uring", "pread", "mapped"
std::optional<IoBackend> IoBackendFromName(std::string_view name);

struct PagerFile {
  std::filesystem::path path;  // for messages, and to open when fd < 0
  uint64_t bytes = 0;          // extents must end within it
  // Borrowed during construction and reopened, so that a rename does not matter.
  int fd = -1;
  // Copies on other drives, read alternately, and instead of one that fails.
  std::vector<std::filesystem::path> mirrors;
};

// The files of an open store, each with its copy of the same name in every directory of
// `mirror_dirs` that has one. Whether a copy is one is for who opens it to see.
std::vector<PagerFile> PagerFiles(const WeightStore& store,
                                  const std::vector<std::filesystem::path>& mirror_dirs = {});

// Speculative reads, those not demanded, are made only while their device has nothing else to do.
enum class ReadUrgency : uint8_t {
  kDemanded,
  kLikely,   // nearly certain to be asked for: as many pieces as the depth allows
  kGuessed,  // a few pieces at a time: what is asked for next has to wait for them
};

struct ReadRequest {
  uint32_t file = 0;
  uint64_t offset = 0;               // any
  uint64_t bytes = 0;                // > 0, any
  std::byte* destination = nullptr;  // aligned to alignment(); see above
  uint64_t tag = 0;                  // returned with the completion
  ReadUrgency urgency = ReadUrgency::kDemanded;
};

enum class ReadStatus : uint8_t {
  kOk,
  kError,   // `error` is the errno
  kShrank,  // the file ends before the extent does
  kCancelled,
};

struct ReadCompletion {
  uint64_t tag = 0;
  ReadStatus status = ReadStatus::kOk;
  int error = 0;
  uint32_t file = 0;
  uint64_t offset = 0;  // first byte that could not be read; meaningful unless kOk
  uint64_t bytes = 0;   // read into the destination, whatever the status
};

// Requests by tag: [first, first + count).
struct TagRange {
  uint64_t first = 0;
  uint64_t count = 0;
  bool Contains(uint64_t tag) const { return tag - first < count; }
};

// "FILE: read at offset 8192 failed: Input/output error". Meaningful unless kOk.
std::string ReadErrorMessage(const std::filesystem::path& file, const ReadCompletion& completion);

// The same with the tensor that lies there: "FILE: tensor blk.0.ffn_up_exps.weight: read at ...".
std::string ReadErrorMessage(const WeightStore& store, const ReadCompletion& completion);

struct PagerOptions {
  uint64_t piece_bytes = 2 * 1024 * 1024;  // one I/O; a multiple of 64 KiB, at most 1 GiB
  uint32_t depth = 64;                     // pieces in flight per device (io_uring), 1 .. 1024
  uint32_t waiting_depth = 8;              // the same while the caller waits, or on a guess
  uint32_t threads = 4;                    // pread pool, 1 .. 64
  uint32_t max_requests = 4096;            // submitted and not yet reaped

  friend bool operator==(const PagerOptions&, const PagerOptions&) = default;
};

struct PagerStats {
  uint64_t requests = 0;      // completed without error
  uint64_t failed = 0;        // completed with one, cancelled ones aside
  uint64_t reads = 0;         // I/Os issued
  uint64_t bytes_read = 0;    // as the device counts them: padding included, re-read bytes again
  uint64_t short_reads = 0;   // answered with less than asked, and continued
  uint64_t retries = 0;       // EAGAIN, EINTR, ENOMEM, EIO ... and tried again
  uint64_t failovers = 0;     // a copy that failed, and another that was read instead
  uint64_t unregistered = 0;  // io_uring reads outside registered memory
  uint64_t reading_ns = 0;    // in which at least one was in flight

  // While reading; 0 when nothing was read.
  double reading_bytes_per_s() const {
    if (reading_ns == 0) return 0.0;
    return 1e9 * static_cast<double>(bytes_read) / static_cast<double>(reading_ns);
  }
};

// Bytes a destination block for this extent must hold.
constexpr uint64_t PaddedBytes(uint64_t offset, uint64_t bytes, uint64_t alignment) {
  return (offset % alignment + bytes + alignment - 1) / alignment * alignment;
}

class Pager {
 public:
  virtual ~Pager() = default;  // waits for every read in flight

  virtual IoBackend backend() const = 0;
  // Power of two, at least 4096: fits 512-byte and 4Kn drives alike.
  virtual uint64_t alignment() const = 0;
  // "io_uring, O_DIRECT, registered buffers"
  virtual std::string Describe() const = 0;

  // Announces memory that destinations will come from, already touched; may pin it for the device.
  // Optional, at most once; the memory must outlive the pager. Failure costs nothing but speed.
  virtual void RegisterMemory(std::span<std::byte> /*memory*/) {}

  // Queues the reads, first come first served per device, and starts as many as the depth allows.
  // Does not wait. Reads never fail here: what becomes of them is reported by Reap.
  virtual void Submit(std::span<const ReadRequest> requests) = 0;
  // Fills `out` with up to out.size() completions, in order of completion, and returns how many.
  // wait: blocks until there is at least one, unless nothing is pending. Also keeps the devices
  // busy, so call it now and then while reads are pending. Like whatever else issues reads, throws
  // std::system_error only when the kernel interface itself fails.
  virtual size_t Reap(std::span<ReadCompletion> out, bool wait) = 0;
  // Speculative reads that are needed now: they queue up behind the others submitted so far.
  virtual void Promote(TagRange tags) = 0;
  // Gives speculative reads up: what has not started completes as kCancelled, the rest as it comes.
  // Returns the bytes of them in flight, which whatever is submitted next has to wait for.
  virtual uint64_t Drop(TagRange tags) = 0;
  // The caller will compute for a while and not call Reap: fills the devices' queues to the full
  // depth. Otherwise fewer reads are in flight, so that they arrive in the order they were asked
  // for: a drive serves what it has in any order.
  virtual void FillQueues() {}
  // Submitted and not yet reaped.
  virtual size_t pending() const = 0;
  // Forgets reads that have not started; they and those in flight complete, the former as
  // kCancelled. Does not wait.
  virtual void CancelQueued() = 0;

  virtual PagerStats stats() const = 0;
};

// kAuto: the fastest backend that passes a real read of every file (io_uring, then pread, then
// mapped where direct I/O is refused); each step down logs one line naming the cause. Any other
// value: that backend, or std::runtime_error / std::system_error saying why not.
std::unique_ptr<Pager> MakePager(IoBackend backend, std::span<const PagerFile> files,
                                 const PagerOptions& options = {});

}  // namespace stoker
