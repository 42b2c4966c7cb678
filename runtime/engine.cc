#include "runtime/engine.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "experts/cache_policy.h"
#include "experts/device_tuning.h"
#include "experts/observed_experts.h"
#include "experts/resident_loader.h"
#include "experts/row_reader.h"
#include "experts/trace_recorder.h"
#include "mmap/kept_values.h"
#include "numa/bytes.h"
#include "numa/check.h"
#include "numa/cpu_features.h"
#include "numa/memory_limits.h"
#include "numa/team_plan.h"
#include "runtime/matmul/fast_backend.h"
#include "runtime/matmul/reference_backend.h"
#include "runtime/matmul/tuning.h"
#include "runtime/memory_plan.h"
#include "runtime/placement_input.h"

namespace stoker {
namespace {

std::string Layer(int64_t layer, std::string_view part) {
  return "blk." + std::to_string(layer) + "." + std::string(part) + ".weight";
}

template <typename ViewOf>
ModelWeights CollectWeights(const ModelConfig& config, const ViewOf& view) {
  ModelWeights weights;
  weights.embedding = view("token_embd.weight");
  weights.output_norm = view("output_norm.weight");
  weights.output = config.tied_embeddings ? weights.embedding : view("output.weight");
  for (int64_t l = 0; l < config.n_layers; ++l) {
    LayerWeights layer;
    layer.attn_norm = view(Layer(l, "attn_norm"));
    layer.ffn_norm = view(Layer(l, "ffn_norm"));
    layer.out = view(Layer(l, "attn_output"));
    layer.router = view(Layer(l, "ffn_gate_inp"));
    if (config.attention[l] == AttentionKind::kLightning) {
      layer.qkv = view(Layer(l, "attn_qkv"));
      layer.gate = view(Layer(l, "attn_gate"));
      layer.lightning_norm = view(Layer(l, "attn_norm_2"));
    } else {
      layer.q = view(Layer(l, "attn_q"));
      layer.k = view(Layer(l, "attn_k"));
      layer.v = view(Layer(l, "attn_v"));
    }
    weights.layers.push_back(layer);
  }
  return weights;
}

// `kernels`: those that will multiply; null for full-precision activations.
void RefuseUnsupported(const WeightStore& store, const KernelTable* kernels) {
  const ModelConfig& config = store.config();
  if (config.shared_hidden_size > 0) {
    throw std::runtime_error(store.files().front().path.string() + ": a shared expert of width " +
                             std::to_string(config.shared_hidden_size) +
                             " is not supported; released M1 weights have none");
  }
  for (const StoredTensor& tensor : store.tensors()) {
    if (!Info(tensor.type).computable) {
      throw std::runtime_error(store.files()[tensor.extent.file].path.string() + ": " +
                               tensor.file_name + ": no kernel for type " +
                               std::string(Info(tensor.type).name) +
                               "; use a file with Q2_K .. Q8_0, IQ4 or BF16 weights");
    }
    if (kernels == nullptr) continue;
    const TypeKernels& own = kernels->For(tensor.type);
    if (own.dot_panels == nullptr || own.dot_plain != nullptr) continue;  // may stay rows
    const auto row_bytes = static_cast<int64_t>(store.View(tensor).row_bytes());
    if (row_bytes > kMostPanelRowBytes) {
      throw std::runtime_error(store.files()[tensor.extent.file].path.string() + ": " +
                               tensor.file_name + ": rows of " + std::to_string(row_bytes) +
                               " bytes, and kernels for integer activations take at most " +
                               std::to_string(kMostPanelRowBytes) + "; use --exact");
    }
  }
}

// The forms that gate and up matrices read, over every type in the store and every number of rows.
uint32_t ExpertInputForms(const WeightStore& store, const MatmulBackend& matmul, int64_t max_rows) {
  uint32_t forms = 0;
  for (int32_t l = 0; l < store.config().n_layers; ++l) {
    for (int32_t e = 0; e < store.config().n_experts; ++e) {
      for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp}) {
        const DType type = store.Expert({l, e}, part).type;
        for (int64_t m = 1; m <= max_rows; m *= 2) forms |= matmul.FormsFor(type, m);
        forms |= matmul.FormsFor(type, max_rows);
      }
    }
  }
  return forms;
}

// The types of matrices that products read, each once; not the routers', which are small.
std::vector<DType> MatrixTypes(const WeightStore& store) {
  std::vector<DType> types;
  for (const StoredTensor& tensor : store.tensors()) {
    const size_t n_dims = tensor.shape.size();
    if (n_dims < 2 || tensor.shape[n_dims - 2] < kSmallRows) continue;
    if (std::find(types.begin(), types.end(), tensor.type) == types.end()) {
      types.push_back(tensor.type);
    }
  }
  return types;
}

}  // namespace

struct Engine::Parts {
  EngineOptions options;
  MemoryPlan plan;
  std::string io_description;
  std::string policy;  // what runs, "auto" resolved
  PlacementPlan placement;
  PageCheck page_check;

  // In order of construction; each may borrow from those above.
  std::unique_ptr<WeightStore> store;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<ThreadTeam> team;
  std::optional<ResidentWeights> weights;  // all, or those outside the experts
  std::unique_ptr<RowReader> embedding;    // in paged mode
  std::unique_ptr<TraceRecorder> recorder;
  std::unique_ptr<ExpertSource> experts;
  std::unique_ptr<ObservedExperts> observed;  // around experts that have no cache
  ExpertCache* cache = nullptr;               // experts, in paged mode
  std::optional<DeviceTuning> device;  // where the drive was asked
  Calibration calibration;
  std::unique_ptr<MatmulBackend> matmul;
  std::unique_ptr<Model> model;

  Topology topology;  // what --numa leaves of it, with the CPUs of the workers alone
  std::vector<WorkerPlace> places;
  std::unique_ptr<Pager> pager;

  std::unique_ptr<Pager> OpenPager(IoBackend io) const;
  std::unique_ptr<Pager> OpenPager(IoBackend io, std::span<const PagerFile> files,
                                   const PagerOptions& how) const;
  void Prepare(bool on_described_machine);
  void PlaceOnNodes(bool on_described_machine);
  void MakeTeam();
  void LoadWeights();
  void LoadExperts();
  void Calibrate();
  const DeviceTuning& Device(IoBackend backend);
  void TunePager();
  void OpenTrace(const std::string& policy, uint32_t capacity, uint64_t seed);
  void CloseTrace() noexcept;
  void RelayDense(ModelWeights* dense);
  void RelayExperts();
};

std::unique_ptr<Pager> Engine::Parts::OpenPager(IoBackend io) const {
  return OpenPager(io, PagerFiles(*store, options.mirror_dirs),
                   device ? device->pager : PagerOptions{});
}

std::unique_ptr<Pager> Engine::Parts::OpenPager(IoBackend io, std::span<const PagerFile> files,
                                                const PagerOptions& how) const {
  return options.make_pager ? options.make_pager(io, files, how) : MakePager(io, files, how);
}

// Everything that is decided before memory is taken: workers, pager, memory mode, placement. A
// described machine has the memory that its description gives it, or shares ours.
void Engine::Parts::Prepare(bool on_described_machine) {
  if (options.n_ctx < 1) {
    throw std::runtime_error("a context of at least one token is needed (-c)");
  }
  if (options.chunk_tokens < 0) throw std::runtime_error("-ub must be at least 1");
  store = WeightStore::Open(options.model_path);
  const bool integer = options.precision == Precision::kFast && !options.reference_backend;
  RefuseUnsupported(*store, integer ? &ActiveKernels() : nullptr);

  topology = ChosenTopology(Topology::Detect(), options.numa);
  int n_threads = options.n_threads;
  if (n_threads == 0) n_threads = DefaultThreads(topology, UsableCpus());
  places = PlaceWorkers(topology, n_threads);
  topology = OnlyPlaced(topology, places);

  if (options.mode != MemoryMode::kMapped) {
    pager = OpenPager(options.io);
    io_description = pager->Describe();
  }
  // Refused here in every mode, so that a command line means the same on every machine.
  MakePolicy(options.policy, WholeModelPolicy(store->config()));
  uint64_t usable = UsableMemoryBytes();
  if (on_described_machine && !topology.is_this_system) {
    usable = 0;
    for (const Topology::Node& node : topology.nodes) usable += node.memory_bytes;
  }
  // What was measured here says nothing of a machine that is described.
  PromptRates rates;
  rates.n_workers = static_cast<int>(places.size());
  rates.disk_bytes_per_second = [] { return DeviceTuning::kDefaultRate; };
  if (!on_described_machine || topology.is_this_system) {
    Calibrate();
    rates.products = calibration.rates;
    rates.disk_bytes_per_second = [this] { return Device(pager->backend()).bytes_per_second; };
  }
  plan = PlanMemory(&options, *store, pager.get(), places, usable, rates);
  PlaceOnNodes(on_described_machine);
}

void Engine::Parts::PlaceOnNodes(bool on_described_machine) {
  PlacementShape shape;
  shape.n_ctx = options.n_ctx;
  shape.kv = ChooseKvTypes(options.kv, options.precision, *store);
  if (plan.mode == MemoryMode::kPaged) shape.n_slots = plan.cache.n_slots;
  PlanInput input = MakePlanInput(*store, shape);
  if (plan.mode == MemoryMode::kPaged && !LeftOnDisk(store->config()).empty()) {
    std::erase_if(input.tensors, [](const PlannedTensor& tensor) {
      return tensor.placement == TensorPlacement::kInterleaved;
    });
  }
  input.choice = options.numa;
  if (plan.mode == MemoryMode::kMapped) {
    // The page cache decides where pages of a mapping lie.
    const bool is_virtual = input.choice.virtual_nodes > 0;
    if (!is_virtual && input.choice.mode != NumaMode::kAuto &&
        input.choice.mode != NumaMode::kOff) {
      throw std::runtime_error("--numa " + std::string(NumaModeName(input.choice.mode)) +
                               " cannot place mapped weights; use --mode resident or paged");
    }
    if (!is_virtual) input.choice.mode = NumaMode::kOff;
    std::erase_if(input.tensors, [](const PlannedTensor& tensor) { return tensor.is_weight; });
  } else {
    input.bandwidth = MeasureNodes(topology, places, options.numa, options.pin_threads);
  }
  if (!topology.is_this_system && !on_described_machine) {
    input.capacity_bytes.assign(topology.nodes.size(), UsableMemoryBytes());
  }
  try {
    const bool may_shard =
        input.choice.mode == NumaMode::kAuto || input.choice.mode == NumaMode::kShard;
    if (may_shard && CountNodes(places) > 1 && store->config().head_dim % kRowGrain != 0) {
      throw std::runtime_error("heads of " + std::to_string(store->config().head_dim) +
                               " rows are not whole panels of " + std::to_string(kRowGrain) +
                               "; use --numa off");
    }
    placement = PlacementPlan::Make(topology, input);
  } catch (const std::runtime_error& error) {
    if (input.choice.mode != NumaMode::kAuto) throw;
    spdlog::warn("the weights are not shared out over NUMA nodes: {}", error.what());
    input.choice.mode = NumaMode::kOff;
    placement = PlacementPlan::Make(topology, input);
  }
}

// The team that computes as the placement says, and slots divided for it.
void Engine::Parts::MakeTeam() {
  TeamPlan team_plan = MakeTeamPlan(topology, placement, places);
  team = std::make_unique<ThreadTeam>(std::move(team_plan.places), std::move(team_plan.partition),
                                      options.pin_threads);
  if (plan.mode != MemoryMode::kPaged) return;
  plan.cache = PlanSlots(options, *store, *pager, plan, team->partition());
  plan.rows[1] = CacheRow(plan.cache, store->config());
}

// Fills weights and experts as the plan says. A pager that the cache does not keep is closed
// afterwards.
void Engine::Parts::LoadWeights() {
  LoadExperts();
  if (cache == nullptr && !options.trace_path.empty()) {
    OpenTrace("", 0, 0);
    observed = std::make_unique<ObservedExperts>(*experts, *recorder);
  }
}

void Engine::Parts::OpenTrace(const std::string& running, uint32_t capacity, uint64_t seed) {
  const auto max_routes = static_cast<uint16_t>(store->config().n_experts);
  recorder = std::make_unique<TraceRecorder>(
      options.trace_path, TraceHeaderFor(*store, running, capacity, seed),
      static_cast<uint32_t>(options.chunk_tokens), max_routes);
}

// The run is over; that its trace is not whole must be said, but changes nothing else.
void Engine::Parts::CloseTrace() noexcept {
  if (recorder == nullptr) return;
  try {
    recorder->Close();
  } catch (const std::exception& error) {
    spdlog::warn("the trace is not complete: {}", error.what());
  }
}

void Engine::Parts::LoadExperts() {
  if (plan.mode == MemoryMode::kMapped) {
    experts = std::make_unique<MappedExperts>(*store);
    return;
  }
  const bool resident = plan.mode == MemoryMode::kResident;
  weights = ResidentWeights::Load(*store, *pager, *team,
                                  {.experts = resident,
                                   .without = resident ? "" : LeftOnDisk(store->config()),
                                   .progress = options.on_load});
  if (resident) {
    experts = std::make_unique<ResidentExperts>(*store, *weights);
    pager.reset();
    return;
  }
  TunePager();
  if (const std::string_view name = LeftOnDisk(store->config()); !name.empty()) {
    // Its reads are small: what the drive likes for whole experts says nothing of them.
    const StoredTensor& matrix = store->Get(name);
    const std::vector<PagerFile> files = PagerFiles(*store, options.mirror_dirs);
    embedding = std::make_unique<RowReader>(
        *store, OpenPager(pager->backend(), {&files[matrix.extent.file], 1}, PagerOptions{}),
        matrix, options.chunk_tokens);
  }
  PolicyChoice choice = MakePolicy(options.policy, plan.cache.policy);
  policy = choice.spec;
  if (!choice.warning.empty()) spdlog::warn("{}", choice.warning);
  if (!options.trace_path.empty()) {
    OpenTrace(choice.spec, plan.cache.policy.capacity, plan.cache.policy.seed);
  }
  auto made = std::make_unique<ExpertCache>(*store, std::move(pager), std::move(choice.policy),
                                            plan.cache, *team, recorder.get(), options.prefetch);
  cache = made.get();
  experts = std::move(made);
}

const DeviceTuning& Engine::Parts::Device(IoBackend backend) {
  if (!device) {
    device = options.tune && !options.make_pager
                 ? TuneDevices(PagerFiles(*store, options.mirror_dirs), backend, CacheDirectory())
                 : DeviceTuning{};
  }
  return *device;
}

// Before the cache takes it: a prompt or a token reads as the drive likes it best.
void Engine::Parts::TunePager() {
  const IoBackend backend = pager->backend();
  if (Device(backend).pager == PagerOptions{}) return;  // as it was opened
  pager.reset();  // A model may have so many files that both would not fit.
  pager = OpenPager(backend);
  plan.cache.block_bytes = device->pager.piece_bytes;
}

void Engine::Parts::Calibrate() {
  const KernelTable& kernels = ActiveKernels();
  const bool has_choice = options.precision == Precision::kFast && !options.reference_backend &&
                          kernels.level != IsaLevel::kScalar;
  if (!has_choice) return;
  if (!options.tune) {
    calibration.source = "not measured: --no-tune";
    return;
  }
  calibration = stoker::Calibrate(kernels, MatrixTypes(*store), store->config().hidden_size,
                                  CacheDirectory());
}

// Re-lays every matrix outside the experts for the kernels. The embedding stays: it is read row by
// row, also where it is the output matrix as well.
void Engine::Parts::RelayDense(ModelWeights* dense) {
  if (!weights) return;  // the page cache's bytes are not ours
  std::vector<TensorView*> matrices;
  if (!store->config().tied_embeddings) matrices.push_back(&dense->output);
  for (LayerWeights& layer : dense->layers) {
    for (TensorView* view : {&layer.qkv, &layer.gate, &layer.q, &layer.k, &layer.v, &layer.out}) {
      if (view->data != nullptr) matrices.push_back(view);
    }
  }
  for (TensorView* view : matrices) view->may_relay = true;
  team->Run([&](const Worker& worker) {
    for (const TensorView* view : matrices) matmul->Relay(worker, *view);
  });
  for (TensorView* view : matrices) {
    view->layout = matmul->LayoutAfter(*view);
    view->may_relay = false;
  }
}

// Experts of a cache are re-laid when they are first used; where all are in memory, at load, so
// that the first tokens are as fast as the others.
void Engine::Parts::RelayExperts() {
  if (plan.mode != MemoryMode::kResident) return;
  const ModelConfig& config = store->config();
  std::vector<ExpertId> layer_ids(static_cast<size_t>(config.n_experts));
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (int32_t expert = 0; expert < config.n_experts; ++expert) {
      layer_ids[static_cast<size_t>(expert)] = {layer, expert};
    }
    experts->Request(layer_ids);
    for (size_t i = 0; i < layer_ids.size(); ++i) {
      ExpertHandle handle = experts->Next();
      const ExpertView& view = handle.view();
      team->Run([&](const Worker& worker) {
        for (const TensorView* matrix : {&view.gate, &view.up, &view.down}) {
          matmul->Relay(worker, *matrix);
        }
      });
      handle.SetLayouts(matmul->LayoutAfter(view.gate), matmul->LayoutAfter(view.up),
                        matmul->LayoutAfter(view.down));
    }
  }
}

Engine::Engine() : parts_(std::make_unique<Parts>()) {}
Engine::~Engine() {
  if (parts_ != nullptr) parts_->CloseTrace();
}

EnginePlan Engine::Plan(EngineOptions options) {
  Parts parts;
  parts.options = std::move(options);
  parts.Prepare(/*on_described_machine=*/true);
  return {parts.plan.mode, std::move(parts.plan.rows), std::move(parts.placement)};
}

std::unique_ptr<Engine> Engine::Open(EngineOptions options) {
  std::unique_ptr<Engine> engine(new Engine());
  Parts& parts = *engine->parts_;
  parts.options = std::move(options);
  const EngineOptions& chosen = parts.options;
  parts.Prepare(/*on_described_machine=*/false);
  const WeightStore& store = *parts.store;
  const ModelConfig& config = store.config();
  if (chosen.need_tokenizer) {
    parts.tokenizer = store.gguf_metadata() != nullptr
                          ? Tokenizer::FromGguf(*store.gguf_metadata(), config.vocab_size)
                          : Tokenizer::OpenDirectory(store.directory(), config.vocab_size);
  }
  parts.MakeTeam();
  parts.LoadWeights();
  parts.options.on_load = nullptr;  // they may borrow from the caller's frame
  parts.options.result_bytes = nullptr;
  if (parts.weights) parts.page_check += CheckPages(parts.weights->memory());
  if (parts.cache != nullptr) parts.page_check += CheckPages(parts.cache->memory());

  const int64_t max_cols =
      std::max({config.hidden_size, config.n_heads * config.head_dim, config.expert_hidden_size});
  parts.matmul = chosen.reference_backend
                     ? MakeReferenceBackend(parts.team->size(), max_cols)
                     : MakeFastBackend(chosen.precision, parts.team->size(), ActiveIsaLevel(),
                                       WantsResidual(store), parts.calibration.tuning);

  Model::Parts model;
  model.config = config;
  model.weights = CollectWeights(config, [&](const std::string& name) {
    const bool loaded = parts.weights && !(parts.embedding && name == kEmbedding);
    return loaded ? parts.weights->View(name) : store.View(store.Get(name));
  });
  parts.RelayDense(&model.weights);
  parts.RelayExperts();
  model.embedding = parts.embedding.get();
  model.experts = parts.observed ? parts.observed.get() : parts.experts.get();
  model.matmul = parts.matmul.get();
  model.team = parts.team.get();
  model.kv = engine->kv();
  model.size = parts.plan.workspace;
  model.experts_input_forms = ExpertInputForms(store, *parts.matmul, chosen.chunk_tokens);
  model.expert_bytes_per_token = store.expert_bytes_per_token();
  parts.model = std::make_unique<Model>(std::move(model));
  return engine;
}

const WeightStore& Engine::store() const { return *parts_->store; }
const ModelConfig& Engine::config() const { return parts_->store->config(); }
const Tokenizer* Engine::tokenizer() const { return parts_->tokenizer.get(); }
Model& Engine::model() { return *parts_->model; }
ThreadTeam& Engine::team() { return *parts_->team; }
MemoryMode Engine::mode() const { return parts_->plan.mode; }
const ExpertCache* Engine::cache() const { return parts_->cache; }
const EngineOptions& Engine::options() const { return parts_->options; }
const std::vector<BudgetRow>& Engine::budget() const { return parts_->plan.rows; }
KvTypes Engine::kv() const {
  return ChooseKvTypes(parts_->options.kv, parts_->options.precision, *parts_->store);
}

std::string Engine::ModeLine() const {
  const Parts& parts = *parts_;
  std::string line = "mode: ";
  switch (parts.plan.mode) {
    case MemoryMode::kAuto:
      STOKER_CHECK_MSG(false, "the plan resolves auto");
      break;
    case MemoryMode::kResident:
      line += "resident (" + FormatBytes(parts.weights->memory_bytes()) + " by " +
              parts.io_description + ")";
      break;
    case MemoryMode::kMapped:
      line += "mapped (" + FormatBytes(parts.store->total_bytes()) + " through the page cache)";
      break;
    case MemoryMode::kPaged:
      line += "paged (" + std::to_string(parts.cache->n_slots()) + " of " +
              std::to_string(config().n_layers * config().n_experts) + " experts in " +
              FormatBytes(parts.cache->memory_bytes()) + ", policy " + parts.policy +
              ", prefetch " + std::string(PrefetchModeName(parts.options.prefetch)) + ", " +
              parts.io_description + ")";
      break;
  }
  line += "; isa " + std::string(IsaLevelName(ActiveIsaLevel()));
  line += "; " + std::to_string(parts.team->size()) + " threads";
  line += parts.team->pinned() ? " pinned" : " not pinned";
  line += "; " + std::string(parts.matmul->name());
  return line;
}

PagerOptions Engine::pager_options() const {
  return parts_->device ? parts_->device->pager : PagerOptions{};
}

std::string Engine::TuningLine() const {
  const Parts& parts = *parts_;
  std::string types, plain;
  const MatmulTuning& tuning = parts.calibration.tuning;
  for (const DType type : MatrixTypes(*parts.store)) {
    if (ActiveKernels().For(type).dot_plain != nullptr) {
      const int64_t tokens = OneDnnTokens(ActiveIsaLevel(), type, tuning);
      plain += (plain.empty() ? "" : ", ") + std::string(Info(type).name) +
               (tokens == MatmulTuning::kNever ? " never"
                                               : " from " + std::to_string(tokens) + " tokens on");
    }
    if (ActiveKernels().For(type).gemm_panels == nullptr) continue;
    types += (types.empty() ? "" : ", ") + std::string(Info(type).name) + " from " +
             std::to_string(tuning.gemm_tokens(type));
    const int64_t scaled = tuning.scaled_tokens(type);
    if (ActiveKernels().For(type).planes > 0 && scaled < MatmulTuning::kNever) {
      types += " (micro-kernel from " + std::to_string(scaled) + ")";
    }
  }
  std::string line;
  if (!types.empty() && !parts.calibration.source.empty()) {
    line = "matmul: panels unpacked first: " + types + " tokens on (" + parts.calibration.source +
           ")";
  }
  if (!plain.empty()) {
    line += (line.empty() ? "matmul: " : "; ") + std::string("through oneDNN: ") + plain;
  }
  if (parts.device && !parts.device->source.empty()) {
    const PagerOptions& pager = parts.device->pager;
    line += (line.empty() ? "" : "; ") + std::string("disk: pieces of ") +
            FormatBytes(pager.piece_bytes) + ", " + std::to_string(pager.waiting_depth) + " to " +
            std::to_string(pager.depth) + " in flight (" + parts.device->source + ")";
  }
  if (parts.plan.chunk_costs.size() > 1) {
    line += line.empty() ? "" : "; ";
    line += "prompts by " + std::to_string(parts.options.chunk_tokens) + " tokens (estimated:";
    for (const ChunkCost& cost : parts.plan.chunk_costs) {
      line += fmt::format(" {} at {:.0f} tok/s{}", cost.tokens, 1.0 / cost.prompt_seconds,
                          &cost == &parts.plan.chunk_costs.back() ? ")" : ",");
    }
  }
  return line;
}

const PlacementPlan& Engine::placement() const { return parts_->placement; }
const PageCheck& Engine::page_check() const { return parts_->page_check; }

std::string Engine::NumaLine() const {
  const Parts& parts = *parts_;
  const Partition& partition = parts.team->partition();
  const bool plain = partition.n_nodes() == 1 && partition.stripe_nodes().empty() &&
                     !partition.binds_rows() && parts.placement.nodes.size() == 1;
  if (plain) return "";
  std::string line = "numa: " + std::string(NumaModeName(parts.placement.mode));
  if (parts.placement.mode == NumaMode::kNode) {
    line += ":" + std::to_string(parts.options.numa.os_node);
  }
  if (partition.n_nodes() > 1) {
    line += " over " + std::to_string(partition.n_nodes()) + " nodes (";
    for (int node = 0; node < partition.n_nodes(); ++node) {
      char text[16];
      std::snprintf(text, sizeof(text), "%s%.1f %%", node > 0 ? ", " : "",
                    100 * partition.share(node));
      line += text;
    }
    line += ")";
  }
  if (parts.plan.mode == MemoryMode::kMapped) return line + "; pages as the page cache has them";
  return line + "; " +
         parts.page_check.Format(parts.cache != nullptr ? "weight and slot" : "weight");
}

std::unique_ptr<Session> Engine::NewSession() {
  return std::make_unique<Session>(*parts_->model, parts_->options.n_ctx);
}

}  // namespace stoker
