#include "runtime/rounding.h"

#include <algorithm>

#include "runtime/matmul/fast_backend.h"

namespace stoker {

KvTypes ChooseKvTypes(const KvChoice& choice, Precision precision, const WeightStore& store) {
  const bool quantised = std::ranges::any_of(store.tensors(), [](const StoredTensor& tensor) {
    return Info(tensor.type).block_elements > 1;
  });
  const KvType chosen =
      quantised && precision == Precision::kFast ? KvType::kF16 : KvType::kF32;
  return {choice.keys.value_or(chosen), choice.values.value_or(chosen)};
}

bool WantsResidual(const WeightStore& store) {
  uint64_t fine = 0;
  uint64_t all = 0;
  for (const StoredTensor& tensor : store.tensors()) {
    if (Info(tensor.type).block_elements == 1) continue;
    all += tensor.extent.bytes;
    if (GainsFromResidual(tensor.type)) fine += tensor.extent.bytes;
  }
  return 2 * fine > all;
}

bool HasPlainExperts(const WeightStore& store) {
  const ModelConfig& config = store.config();
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (int32_t expert = 0; expert < config.n_experts; ++expert) {
      for (const ExpertPart part : {ExpertPart::kGate, ExpertPart::kUp, ExpertPart::kDown}) {
        if (Info(store.Expert({layer, expert}, part).type).block_elements == 1) return true;
      }
    }
  }
  return false;
}

}  // namespace stoker
