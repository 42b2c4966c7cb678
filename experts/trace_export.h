#pragma once

// Traces in other people's formats. Each function streams to an open ostream and throws
// std::runtime_error when the stream fails. Pure; thread-compatible.

#include <iosfwd>
#include <string_view>

#include "experts/trace.h"

namespace stoker {

enum class TraceFormat { kCsv, kJsonl, kOracleGeneral, kPerfetto };

// "csv", "jsonl", "oracleGeneral" or "perfetto"; throws std::runtime_error listing them otherwise.
TraceFormat ParseTraceFormat(std::string_view name);

// csv: a header line, then one line per access.
// jsonl: the header as an object, then one object per record, routes included.
// oracleGeneral: libCacheSim's binary rows of 24 bytes, demanded accesses only: u32 time (the
// token),
//   u64 object, u32 size, i64 index of the object's next access (-1: none).
// perfetto: Chrome trace events (ui.perfetto.dev opens them): a slice per record, as long as its
//   waits and up to its end, a slice per wait, and the hit rate over the last 1000 accesses as a
//   counter. Without a clock in the trace, records are laid out one per millisecond.
void ExportTrace(const Trace& trace, TraceFormat format, std::ostream& out);

}  // namespace stoker
