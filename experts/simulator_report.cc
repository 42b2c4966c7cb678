#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stdexcept>

#include "experts/simulator.h"
#include "mmap/format_error.h"
#include "numa/bytes.h"

namespace stoker {
namespace {

constexpr double kGiBytes = 1024.0 * 1024.0 * 1024.0;
constexpr size_t kNameColumns = 28;  // of the table
constexpr size_t kMostShown = 4096;  // bytes of a name, which the trace's header gives

double Percent(double part, double whole) { return whole > 0.0 ? 100.0 * part / whole : 0.0; }

void CheckStream(const std::ostream& out) {
  if (!out) throw std::runtime_error("simulation report: cannot write the output");
}

// Text in CSV cells may hold commas (policy parameters do).
std::string CsvCell(const std::string& text) {
  std::string cell = "\"";
  for (const char c : text) {
    if (c == '"') cell += '"';
    cell += c;
  }
  return cell + "\"";
}

nlohmann::ordered_json CountersJson(const ReplayCounters& c) {
  return {{"tokens", c.tokens},
          {"accesses", c.accesses},
          {"hits", c.hits},
          {"misses", c.misses},
          {"hit_rate", c.hit_rate()},
          {"miss_bytes", c.miss_bytes},
          {"prefetches", c.prefetches},
          {"wasted_bytes", c.wasted_bytes},
          {"bytes_per_token", c.bytes_per_token()}};
}

}  // namespace

void WriteTable(const SimulationReport& report, std::ostream& out) {
  const TraceHeader& h = report.header;
  const auto n_entries = static_cast<double>(report.heat.size());
  char line[512];  // Names, which may be longer, are written beside it.
  out << "trace: " << Printable(h.model, kMostShown);
  std::snprintf(line, sizeof(line),
                ", %d layers x %d experts, top-%d; %" PRIu64 " tokens, %" PRIu64 " accesses%s\n"
                "one token cycle: %u experts (%.1f %%); compulsory misses: %" PRIu64
                " (%.2f %% of accesses); largest request: %u experts\n",
                h.n_layers, h.n_experts, h.top_k, report.n_tokens, report.n_accesses,
                report.complete ? "" : " (recording was cut off)", report.token_cycle,
                Percent(report.token_cycle, n_entries), report.compulsory_misses,
                Percent(static_cast<double>(report.compulsory_misses),
                        static_cast<double>(report.n_accesses)),
                report.largest_request);
  out << line;
  if (report.live_hits + report.live_misses > 0) {
    std::snprintf(line, sizeof(line), "recorded live: %" PRIu64 " hits, %" PRIu64 " misses\n",
                  report.live_hits, report.live_misses);
    out << line;
  }
  for (size_t c = 0; c < report.capacities.size(); ++c) {
    const SimulationRow& any = report.Row(c, 0);
    std::snprintf(
        line, sizeof(line), "\ncapacity %u experts = %.1f %% = %s%s\n%-*s %8s %10s %12s %9s %8s\n",
        any.capacity, Percent(any.capacity, n_entries), FormatBytes(any.capacity_bytes).c_str(),
        any.capacity < report.token_cycle ? " (below one token cycle)" : "",
        static_cast<int>(kNameColumns), "policy", "hit %", "decode %", "GiB/token", "regret",
        "gap %");
    out << line;
    for (size_t p = 0; p < report.policies.size(); ++p) {
      const SimulationRow& row = report.Row(c, p);
      std::string name = row.policy;
      if (row.runs != row.policy) name += " (" + row.runs + ")";
      const ReplayCounters& per_token =
          row.result.decode.tokens > 0 ? row.result.decode : row.result.total;
      if (name.size() < kNameColumns) name.resize(kNameColumns, ' ');
      std::snprintf(line, sizeof(line), " %8.2f %10.2f %12.3f %9.2f %8.1f\n",
                    100.0 * row.result.total.hit_rate(), 100.0 * row.result.decode.hit_rate(),
                    per_token.bytes_per_token() / kGiBytes, 100.0 * row.regret,
                    100.0 * row.gap_closed);
      out << PrintablePath(name) << line;
    }
  }
  for (const std::string& warning : report.warnings) out << "\nwarning: " << warning << '\n';
  CheckStream(out);
}

void WriteCsv(const SimulationReport& report, std::ostream& out) {
  out << "policy,runs,capacity_experts,capacity_bytes,tokens,accesses,hits,misses,hit_rate,"
         "miss_bytes,bytes_per_token,decode_tokens,decode_hit_rate,decode_bytes_per_token,"
         "prefetches,wasted_bytes,regret,gap_closed\n";
  for (const SimulationRow& row : report.rows) {
    const ReplayCounters& t = row.result.total;
    const ReplayCounters& d = row.result.decode;
    char line[512];
    std::snprintf(line, sizeof(line),
                  ",%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.6f,%" PRIu64
                  ",%.1f,%" PRIu64 ",%.6f,%.1f,%" PRIu64 ",%" PRIu64 ",%.6f,%.6f\n",
                  row.capacity, row.capacity_bytes, t.tokens, t.accesses, t.hits, t.misses,
                  t.hit_rate(), t.miss_bytes, t.bytes_per_token(), d.tokens, d.hit_rate(),
                  d.bytes_per_token(), t.prefetches, t.wasted_bytes, row.regret, row.gap_closed);
    out << CsvCell(row.policy) << ',' << CsvCell(row.runs) << line;
  }
  CheckStream(out);
}

void WriteJson(const SimulationReport& report, std::ostream& out) {
  using nlohmann::ordered_json;
  const TraceHeader& h = report.header;
  ordered_json json = {{"model", h.model},
                       {"types", h.types},
                       {"n_layers", h.n_layers},
                       {"n_experts", h.n_experts},
                       {"top_k", h.top_k},
                       {"complete", report.complete},
                       {"tokens", report.n_tokens},
                       {"requests", report.n_requests},
                       {"accesses", report.n_accesses},
                       {"compulsory_misses", report.compulsory_misses},
                       {"token_cycle", report.token_cycle},
                       {"largest_request", report.largest_request},
                       {"live_hits", report.live_hits},
                       {"live_misses", report.live_misses},
                       {"warnings", report.warnings}};
  ordered_json& rows = json["rows"] = ordered_json::array();
  for (const SimulationRow& row : report.rows) {
    rows.push_back({{"policy", row.policy},
                    {"runs", row.runs},
                    {"capacity", row.capacity},
                    {"capacity_bytes", row.capacity_bytes},
                    {"total", CountersJson(row.result.total)},
                    {"decode", CountersJson(row.result.decode)},
                    {"regret", row.regret},
                    {"gap_closed", row.gap_closed}});
  }
  json["heat"] = report.heat;
  json["reuse_distance"] = {{"first_uses", report.reuse.first_uses},
                            {"histogram", report.reuse.histogram}};
  out << json.dump(1, ' ', false, ordered_json::error_handler_t::replace) << '\n';
  CheckStream(out);
}

}  // namespace stoker
