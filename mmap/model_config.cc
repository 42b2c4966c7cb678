#include "mmap/model_config.h"

#include <algorithm>
#include <cmath>

#include "mmap/config_reader.h"
#include "mmap/format_error.h"

namespace stoker {

int64_t ModelConfig::n_lightning_layers() const {
  return std::count(attention.begin(), attention.end(), AttentionKind::kLightning);
}

int64_t ModelConfig::n_softmax_layers() const {
  return std::count(attention.begin(), attention.end(), AttentionKind::kSoftmax);
}

void ValidateConfig(const ModelConfig& config, const std::string& where) {
  const auto demand = [&](bool holds, std::string_view field, const std::string& reason) {
    if (!holds) throw FormatError(where, field, reason);
  };
  const auto text = [](int64_t n) { return std::to_string(n); };
  demand(config.n_heads % config.n_kv_heads == 0, "number of heads",
         text(config.n_heads) + " is not a multiple of the " + text(config.n_kv_heads) +
             " key-value heads");
  demand(config.rotary_dim % 2 == 0 && config.rotary_dim <= config.head_dim, "rotary dimension",
         "is " + text(config.rotary_dim) + ", expected an even number up to the head dimension " +
             text(config.head_dim));
  demand(config.n_experts_per_token <= config.n_experts, "experts per token",
         text(config.n_experts_per_token) + " exceed the " + text(config.n_experts) + " experts");
  demand(std::isfinite(config.rope_theta) && config.rope_theta >= 1.0, "rope base",
         "is " + std::to_string(config.rope_theta) + ", expected a finite number of at least 1");
  demand(std::isfinite(config.rms_norm_eps) && config.rms_norm_eps > 0.0f &&
             config.rms_norm_eps <= 1.0f,
         "norm epsilon", "is " + std::to_string(config.rms_norm_eps) + ", expected above 0 to 1");
  for (const float factor : {config.lightning_alpha, config.lightning_beta, config.softmax_alpha,
                             config.softmax_beta, config.moe_alpha, config.moe_beta}) {
    demand(std::isfinite(factor), "residual factor", "is not a finite number");
  }
}

}  // namespace stoker
