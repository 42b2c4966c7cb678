#include "runtime/cli/synth_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "mmap/atomic_file.h"
#include "mmap/gguf_writer.h"
#include "numa/bytes.h"
#include "runtime/cli/synth_blocks.h"
#include "runtime/cli/synth_vocabulary.h"

namespace stoker {
namespace {

constexpr uint64_t kPieceBytes = 8 * kMiB;
constexpr uint64_t kSpareDiskBytes = 64 * kMiB;

// M1's common residual factor, (2 * 80)^(1/4). A slice keeps it: it sets how strongly a token's own
// vector outweighs what attention and experts add.
constexpr float kResidualScale = 3.5565588f;

void AddMetadata(const SynthRequest& request, GgufWriter* writer) {
  const SynthShape& shape = request.shape;
  const auto key = [](const char* name) { return std::string("minimax-01.") + name; };
  const auto u32 = [&](const char* name, int64_t value) {
    writer->Add(key(name), static_cast<uint32_t>(value));
  };
  writer->AddString("general.architecture", "minimax-01");
  writer->AddString("general.type", "model");
  writer->AddString("general.name", fmt::format("Random M1 (seed {})", request.seed));
  writer->Add("general.file_type", request.mix->gguf_id);
  writer->Add("general.quantization_version", uint32_t{2});
  u32("block_count", shape.n_layers);
  u32("context_length", shape.context_length);
  u32("embedding_length", shape.hidden_size);
  u32("feed_forward_length", shape.expert_hidden_size);
  u32("attention.head_count", shape.n_heads);
  u32("attention.head_count_kv", shape.n_kv_heads);
  u32("attention.key_length", shape.head_dim);
  u32("attention.value_length", shape.head_dim);
  writer->Add(key("attention.layer_norm_rms_epsilon"), 1e-5f);
  writer->Add(key("rope.freq_base"), 1e7f);
  u32("rope.dimension_count", shape.rotary_dim);
  u32("expert_count", shape.n_experts);
  u32("expert_used_count", shape.n_experts_per_token);
  writer->Add(key("residual_scale"), kResidualScale);
  u32("full_attention_interval", shape.interval());

  const SynthVocabulary vocabulary = MakeSynthVocabulary(shape.vocab_size);
  writer->AddString("tokenizer.ggml.model", "gpt2");
  writer->AddString("tokenizer.ggml.pre", "minimax-m2");
  writer->AddStrings("tokenizer.ggml.tokens", vocabulary.tokens);
  writer->AddArray<int32_t>("tokenizer.ggml.token_type", vocabulary.types);
  writer->AddStrings("tokenizer.ggml.merges", vocabulary.merges);
  writer->Add("tokenizer.ggml.bos_token_id", vocabulary.bos_id);
  writer->Add("tokenizer.ggml.eos_token_id", vocabulary.eos_id);
  writer->Add("tokenizer.ggml.unknown_token_id", vocabulary.unknown_id);
  writer->Add("tokenizer.ggml.add_bos_token", false);
  writer->AddString("tokenizer.chat_template", vocabulary.chat_template);
}

// A device or a pipe takes no space of ours.
void RequireDiskSpace(const std::filesystem::path& path, uint64_t bytes) {
  std::error_code error;
  if (std::filesystem::is_other(path, error)) return;
  // The link of a name may lie on another disk than the file.
  const std::filesystem::path file = std::filesystem::absolute(AtomicFile::Target(path));
  const std::filesystem::space_info space = std::filesystem::space(file.parent_path(), error);
  if (error) throw std::system_error(error, file.parent_path().string());
  if (space.available < bytes + kSpareDiskBytes) {
    throw std::runtime_error(
        fmt::format("{}: the file needs {} and leaves {} to others; the disk has {} free; use "
                    "fewer --layers or another directory",
                    path.string(), FormatBytes(bytes), FormatBytes(kSpareDiskBytes),
                    FormatBytes(space.available)));
  }
}

// A run of whole blocks of one tensor, filled from its own random sequence.
struct Piece {
  const SynthTensor* tensor;
  uint64_t bytes;
  uint64_t seed;
};

std::vector<Piece> CutPieces(const std::vector<SynthTensor>& tensors, uint64_t seed) {
  std::vector<Piece> pieces;
  FastRandom seeds(seed);
  for (const SynthTensor& tensor : tensors) {
    if (tensor.same_as >= 0) continue;
    const uint64_t piece_bytes = AlignDown<uint64_t>(kPieceBytes, Info(tensor.type).block_bytes);
    for (uint64_t at = 0; at < tensor.bytes; at += piece_bytes) {
      pieces.push_back({&tensor, std::min(piece_bytes, tensor.bytes - at), seeds.Next()});
    }
  }
  return pieces;
}

// Generates pieces on several threads, a bounded number ahead of the reader, and hands them out in
// order.
class PieceGenerator {
 public:
  PieceGenerator(const std::vector<Piece>& pieces, int n_threads)
      : pieces_(pieces),
        window_(static_cast<size_t>(2 * n_threads)),
        buffers_(window_),
        ready_(window_, false) {
    for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~PieceGenerator() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Waits for the next piece and passes its bytes to `use`.
  template <typename Use>
  void Next(Use use) {
    std::unique_lock lock(mutex_);
    const size_t slot = taken_ % window_;
    changed_.wait(lock, [&] { return static_cast<bool>(ready_[slot]); });
    lock.unlock();
    use(std::span<const std::byte>(buffers_[slot]));
    lock.lock();
    ready_[slot] = false;
    ++taken_;
    lock.unlock();
    changed_.notify_all();
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] {
        return stopped_ || started_ == pieces_.size() || started_ < taken_ + window_;
      });
      if (stopped_ || started_ == pieces_.size()) return;
      const size_t index = started_++;
      std::vector<std::byte>& buffer = buffers_[index % window_];
      lock.unlock();
      const Piece& piece = pieces_[index];
      buffer.resize(piece.bytes);
      FastRandom random(piece.seed);
      FillRandom(piece.tensor->type, piece.tensor->mean, piece.tensor->stddev, random, buffer);
      lock.lock();
      ready_[index % window_] = true;
      changed_.notify_all();
    }
  }

  const std::vector<Piece>& pieces_;
  const size_t window_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<bool> ready_;
  size_t started_ = 0;  // pieces given to a thread
  size_t taken_ = 0;    // pieces written
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

SynthResult WriteSynthModel(const SynthRequest& request) {
  std::vector<SynthTensor> tensors =
      PlanTensors(request.shape, *request.mix, request.overrides);
  if (request.distinct_expert_layers > 0) RepeatExperts(request.distinct_expert_layers, &tensors);
  const bool shares = std::any_of(tensors.begin(), tensors.end(),
                                  [](const SynthTensor& tensor) { return tensor.same_as >= 0; });
  GgufWriter writer(request.path, shares ? AtomicFile::kShareAlignment : kGgufAlignment);
  if (shares && !writer.CanShareBlocks()) {
    throw std::runtime_error(fmt::format(
        "{}: this file system cannot let layers share blocks of the disk; choose a directory on "
        "XFS or Btrfs, or write all layers without --distinct-experts",
        request.path.string()));
  }
  AddMetadata(request, &writer);
  uint64_t data_bytes = 0, shared_bytes = 0;
  for (const SynthTensor& tensor : tensors) {
    if (!CanFillRandom(tensor.type)) {
      throw std::runtime_error(
          fmt::format("synth: cannot make {} blocks for {}", Info(tensor.type).name, tensor.name));
    }
    writer.AddTensor(tensor.name, tensor.type, tensor.shape);
    (tensor.same_as < 0 ? data_bytes : shared_bytes) += tensor.bytes;
  }
  SynthResult result{writer.file_bytes(), writer.file_bytes() - shared_bytes, true};
  RequireDiskSpace(request.path, result.written_bytes);

  const std::vector<Piece> pieces = CutPieces(tensors, request.seed);
  PieceGenerator generator(pieces, request.n_threads);
  uint64_t done = 0;
  for (const SynthTensor& tensor : tensors) {
    if (tensor.same_as >= 0) {
      writer.ShareData(static_cast<size_t>(tensor.same_as));
      continue;
    }
    for (uint64_t left = tensor.bytes; left > 0;) {
      if (request.stop != nullptr && *request.stop) {
        result.complete = false;
        return result;
      }
      generator.Next([&](std::span<const std::byte> bytes) {
        writer.WriteData(bytes);
        left -= bytes.size();
        done += bytes.size();
      });
      if (request.on_progress) request.on_progress(done, data_bytes);
    }
  }
  writer.Finish();
  return result;
}

}  // namespace stoker
