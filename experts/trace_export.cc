#include "experts/trace_export.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stdexcept>
#include <string>

#include "numa/bytes.h"

namespace stoker {
namespace {

const char* Name(TraceKind kind) {
  constexpr const char* kNames[] = {"demand", "prefetch", "protect"};
  return kNames[static_cast<int>(kind)];
}
const char* Name(Phase phase) { return phase == Phase::kPrefill ? "prefill" : "decode"; }
const char* Name(AccessOutcome outcome) {
  constexpr const char* kNames[] = {"unknown", "hit", "miss", "hit_prefetched"};
  return kNames[static_cast<int>(outcome)];
}

void ExportCsv(const Trace& trace, std::ostream& out) {
  out << "time_us,kind,phase,token,n_tokens,layer,expert,rank,gate_weight,outcome,bytes,wait_us,"
         "victim_layer,victim_expert\n";
  const int n_experts = trace.header.n_experts;
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest r = trace[i];
    for (const TraceAccess& a : r.accesses) {
      char line[256];
      std::snprintf(line, sizeof(line), "%" PRIu64 ",%s,%s,%" PRId64 ",%u,%d,%u,%u,%g,%s,%u,%u,",
                    r.time_us, Name(r.kind), Name(r.phase), r.token, r.n_tokens, r.layer,
                    a.entry % n_experts, a.rank, static_cast<double>(a.gate_weight),
                    Name(a.outcome), a.bytes, a.wait_us);
      out << line;
      if (a.victim != kNoEntry)
        out << a.victim / n_experts << ',' << a.victim % n_experts;
      else
        out << ',';
      out << '\n';
    }
  }
}

void ExportJsonl(const Trace& trace, std::ostream& out) {
  using nlohmann::ordered_json;
  const TraceHeader& h = trace.header;
  char hash[32];
  std::snprintf(hash, sizeof(hash), "%016" PRIx64, h.model_hash);
  const auto dump = [](const ordered_json& json) {
    return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  };
  out << dump(ordered_json{{"model_hash", hash},
                           {"model", h.model},
                           {"types", h.types},
                           {"n_layers", h.n_layers},
                           {"n_experts", h.n_experts},
                           {"top_k", h.top_k},
                           {"policy", h.policy},
                           {"capacity", h.capacity},
                           {"seed", h.seed},
                           {"expert_bytes", h.expert_bytes}})
      << '\n';
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest r = trace[i];
    ordered_json record = {{"kind", Name(r.kind)}, {"phase", Name(r.phase)},
                           {"token", r.token},     {"n_tokens", r.n_tokens},
                           {"layer", r.layer},     {"time_us", r.time_us}};
    ordered_json& accesses = record["accesses"] = ordered_json::array();
    for (const TraceAccess& a : r.accesses) {
      ordered_json access = {
          {"expert", a.entry % h.n_experts}, {"rank", a.rank},   {"gate_weight", a.gate_weight},
          {"outcome", Name(a.outcome)},      {"bytes", a.bytes}, {"wait_us", a.wait_us}};
      if (a.victim != kNoEntry) {
        access["victim"] = {a.victim / h.n_experts, a.victim % h.n_experts};
      }
      accesses.push_back(std::move(access));
    }
    if (!r.routes.empty()) {
      ordered_json& routes = record["routes"] = ordered_json::array();
      for (uint32_t t = 0; t < r.n_tokens; ++t) {
        ordered_json row = ordered_json::array();
        for (uint16_t k = 0; k < r.routes_per_token; ++k) {
          const RouterChoice& route = r.routes[size_t{t} * r.routes_per_token + k];
          row.push_back({route.expert, route.weight});
        }
        routes.push_back(std::move(row));
      }
    }
    out << dump(record) << '\n';
  }
}

void ExportOracleGeneral(const Trace& trace, std::ostream& out) {
  const auto n_entries = static_cast<size_t>(trace.header.n_layers) * trace.header.n_experts;
  // Backwards: the next access of an entry is the one met last.
  std::vector<int64_t> next_of;
  std::vector<int64_t> following(n_entries, -1);
  int64_t n = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].kind == TraceKind::kDemand) n += static_cast<int64_t>(trace[i].accesses.size());
  }
  next_of.resize(static_cast<size_t>(n));
  for (size_t i = trace.size(); i-- > 0;) {
    const TraceRequest r = trace[i];
    if (r.kind != TraceKind::kDemand) continue;
    for (size_t a = r.accesses.size(); a-- > 0;) {
      const EntryId entry = r.accesses[a].entry;
      next_of[--n] = following[entry];
      following[entry] = n;
    }
  }
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest r = trace[i];
    if (r.kind != TraceKind::kDemand) continue;
    const uint64_t bytes = trace.header.expert_bytes[r.layer];
    for (const TraceAccess& a : r.accesses) {
      char row[24];
      StoreLe(row, static_cast<uint32_t>(r.token));
      StoreLe(row + 4, static_cast<uint64_t>(a.entry));
      StoreLe(row + 12, static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)));
      StoreLe(row + 16, next_of[static_cast<size_t>(n++)]);
      out.write(row, sizeof(row));
    }
  }
}

void ExportPerfetto(const Trace& trace, std::ostream& out) {
  constexpr size_t kWindow = 1000;
  std::deque<bool> recent;
  size_t recent_hits = 0;
  out << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  // Slices of one thread must nest, so each kind of record has one of its own: 1, 2 and 3.
  constexpr const char* kThreads[] = {"layers", "reads ahead", "protected", "waits"};
  constexpr int kWaits = 4;
  for (int thread = 1; thread <= kWaits; ++thread) {
    out << "{\"ph\":\"M\",\"pid\":1,\"tid\":" << thread
        << ",\"name\":\"thread_name\",\"args\":{\"name\":\"" << kThreads[thread - 1] << "\"}}"
        << (thread < kWaits ? ",\n" : "");
  }
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest r = trace[i];
    uint64_t waits = 0;
    for (const TraceAccess& a : r.accesses) waits += a.wait_us;
    // A record bears the time of its end. Its waits are drawn before that, one after the other.
    const uint64_t start = r.time_us != 0 ? r.time_us - std::min(r.time_us, waits) : i * 1000;
    uint64_t wait = 0;  // so far
    uint64_t bytes = 0;
    size_t misses = 0;
    char text[320];
    for (const TraceAccess& a : r.accesses) {
      if (a.wait_us > 0) {
        std::snprintf(text, sizeof(text),
                      ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%" PRIu64
                      ",\"dur\":%u,\"name\":\"expert %u.%u\",\"args\":{\"bytes\":%u}}",
                      kWaits, start + wait, a.wait_us, a.entry / trace.header.n_experts,
                      a.entry % trace.header.n_experts, a.bytes);
        out << text;
      }
      wait += a.wait_us;
      bytes += a.bytes;
      if (r.kind != TraceKind::kDemand || a.outcome == AccessOutcome::kUnknown) continue;
      const bool hit = a.outcome != AccessOutcome::kMiss;
      misses += hit ? 0 : 1;
      recent.push_back(hit);
      recent_hits += hit ? 1 : 0;
      if (recent.size() > kWindow) {
        recent_hits -= recent.front() ? 1 : 0;
        recent.pop_front();
      }
    }
    std::snprintf(text, sizeof(text),
                  ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%" PRIu64 ",\"dur\":%" PRIu64
                  ",\"name\":\"%s layer %d\",\"args\":{\"token\":%" PRId64
                  ",\"phase\":\"%s\",\"misses\":%zu,\"bytes\":%" PRIu64 "}}",
                  1 + static_cast<int>(r.kind), start, std::max<uint64_t>(waits, 1), Name(r.kind),
                  r.layer, r.token, Name(r.phase), misses, bytes);
    out << text;
    if (!recent.empty()) {
      std::snprintf(text, sizeof(text),
                    ",\n{\"ph\":\"C\",\"pid\":1,\"ts\":%" PRIu64
                    ",\"name\":\"hit rate\",\"args\":{\"percent\":%.2f}}",
                    start,
                    100.0 * static_cast<double>(recent_hits) / static_cast<double>(recent.size()));
      out << text;
    }
  }
  out << "\n]}\n";
}

}  // namespace

TraceFormat ParseTraceFormat(std::string_view name) {
  if (name == "csv") return TraceFormat::kCsv;
  if (name == "jsonl") return TraceFormat::kJsonl;
  if (name == "oracleGeneral") return TraceFormat::kOracleGeneral;
  if (name == "perfetto") return TraceFormat::kPerfetto;
  throw std::runtime_error("unknown trace format '" + std::string(name) +
                           "'; known: csv jsonl oracleGeneral perfetto");
}

void ExportTrace(const Trace& trace, TraceFormat format, std::ostream& out) {
  switch (format) {
    case TraceFormat::kCsv:
      ExportCsv(trace, out);
      break;
    case TraceFormat::kJsonl:
      ExportJsonl(trace, out);
      break;
    case TraceFormat::kOracleGeneral:
      ExportOracleGeneral(trace, out);
      break;
    case TraceFormat::kPerfetto:
      ExportPerfetto(trace, out);
      break;
  }
  if (!out.flush()) throw std::runtime_error("trace export: cannot write the output");
}

}  // namespace stoker
