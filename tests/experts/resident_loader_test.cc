#include "experts/resident_loader.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "experts/expert_cache.h"
#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/expert_model.h"
#include "tests/support/fake_pager.h"
#include "tests/support/file_tree.h"
#include "tests/support/test_policy.h"

namespace stoker {
namespace {

using testing::FakeDevice;
using testing::FakePager;

// Large enough for several waves of first touch with two workers.
const WeightStore& Store() {
  static FileTree tree;
  static const std::unique_ptr<WeightStore> store = [] {
    const std::string path = tree.root() + "/model.gguf";
    testing::WriteExpertModel(path, {.n_layers = 3,
                                     .n_experts = 16,
                                     .hidden = 512,
                                     .expert_hidden = 2048,
                                     .vocab = 5000});
    return WeightStore::Open(path);
  }();
  return *store;
}

bool SameBytes(const TensorView& a, const TensorView& b) {
  return a.type == b.type && a.shape == b.shape && a.bytes == b.bytes &&
         std::memcmp(a.data, b.data, a.bytes) == 0;
}

bool SameExpert(const ExpertView& view, ExpertId id) {
  return SameBytes(view.gate, Store().ExpertView(id, ExpertPart::kGate)) &&
         SameBytes(view.up, Store().ExpertView(id, ExpertPart::kUp)) &&
         SameBytes(view.down, Store().ExpertView(id, ExpertPart::kDown));
}

// Takes every expert of every layer from the source and compares.
void CheckAllExperts(ExpertSource& source) {
  const ModelConfig& config = Store().config();
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    std::vector<ExpertId> ids;
    for (int32_t e = 0; e < config.n_experts; ++e) ids.push_back({layer, e});
    source.Request(ids);
    for (size_t i = 0; i < ids.size(); ++i) {
      const ExpertHandle handle = source.Next();
      CHECK(SameExpert(handle.view(), handle.id()));
    }
  }
}

TEST_CASE("resident weights are the file's bytes") {
  const std::vector<PagerFile> files = PagerFiles(Store());
  for (const int threads : {1, 2}) {
    for (const bool experts : {true, false}) {
      for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kPread, IoBackend::kMapped}) {
        std::unique_ptr<Pager> pager;
        try {
          pager = MakePager(backend, files);
        } catch (const std::exception& error) {
          WARN("skipped: " << error.what());
          continue;
        }
        CAPTURE(threads, experts, pager->Describe());
        ThreadTeam team(threads, false);
        uint64_t last = 0;
        uint64_t total = 0;
        ResidentOptions options;
        options.experts = experts;
        options.progress = [&](uint64_t done, uint64_t all) {
          CHECK(done >= last);
          last = done;
          total = all;
        };
        const ResidentWeights weights =
            ResidentWeights::Load(Store(), *pager, team, options);
        CHECK(last == total);
        CHECK(total > 0);
        CHECK(pager->pending() == 0);
        CHECK(weights.memory_bytes() ==
              ResidentWeights::MemoryBytes(Store(), *pager, experts));
        for (const StoredTensor& tensor : Store().tensors()) {
          if (tensor.name.find("_exps") != std::string::npos) continue;
          CAPTURE(tensor.name);
          CHECK(SameBytes(weights.View(tensor.name), Store().View(tensor)));
        }
        CHECK_FALSE(weights.Find("blk.0.no_such.weight").has_value());
        CHECK_THROWS_AS(weights.View("blk.0.no_such.weight"), std::runtime_error);
        if (!experts) {
          CHECK(weights.memory_bytes() < Store().total_bytes() / 4);
          continue;
        }
        CHECK(weights.memory_bytes() < Store().total_bytes() * 103 / 100);
        ResidentExperts source(Store(), weights);
        CheckAllExperts(source);
      }
    }
  }
}

TEST_CASE("mapped experts are the file's bytes") {
  MappedExperts source(Store());
  CheckAllExperts(source);
}

TEST_CASE("a real pager fills the cache with the file's bytes") {
  ThreadTeam team(2, false);
  const std::vector<PagerFile> files = PagerFiles(Store());
  for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kPread, IoBackend::kMapped}) {
    std::unique_ptr<Pager> pager;
    try {
      pager = MakePager(backend, files, {.piece_bytes = 256 * kKiB});
    } catch (const std::exception& error) {
      WARN("skipped: " << error.what());
      continue;
    }
    CAPTURE(pager->Describe());
    CachePlan plan = PlanCache(Store(), *pager, UINT64_MAX);
    plan = PlanCache(Store(), *pager, 5 * plan.slot_bytes);
    auto policy = std::make_unique<testing::TestPolicy>(plan.policy);
    ExpertCache cache(Store(), std::move(pager), std::move(policy), plan, team);
    CheckAllExperts(cache);
    CheckAllExperts(cache);
  }
}

TEST_CASE("a failed read while loading names file, tensor and offset") {
  ThreadTeam team(1, false);
  FakeDevice device;
  device.fail_from = 5;
  device.fail_count = UINT64_MAX;
  FakePager pager(PagerFiles(Store()), device);
  try {
    ResidentWeights::Load(Store(), pager, team);
    FAIL("loaded");
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    CAPTURE(message);
    CHECK(message.find("model.gguf: tensor ") != std::string::npos);
    CHECK(message.find(": read at offset ") != std::string::npos);
  }
  CHECK(pager.pending() == 0);
  pager.device().fail_from = 0;
  const ResidentWeights weights = ResidentWeights::Load(Store(), pager, team);
  CHECK(weights.has_experts());
}

}  // namespace
}  // namespace stoker
