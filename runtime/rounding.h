#pragma once

// How finely keys, values and activations are rounded, where it follows from how finely the weights
// are. Pure.

#include <optional>

#include "mmap/weight_store.h"
#include "runtime/matmul/matmul_backend.h"
#include "runtime/sequence_state.h"

namespace stoker {

struct KvChoice {
  std::optional<KvType> keys;  // nullopt: chosen
  std::optional<KvType> values;
};

// f16 where weights are quantised and activations rounded to eight bits anyway: half the memory and
// half the bytes at depth. f32 for weights of full precision and with Precision::kExact.
KvTypes ChooseKvTypes(const KvChoice& choice, Precision precision, const WeightStore& store);

// Whether most quantised bytes have eight or six bits a weight. Then what the rounding of
// activations to eight bits leaves over is multiplied as well: it would be the larger error. In a
// model of coarser weights it would cost time and gain nothing.
bool WantsResidual(const WeightStore& store);

// Whether an expert has matrices that are not quantised, whose products read activations in f32.
bool HasPlainExperts(const WeightStore& store);

}  // namespace stoker
