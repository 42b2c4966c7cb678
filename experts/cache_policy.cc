#include "experts/cache_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "experts/policies/policies.h"
#include "numa/check.h"
#include "numa/nearest_name.h"

namespace stoker {
namespace {

struct Entry {
  PolicyInfo info;
  PolicyMaker maker;  // nullptr for auto
};

constexpr std::string_view kScopeKey = "scope";

const std::vector<Entry>& Table() {
  static const std::vector<Entry> table = {
      {{"auto", "chooses by the budget relative to one token cycle", {}}, nullptr},
      {{"lru", "least recently used; hits nothing below one token cycle", {}}, MakeLru},
      {{"lfu",
        "least frequently used, with ageing, counts outlive eviction",
        {{"half_life", "forward passes after which a use counts half, 0.5 .. 1e9 (128)"}}},
       MakeLfu},
      {{"lfru",
        "privileged LRU part over an unprivileged LFU part",
        {{"privileged", "share of the capacity, 0 .. 1 (0.5)"}}},
       MakeLfru},
      {{"slru", "segmented LRU", {{"protected", "share of the capacity, 0 .. 1 (0.8)"}}}, MakeSlru},
      {{"2q",
        "FIFO filter before an LRU list",
        {{"in", "share of the capacity of the filter, 0 .. 1 (0.25)"},
         {"out", "ids remembered, in capacities, 0 .. 8 (0.5)"}}},
       MakeTwoQ},
      {{"arc", "recency and frequency lists balanced by their ghosts", {}}, MakeArc},
      {{"clock", "second chance", {}}, MakeClock},
      {{"sieve", "FIFO with a lazy hand", {}}, MakeSieve},
      {{"s3fifo",
        "small, main and ghost FIFO",
        {{"small", "share of the capacity of the small queue, 0 .. 1 (0.1)"}}},
       MakeS3Fifo},
      {{"wtinylfu",
        "recency window, then admission by frequency",
        {{"window", "share of the capacity, 0 .. 1 (0.01)"},
         {"protected", "protected share of the main part, 0 .. 1 (0.8)"},
         {"sample", "accesses until counts halve, in capacities, 1 .. 1e6 (10)"}}},
       MakeWTinyLfu},
      {{"gdsf", "frequency times bytes of a miss, with inflation", {}}, MakeGdsf},
      {{"least-stale", "what its layer passed over first, then what is needed last", {}},
       MakeLeastStale},
      {{"forecast",
        "learns while running how soon each expert comes back",
        {{"rate", "learning rate, 0 .. 10 (0.3)"},
         {"half_life", "of the longest count, in forward passes, 1 .. 1e6 (200)"},
         {"hints", "1 = use the router's scores where the caller has them (1)"}}},
       MakeForecast},
      {{"static",
        "keeps the experts most used in a recorded trace or frequency file",
        {{"from", "trace, or text of 'layer expert count' lines (required)"}}},
       MakeStatic},
      {{"random", "any unpinned entry", {}}, MakeRandom},
  };
  return table;
}

[[noreturn]] void ThrowUnknown(const std::string& what, std::string_view given,
                               std::span<const std::string_view> known) {
  const std::vector<std::string> names(known.begin(), known.end());
  std::string message = what;
  message.append(" '").append(given).append("'; ");
  if (const std::string nearest = NearestName(given, names); !nearest.empty()) {
    message.append("did you mean '").append(nearest).append("'? ");
  }
  message.append("Known:");
  for (const std::string_view name : known) message.append(" ").append(name);
  throw std::runtime_error(message);
}

std::vector<std::string_view> KnownKeys(const PolicyInfo& info) {
  std::vector<std::string_view> known = {kScopeKey};
  for (const auto& parameter : info.parameters) known.push_back(parameter.key);
  return known;
}

bool LayerScope(const PolicyParams& params) {
  const std::string scope = params.Text(kScopeKey, "global");
  if (scope != "global" && scope != "layer") {
    throw std::runtime_error("policy " + params.policy() + ": scope=" + scope +
                             " is neither global nor layer");
  }
  return scope == "layer";
}

// Where everything fits nothing is evicted and the cheapest policy serves. Everywhere else, below
// one token cycle and above it, `forecast` is never below LRU in the table of docs/policies.md, and
// the best in every cell but one: of the kind "local" at 75 % `gdsf` and `lfu:scope=layer` close a
// point more of the gap.
std::string AutoSpec(const PolicyConfig& config) {
  return config.capacity >= config.n_entries() ? "lru" : "forecast";
}

std::string Warning(std::string_view name, bool per_layer, const PolicyConfig& config) {
  if (config.capacity >= config.token_cycle() || config.capacity >= config.n_entries()) return {};
  char text[320];
  const bool cliff = name == "lru" && !per_layer;
  std::snprintf(text, sizeof(text),
                "expert cache of %u experts is below one token cycle of %u (%d layers x %d): at "
                "least %.0f %% of the experts of every decoded token come from disk%s; raise "
                "--memory by %u experts to reach it",
                config.capacity, config.token_cycle(), config.n_layers, config.top_k,
                100.0 * (1.0 - static_cast<double>(config.capacity) / config.token_cycle()),
                cliff ? ", and with global lru all of them (use --policy auto)" : "",
                config.token_cycle() - config.capacity);
  return text;
}

}  // namespace

PolicyParams::PolicyParams(std::string_view policy, std::string_view text) : policy_(policy) {
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view item = text.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      throw std::runtime_error("policy " + policy_ + ": '" + std::string(item) +
                               "' is not key=value");
    }
    if (Find(item.substr(0, equals)) != nullptr) {
      throw std::runtime_error("policy " + policy_ + ": " + std::string(item.substr(0, equals)) +
                               " is given twice");
    }
    items_.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
}

void PolicyParams::CheckKeys(std::span<const std::string_view> known) const {
  for (const auto& [key, value] : items_) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      ThrowUnknown("policy " + policy_ + ": unknown parameter", key, known);
    }
  }
}

const std::string* PolicyParams::Find(std::string_view key) const {
  for (const auto& [name, value] : items_) {
    if (name == key) return &value;
  }
  return nullptr;
}

double PolicyParams::Real(std::string_view key, double fallback, double min, double max) const {
  const std::string* text = Find(key);
  if (text == nullptr) return fallback;
  double value = 0.0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() ||
      !(value >= min && value <= max)) {
    char range[80];
    std::snprintf(range, sizeof(range), "%g .. %g", min, max);
    throw std::runtime_error("policy " + policy_ + ": " + std::string(key) + "=" + *text +
                             " is not a number in " + range);
  }
  return value;
}

int64_t PolicyParams::Integer(std::string_view key, int64_t fallback, int64_t min,
                              int64_t max) const {
  const std::string* text = Find(key);
  if (text == nullptr) return fallback;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < min || value > max) {
    throw std::runtime_error("policy " + policy_ + ": " + std::string(key) + "=" + *text +
                             " is not a whole number in " + std::to_string(min) + " .. " +
                             std::to_string(max));
  }
  return value;
}

std::string PolicyParams::Text(std::string_view key, std::string_view fallback) const {
  const std::string* text = Find(key);
  return text != nullptr ? *text : std::string(fallback);
}

std::span<const PolicyInfo> ListPolicies() {
  static const std::vector<PolicyInfo> infos = [] {
    std::vector<PolicyInfo> list;
    for (const Entry& entry : Table()) list.push_back(entry.info);
    return list;
  }();
  return infos;
}

std::vector<std::string> SplitPolicySpecs(std::string_view list) {
  std::vector<std::string> specs;
  while (true) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view piece = list.substr(0, comma);
    const size_t mark = piece.find_first_of("=:/");
    const bool continues = mark != std::string_view::npos && piece[mark] == '=';
    if (continues && !specs.empty()) {
      specs.back().append(",").append(piece);
    } else {
      specs.emplace_back(piece);
    }
    if (comma == list.size()) return specs;
    list.remove_prefix(comma + 1);
  }
}

bool IsPluginSpec(std::string_view spec) {
  return spec.substr(0, spec.find('=')).find('/') != std::string_view::npos;
}

PolicyChoice MakePolicy(std::string_view spec, const PolicyConfig& config) {
  STOKER_CHECK(config.n_layers >= 1 && config.n_layers <= 4096);
  STOKER_CHECK(config.n_experts >= 1 && config.n_experts <= 65536);
  STOKER_CHECK(static_cast<int64_t>(config.n_layers) * config.n_experts <= kMaxEntries);
  STOKER_CHECK(config.capacity >= 1 && config.capacity <= config.n_entries());
  STOKER_CHECK(config.layer_cost.empty() ||
               config.layer_cost.size() == static_cast<size_t>(config.n_layers));

  // A plug-in's path may itself contain ':' only before its last '/'.
  const bool plugin = IsPluginSpec(spec);
  const size_t last_slash = plugin ? spec.rfind('/', spec.find('=')) : 0;
  const size_t colon = std::min(spec.find(':', last_slash), spec.size());
  const std::string_view name = spec.substr(0, colon);
  const PolicyParams params(name, spec.substr(std::min(colon + 1, spec.size())));
  PolicyChoice choice;
  choice.spec = spec;
  if (plugin) {
    choice.policy = MakePlugin(std::string(name), config, params);
    return choice;
  }

  std::vector<std::string_view> names;
  for (const Entry& entry : Table()) names.push_back(entry.info.name);
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) ThrowUnknown("unknown policy", name, names);
  const Entry& entry = Table()[found - names.begin()];
  params.CheckKeys(KnownKeys(entry.info));
  const bool per_layer = LayerScope(params);
  if (per_layer && name == "static") {
    throw std::runtime_error(
        "policy static: scope=layer makes no sense, its counts are per layer "
        "already; leave scope at global");
  }
  if (entry.maker == nullptr) {
    choice = MakePolicy(per_layer ? AutoSpec(config) + ":scope=layer" : AutoSpec(config), config);
  } else {
    choice.policy =
        per_layer ? MakePerLayer(config, params, entry.maker) : entry.maker(config, params);
  }
  choice.warning = Warning(name, per_layer, config);
  return choice;
}

}  // namespace stoker
