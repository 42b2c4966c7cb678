#include "runtime/cli/bench_command.h"

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "experts/disk_rate.h"
#include "numa/bandwidth.h"
#include "numa/bytes.h"
#include "numa/cpu_features.h"
#include "numa/memory_limits.h"
#include "numa/topology.h"
#include "runtime/cli/bench_report.h"
#include "runtime/cli/command_line.h"
#include "runtime/cli/common_options.h"
#include "runtime/cli/interrupt.h"
#include "runtime/cli/model_summary.h"
#include "runtime/cli/numa_model.h"
#include "runtime/cli/option_values.h"
#include "runtime/cli/output.h"
#include "runtime/cli/progress.h"
#include "runtime/cli/sample_text.h"
#include "runtime/cli/usage.h"
#include "runtime/model.h"
#include "stoker_version.h"

namespace stoker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxTextBytes = 256 * kMiB;
constexpr size_t kMaxModelBytes = 16 * kMiB;

// Passes over the probe buffer at each measurement: at 30 GB/s a fifth of a second.
constexpr int kCeilingPasses = 3;
constexpr double kDiskSeconds = 0.7;  // of measuring the disk ceiling

struct BenchOptions {
  ModelOptions model;
  std::vector<int64_t> prompts = {512}, generations = {128}, depths = {0};
  int repetitions = 5;
  std::string format = "md", file;
  std::string numa_model;
  uint64_t seed = 1;
  bool random_tokens = false, no_warmup = false, verbose = false;
};

struct BenchTest {
  int64_t n_prompt, n_gen, n_depth;
};

// In llama-bench's order: for every depth the prompts, then the generations.
std::vector<BenchTest> TestsOf(const BenchOptions& options) {
  std::vector<BenchTest> tests;
  for (const int64_t depth : options.depths) {
    for (const int64_t n : options.prompts) {
      if (n > 0) tests.push_back({n, 0, depth});
    }
    for (const int64_t n : options.generations) {
      if (n > 0) tests.push_back({0, n, depth});
    }
  }
  if (tests.empty()) throw UsageError("nothing to measure: -p and -n are both 0");
  return tests;
}

// Tokens to feed: a text over and over, or uniformly random ids. Every pass takes the next ones:
// experts of tokens that were there before would be found in the cache more often.
class TokenStream {
 public:
  TokenStream(const BenchOptions& options, const Engine& engine, const std::string& text)
      : random_(options.seed), any_(0, static_cast<TokenId>(engine.config().vocab_size - 1)) {
    if (options.random_tokens) return;
    text_ = RequireTokenizer(engine).Encode(text, SpecialTokens::kPlain);
    if (text_.empty()) throw std::runtime_error("the prompt text is empty");
  }

  std::vector<TokenId> Next(int64_t count) {
    std::vector<TokenId> tokens(static_cast<size_t>(count));
    for (TokenId& token : tokens) {
      token = text_.empty() ? any_(random_) : text_[next_++ % text_.size()];
    }
    return tokens;
  }

 private:
  std::mt19937_64 random_;
  std::uniform_int_distribution<TokenId> any_;
  std::vector<TokenId> text_;  // empty: random ones
  size_t next_ = 0;
};

class NullSink : public ForwardSink {
 public:
  void OnLogits(int64_t, int64_t, std::span<const float>) override {}
};

class Bench {
 public:
  Bench(const BenchOptions& options, Engine& engine, TokenStream tokens, int64_t n_ctx)
      : options_(options),
        engine_(engine),
        tokens_(std::move(tokens)),
        state_(engine.model().NewState(n_ctx)),
        meter_(engine),
        probe_(
            MakeProbeBuffer(engine.team(), ProbeBytes(Topology::Detect(), UsableMemoryBytes()))) {}

  BenchRow Measure(const BenchTest& test) {
    BenchRow row;
    row.n_prompt = test.n_prompt;
    row.n_gen = test.n_gen;
    row.n_depth = test.n_depth;
    row.test_time = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));

    // 1. The context, once; every repetition starts from its snapshot.
    state_.Reset();
    if (test.n_depth > 0) Feed(tokens_.Next(test.n_depth), LogitRows::kNone);
    SequenceState::Snapshot start;
    state_.Save(start);
    if (!options_.no_warmup) {
      const BenchTest warmup = test.n_prompt > 0 ? test : BenchTest{0, 1, test.n_depth};
      RunOnce(warmup, tokens_.Next(warmup.n_prompt + warmup.n_gen));
      state_.Restore(start);
    }

    // 2. The timed region: whole repetitions, each between two measurements of the read ceiling. In
    // paged mode only the first and the last have one: reads on speculation would go on meanwhile.
    const bool paged = engine_.cache() != nullptr;
    double ceiling = ReadCeiling();
    double inverse_ceilings = 0;  // summed up over repetitions
    const auto measure_ceiling = [&] {
      const int repetitions = paged ? options_.repetitions : 1;  // since the last time
      const double next = ReadCeiling();
      inverse_ceilings += repetitions * 2 / (std::exchange(ceiling, next) + next);
    };
    const std::optional<double> disk_before = MeasureDiskCeiling(engine_, kDiskSeconds);
    engine_.model().ResetStats();
    const std::optional<uint64_t> page_cache = PageCacheBytes(engine_.store());
    const Usage before = meter_.Read();
    double seconds = 0;
    for (int i = 0; i < options_.repetitions; ++i) {
      const std::vector<TokenId> tokens = tokens_.Next(row.tokens());
      const Clock::time_point begin = Clock::now();
      RunOnce(test, tokens);
      const Clock::duration took = Clock::now() - begin;
      seconds += std::chrono::duration<double>(took).count();
      row.samples_ns.push_back(static_cast<uint64_t>(std::chrono::nanoseconds(took).count()));
      state_.Restore(start);
      if (!paged && i + 1 < options_.repetitions) measure_ceiling();
    }
    const Usage usage = meter_.Read() - before;
    const int64_t n_tokens = row.tokens() * options_.repetitions;
    const auto per_token = [n_tokens](auto value) {
      return static_cast<double>(value) / static_cast<double>(n_tokens);
    };
    row.major_faults_per_token = per_token(usage.major_faults);
    if (usage.process_read_bytes) row.disk_bytes_per_token = per_token(*usage.process_read_bytes);
    if (usage.device_read_bytes) {
      row.device_bytes_per_token = per_token(*usage.device_read_bytes);
    }
    if (const auto now = PageCacheBytes(engine_.store()); now && page_cache) {
      row.page_cache_growth_per_token =
          per_token(static_cast<double>(*now) - static_cast<double>(*page_cache));
    }
    measure_ceiling();
    row.read_ceiling_bytes_per_s = options_.repetitions / inverse_ceilings;
    if (const std::optional<double> disk_after = MeasureDiskCeiling(engine_, kDiskSeconds);
        disk_before && disk_after) {
      row.disk_ceiling_bytes_per_s = (*disk_before + *disk_after) / 2;
    }
    row.system_seconds_per_token = per_token(usage.system_seconds);

    // 3. What the figures mean beside the ceiling.
    const ForwardStats& stats = engine_.model().stats();
    row.stall_fraction = stats.expert_wait_seconds / seconds;
    const TokenBytes bytes = engine_.model().BytesPerToken(test.n_depth + test.n_gen / 2);
    row.weight_bytes_per_token = bytes.weights();
    row.attention_bytes_per_token = bytes.attention;
    row.expert_bytes_per_token = bytes.experts;
    row.head_bytes_per_token = bytes.head;
    row.state_bytes_per_token = bytes.state;
    const Roofs roofs =
        RoofsFor(bytes.weights(), usage, n_tokens,
                 {row.read_ceiling_bytes_per_s, row.disk_ceiling_bytes_per_s});
    row.memory_roof_ts = roofs.memory_ts;
    row.disk_roof_ts = roofs.disk_ts;
    // Of all repetitions together: a cache that fills makes them differ.
    const double ts = static_cast<double>(n_tokens) / seconds;
    if (test.n_gen > 0) {
      row.roof_fraction = ts / roofs.binding();
    } else if (roofs.disk_ts) {  // A prompt's products do not read the weights once per token.
      row.roof_fraction = ts / *roofs.disk_ts;
    }
    if (usage.paged) {
      row.hit_rate = usage.hit_rate();
      row.expert_bytes_read_per_token = per_token(usage.cache.bytes_read);
      row.pager_bytes_per_token = per_token(usage.cache.pager.bytes_read);
      if (const PagerStats& pager = usage.cache.pager; pager.reading_ns > 0) {
        row.reading_bytes_per_s = pager.reading_bytes_per_s();
      }
      row.prefetch_used_bytes_per_token = per_token(usage.cache.prefetch_used_bytes);
      row.prefetch_wasted_bytes_per_token = per_token(usage.cache.prefetch_wasted_bytes);
    }
    if (options_.verbose) {
      PrintStages(row, stats, seconds);
      if (usage.paged) PrintNote(row.test() + ": " + UsageLine(usage, n_tokens));
    }
    return row;
  }

 private:
  void Feed(std::span<const TokenId> tokens, LogitRows logits) {
    const TokenRun run{&state_, tokens, logits};
    NullSink sink;
    if (!engine_.model().Forward({&run, 1}, sink, options_.model.chunk_tokens, &InterruptFlag())) {
      throw InterruptedError();
    }
    ThrowIfInterrupted();
  }

  // Decode steps feed given tokens and compute logits; they do not sample, as in llama-bench.
  void RunOnce(const BenchTest& test, std::span<const TokenId> tokens) {
    if (test.n_prompt > 0) {
      Feed(tokens, LogitRows::kLast);
    } else {
      for (const TokenId& token : tokens) Feed({&token, 1}, LogitRows::kLast);
    }
  }

  double ReadCeiling() {
    return MeasureReadBandwidth(engine_.team(), probe_.span(), kCeilingPasses).bytes_per_second;
  }

  static void PrintStages(const BenchRow& row, const ForwardStats& stats, double seconds) {
    const auto percent = [seconds](double part) { return 100 * part / seconds; };
    PrintNote(fmt::format(
        "{}: attention {:.1f} %, router {:.1f} %, experts {:.1f} % (waiting {:.1f} %{}), "
        "head {:.1f} %, other {:.1f} %; "
        "per token: attention {}, experts {}, head {}, state {}; read ceiling {:.1f} GB/s",
        row.test(), percent(stats.attention_seconds), percent(stats.router_seconds),
        percent(stats.experts_seconds), percent(stats.expert_wait_seconds),
        stats.tokens_ahead > 0
            ? fmt::format(", next layer's projections of {} tokens early", stats.tokens_ahead)
            : std::string(),
        percent(stats.head_seconds), percent(stats.other_seconds),
        FormatBytes(row.attention_bytes_per_token), FormatBytes(row.expert_bytes_per_token),
        FormatBytes(row.head_bytes_per_token), FormatBytes(row.state_bytes_per_token),
        row.read_ceiling_bytes_per_s / 1e9));
  }

  const BenchOptions& options_;
  Engine& engine_;
  TokenStream tokens_;
  SequenceState state_;
  UsageMeter meter_;
  NodeBuffer probe_;
};

BenchSetup SetupOf(const BenchOptions& options, Engine& engine) {
  const ModelSummary summary = Summarise(engine.store());
  BenchSetup setup;
  setup.build_commit = STOKER_VERSION_STRING;
  setup.cpu_info = CpuFeatures::Detect().model_name;
  setup.model_filename = options.model.path;
  setup.model_type = ModelTypeLabel(engine.store());
  setup.model_size = summary.total_bytes;
  setup.model_n_params = summary.n_parameters;
  setup.n_ubatch = engine.options().chunk_tokens;
  setup.n_threads = engine.team().size();
  setup.mode = MemoryModeName(engine.mode());
  setup.isa = IsaLevelName(ActiveIsaLevel());
  setup.precision = options.model.exact ? "exact" : "fast";
  setup.type_k = KvTypeName(engine.kv().keys);
  setup.type_v = KvTypeName(engine.kv().values);
  setup.prompt = options.random_tokens ? "random" : "text";
  setup.mode_line = engine.ModeLine();
  return setup;
}

// Nothing is loaded or measured: what another machine would do.
int PredictBench(const BenchOptions& options) {
  RequireModelPath(options.model.path);
  const NumaModel model =
      ParseNumaModel(ReadTextFile(options.numa_model, kMaxModelBytes), options.numa_model);
  const std::unique_ptr<WeightStore> store = WeightStore::Open(options.model.path);
  const int64_t n_ctx = *std::max_element(options.depths.begin(), options.depths.end()) + 1;
  TextOutput output;
  const EngineOptions engine = ToEngineOptions(options.model);
  const KvTypes kv = ChooseKvTypes(engine.kv, engine.precision, *store);
  output.Write(FormatPredictions(PredictDecode(*store, model, n_ctx, kv), options.format));
  return kExitDone;
}

int RunBench(const BenchOptions& options) {
  if (!options.numa_model.empty()) return PredictBench(options);
  const std::vector<BenchTest> tests = TestsOf(options);
  int64_t n_ctx = 1;
  for (const BenchTest& test : tests)
    n_ctx = std::max(n_ctx, test.n_depth + test.n_prompt + test.n_gen);
  EngineOptions engine_options = ToEngineOptions(options.model);
  engine_options.n_ctx = n_ctx;
  engine_options.result_bytes = [](const ModelConfig&) { return kDiskProbeMemory; };
  engine_options.need_tokenizer = !options.random_tokens;
  // Read before the model is loaded: a missing file should not cost a minute.
  const std::string text =
      options.file.empty() ? std::string(SampleText()) : ReadTextFile(options.file, kMaxTextBytes);
  const std::unique_ptr<Engine> engine =
      OpenEngine(std::move(engine_options), {}, {NamedFile{"-f", options.file}});

  if (const std::string line = engine->TuningLine(); options.verbose && !line.empty()) {
    PrintNote(line);
  }
  Bench bench(options, *engine, TokenStream(options, *engine, text), n_ctx);
  BenchReport report(SetupOf(options, *engine), options.format);
  TextOutput output;
  ProgressLine progress("test");
  try {
    for (size_t i = 0; i < tests.size() && !output.closed(); ++i) {
      progress.UpdateCount(static_cast<int64_t>(i), static_cast<int64_t>(tests.size()), "done");
      const BenchRow row = bench.Measure(tests[i]);
      progress.Finish();
      output.Write(report.Add(row));
    }
  } catch (...) {
    progress.Finish();
    output.Write(report.Finish());
    throw;
  }
  output.Write(report.Finish());
  return kExitDone;
}

}  // namespace

std::function<int()> DeclareBench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  AddModelOptions(app, &options->model);
  app.remove_option(app.get_option("--ctx-size"));  // The tests say what they need.
  const auto add_counts = [&](const char* names, std::vector<int64_t>* values, const char* help) {
    app.add_option(names, *values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(WholeNumber(0, int64_t{1} << 31))
        ->capture_default_str()
        ->type_name("N,...");
  };
  add_counts("-p,--n-prompt", &options->prompts, "prompt lengths; 0: no prompt test");
  add_counts("-n,--n-gen", &options->generations, "numbers of decode steps; 0: no decode test");
  add_counts("-d,--n-depth", &options->depths, "tokens already in the context");
  app.add_option("-r,--repetitions", options->repetitions, "repetitions of each test")
      ->check(WholeNumber(1, 10000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("-o,--output", options->format, "md, csv, json or jsonl, on stdout")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  CLI::Option* file =
      app.add_option("-f,--file", options->file, "text to feed instead of the built-in passage");
  file->type_name("FILE");
  app.add_flag("--random-tokens", options->random_tokens,
               "feed random tokens as llama-bench does; they spread over the experts unlike text")
      ->excludes(file);
  AddSeed(app, &options->seed, "which random tokens")->needs("--random-tokens");
  app.add_option("--numa-model", options->numa_model,
                 "predict decode on another machine from the bandwidths between its NUMA nodes")
      ->type_name("FILE");
  app.add_flag("--no-warmup", options->no_warmup, "time the first run too");
  app.add_flag("-v,--verbose", options->verbose, "time per stage and bytes per token on stderr");
  return [options] { return RunBench(*options); };
}

}  // namespace stoker
