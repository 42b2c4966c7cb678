#include "experts/pager.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "experts/mapped_pager.h"
#include "experts/open_files.h"
#include "experts/pread_pager.h"
#include "experts/uring_pager.h"
#include "mmap/weight_store.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

std::string WhatHappened(const ReadCompletion& completion) {
  const std::string text = "read at offset " + std::to_string(completion.offset);
  switch (completion.status) {
    case ReadStatus::kOk:
      return text + " succeeded";
    case ReadStatus::kError:
      return text + " failed: " + std::strerror(completion.error);
    case ReadStatus::kShrank:
      return text + " met the end of the file: it has been truncated since it was opened";
    case ReadStatus::kCancelled:
      return text + " was cancelled";
  }
  return text;
}

// What usually stands behind the errno of a refused io_uring, and what to do.
std::string_view UringHint(int error) {
  switch (error) {
    case EPERM:
      return "forbidden by a container's seccomp profile or by sysctl kernel.io_uring_disabled";
    case ENOSYS:
      return "this kernel or sandbox has no io_uring";
    case ENOMEM:
      return "locked-memory limit too low, see ulimit -l";
    case EOPNOTSUPP:
      return "not supported for this file";
    default:
      return "unexpected";
  }
}

// The text before ": <strerror>" of a system_error, which the rethrown one adds again.
std::string OperationOf(const std::system_error& error) {
  const std::string text = error.what();
  return text.substr(0, text.rfind(": "));
}

void CheckOptions(const PagerOptions& options) {
  const bool good = options.piece_bytes >= 64 * kKiB && options.piece_bytes <= kGiB &&
                    options.piece_bytes % (64 * kKiB) == 0 && options.depth >= 1 &&
                    options.depth <= 1024 && options.waiting_depth >= 1 && options.threads >= 1 &&
                    options.threads <= 64 && options.max_requests >= 1;
  if (!good) {
    throw std::runtime_error(
        "io: piece size must be a multiple of 64 KiB up to 1 GiB, depth 1 .. 1024, "
        "threads 1 .. 64");
  }
}

}  // namespace

std::string_view IoBackendName(IoBackend backend) {
  switch (backend) {
    case IoBackend::kAuto:
      return "auto";
    case IoBackend::kUring:
      return "uring";
    case IoBackend::kPread:
      return "pread";
    case IoBackend::kMapped:
      return "mapped";
  }
  return "?";
}

std::optional<IoBackend> IoBackendFromName(std::string_view name) {
  for (const IoBackend backend :
       {IoBackend::kAuto, IoBackend::kUring, IoBackend::kPread, IoBackend::kMapped}) {
    if (IoBackendName(backend) == name) return backend;
  }
  return std::nullopt;
}

std::string ReadErrorMessage(const std::filesystem::path& file, const ReadCompletion& completion) {
  return file.string() + ": " + WhatHappened(completion);
}

std::string ReadErrorMessage(const WeightStore& store, const ReadCompletion& completion) {
  std::string text = store.files()[completion.file].path.string() + ": ";
  for (const StoredTensor& tensor : store.tensors()) {
    if (tensor.extent.file == completion.file && completion.offset >= tensor.extent.offset &&
        completion.offset - tensor.extent.offset < tensor.extent.bytes) {
      text += "tensor " + tensor.name + ": ";
      break;
    }
  }
  return text + WhatHappened(completion);
}

std::unique_ptr<Pager> MakePager(IoBackend backend, std::span<const PagerFile> files,
                                 const PagerOptions& options) {
  CheckOptions(options);
  std::optional<OpenFiles> direct;
  if (backend != IoBackend::kMapped) {
    try {
      direct = OpenFiles::Open(files, true);
    } catch (const DirectIoRefused& error) {
      if (backend != IoBackend::kAuto) {
        throw std::runtime_error("--io " + std::string(IoBackendName(backend)) + ": " +
                                 error.what() + "; use --io auto");
      }
      spdlog::warn("io: {}; reading through the page cache", error.what());
    }
  }
  if (!direct) return std::make_unique<MappedPager>(OpenFiles::Open(files, false), options);
  if (backend == IoBackend::kPread) {
    return std::make_unique<PreadPager>(std::move(*direct), options);
  }

  try {
    return std::make_unique<UringPager>(std::move(*direct), options);
  } catch (const std::system_error& error) {
    const std::string_view hint = UringHint(error.code().value());
    if (backend == IoBackend::kUring) {
      throw std::system_error(error.code(), "--io uring is not possible here (" +
                                                std::string(hint) +
                                                "), use --io auto: " + OperationOf(error));
    }
    spdlog::warn("io: no io_uring ({}; {}); using {} pread threads", error.what(), hint,
                 options.threads);
  }
  return std::make_unique<PreadPager>(OpenFiles::Open(files, true), options);
}

}  // namespace stoker
