// Trace files: what goes in comes out; nothing malformed is believed; exports; synthetic traces.

#include <algorithm>
#include <sstream>

#include "experts/trace_export.h"
#include "experts/trace_io.h"
#include "numa/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

using test::ReadFile;
using test::TempDir;
using test::WriteFile;

Trace Sample(int64_t decode_tokens = 20) {
  SynthOptions options;
  options.n_layers = 5;
  options.n_experts = 16;
  options.prompt_tokens = 40;
  options.prefill_chunk = 16;
  options.decode_tokens = decode_tokens;
  Trace trace = TraceFromSynth(options);
  trace.header.model_hash = 0x1234567890abcdef;
  trace.header.policy = "lfu:half_life=9";
  trace.header.capacity = 11;
  const TraceAccess accesses[] = {{.entry = 17,
                                   .victim = 3,
                                   .gate_weight = 0.25F,
                                   .bytes = 77,
                                   .wait_us = 5,
                                   .rank = 1,
                                   .outcome = AccessOutcome::kMiss}};
  trace.Append({.kind = TraceKind::kPrefetch,
                .layer = 1,
                .token = 99,
                .time_us = 123456,
                .accesses = accesses});
  return trace;
}

void CheckSame(const Trace& x, const Trace& y) {
  CHECK(x.header.model_hash == y.header.model_hash);
  CHECK(x.header.policy == y.header.policy);
  CHECK(x.header.model == y.header.model);
  CHECK(x.header.types == y.header.types);
  CHECK(x.header.capacity == y.header.capacity);
  CHECK(x.header.seed == y.header.seed);
  CHECK(x.header.expert_bytes == y.header.expert_bytes);
  CHECK(x.complete == y.complete);
  std::ostringstream csv[2], jsonl[2];
  ExportTrace(x, TraceFormat::kCsv, csv[0]);
  ExportTrace(y, TraceFormat::kCsv, csv[1]);
  ExportTrace(x, TraceFormat::kJsonl, jsonl[0]);
  ExportTrace(y, TraceFormat::kJsonl, jsonl[1]);
  CHECK(csv[0].str() == csv[1].str());
  CHECK(jsonl[0].str() == jsonl[1].str());
}

TEST_CASE("a trace survives its file") {
  const TempDir dir;
  const Trace trace = Sample(5000);  // several blocks
  for (const bool compress : {true, false}) {
    SaveTrace(trace, dir / "t.stk", compress);
    CHECK(IsTraceFile(dir / "t.stk"));
    CheckSame(trace, LoadTrace(dir / "t.stk"));
  }
  CHECK(std::filesystem::file_size(dir / "t.stk") > 2 * kTraceBlockBytes);
  CHECK(!IsTraceFile(dir / "none"));
  CHECK_THROWS_WITH(LoadTrace(dir / "t.stk", 1000), test::HasText("more than 1000 B"));
}

TEST_CASE("a recording that was cut off between blocks is read as far as it goes") {
  const TempDir dir;
  SaveTrace(Sample(), dir / "t.stk", false);
  std::string bytes = ReadFile(dir / "t.stk");
  bytes.resize(bytes.size() - 32);  // the end record
  WriteFile(dir / "t.stk", bytes);
  const Trace trace = LoadTrace(dir / "t.stk");
  CHECK(!trace.complete);
  CHECK(trace.size() == Sample().size());
}

// Where the first block of a trace file begins.
size_t HeaderBytes(const std::string& file) { return 16 + LoadLe<uint32_t>(file.data() + 12); }

TEST_CASE("every truncation after the header opens, with the records of whole blocks") {
  const TempDir dir;
  const size_t n_records = Sample(3).size();
  SaveTrace(Sample(3), dir / "t.stk", false);
  const std::string bytes = ReadFile(dir / "t.stk");
  const size_t header = HeaderBytes(bytes);
  const size_t end_record = bytes.size() - 32;  // behind the only block
  REQUIRE(header < 200);
  for (size_t n = 0; n < bytes.size(); n += n < 200 || n + 251 > bytes.size() ? 1 : 211) {
    CAPTURE(n);
    WriteFile(dir / "cut.stk", std::string_view(bytes).substr(0, n));
    if (n < header) {
      CHECK_THROWS_WITH(LoadTrace(dir / "cut.stk"), test::HasText("cut.stk: offset "));
      continue;
    }
    const Trace trace = LoadTrace(dir / "cut.stk");
    CHECK(!trace.complete);
    CHECK(trace.size() == (n < end_record ? 0 : n_records));
  }
}

TEST_CASE("a recording that was cut off within a block is read up to that block") {
  const TempDir dir;
  SaveTrace(Sample(5000), dir / "t.stk", false);  // several blocks
  const std::string bytes = ReadFile(dir / "t.stk");
  const auto records_of_first = [&](size_t n) {
    WriteFile(dir / "cut.stk", std::string_view(bytes).substr(0, n));
    const Trace trace = LoadTrace(dir / "cut.stk");
    CHECK(!trace.complete);
    return trace.size();
  };
  int n_blocks = 0;
  for (size_t block = HeaderBytes(bytes); block < bytes.size(); ++n_blocks) {
    const size_t next = block + 24 + LoadLe<uint32_t>(bytes.data() + block + 8);
    const size_t whole = records_of_first(block);
    CAPTURE(block, next, whole);
    for (const size_t cut : {block + 1, block + 24, next - 1}) {
      CHECK(records_of_first(cut) == whole);
    }
    block = next;
  }
  CHECK(n_blocks > 2);
  TraceReader reader(dir / "cut.stk");
  TraceRequest request;
  while (reader.Next(&request)) {
  }
  CHECK(!reader.Next(&request));  // and stays at its end
  CHECK(!reader.complete());
}

TEST_CASE("no flipped byte goes unnoticed") {
  const TempDir dir;
  SaveTrace(Sample(3), dir / "t.stk", true);
  const std::string bytes = ReadFile(dir / "t.stk");
  // Both headers in full, then samples of the records and everything of the end.
  for (size_t i = 0; i < bytes.size(); i += i < 200 || i + 40 > bytes.size() ? 1 : 61) {
    std::string bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 0x41);
    WriteFile(dir / "bad.stk", bad);
    try {
      // A block that is said to go on behind the end of the file looks like one that was cut off.
      const Trace trace = LoadTrace(dir / "bad.stk");
      CAPTURE(i);
      if (trace.complete) FAIL("accepted");
    } catch (const std::runtime_error& error) {
      if (std::string(error.what()).find("bad.stk") == std::string::npos) FAIL(error.what());
    }
  }
}

// Malformed records behind correct checksums: the writer signs whatever it is given.
TEST_CASE("records that cannot be are refused by number and reason") {
  const TempDir dir;
  const auto refused = [&](const TraceRequest& request, const char* why) {
    Trace trace;
    trace.header = Sample().header;
    {
      TraceWriter writer(dir / "r.stk", trace.header);
      writer.Append(request);
      writer.Close();
    }
    CHECK_THROWS_WITH(LoadTrace(dir / "r.stk"), test::HasText("record 0: ") && test::HasText(why));
  };
  const TraceAccess wrong_layer[] = {{.entry = 16}};
  const TraceAccess twice[] = {{.entry = 3}, {.entry = 3}};
  const TraceAccess victim[] = {{.entry = 3, .victim = 80}};
  const TraceAccess outcome[] = {{.entry = 3, .outcome = static_cast<AccessOutcome>(9)}};
  const RouterChoice route[] = {{16, 0.5F}};
  refused({.kind = static_cast<TraceKind>(7)}, "unknown kind 7");
  refused({.phase = static_cast<Phase>(2)}, "unknown phase 2");
  refused({.layer = 5}, "layer 5 of 5");
  refused({.token = -1}, "token -1 out of range");
  refused({.token = INT64_MAX}, "token 9223372036854775807 out of range");
  refused({.accesses = wrong_layer}, "not of layer 0");
  refused({.accesses = twice}, "entry 3 twice");
  refused({.accesses = victim}, "victim 80");
  refused({.accesses = outcome}, "outcome 9");
  refused({.routes_per_token = 1, .routes = route}, "routed expert 16 of 16");
  refused({.n_tokens = 4'000'000'000U, .routes_per_token = 9}, "do not fit");
}

TEST_CASE("headers that cannot be are refused") {
  const TempDir dir;
  const auto refused = [&](auto change, const char* why) {
    TraceHeader header = Sample().header;
    change(header);
    std::filesystem::remove(dir / "h.stk");
    TraceWriter(dir / "h.stk", header).Close();
    CHECK_THROWS_WITH(TraceReader(dir / "h.stk"),
                      test::HasText("h.stk: offset ") && test::HasText(why));
  };
  refused([](TraceHeader& h) { h.n_experts = 0; }, "impossible shape");
  refused([](TraceHeader& h) { h.n_experts = 1 << 30; }, "impossible shape");
  refused([](TraceHeader& h) { h.top_k = 17; }, "impossible shape");
  refused([](TraceHeader& h) { h.expert_bytes[2] = 0; }, "expert size");
  WriteFile(dir / "v.stk", std::string("STOKTRC\n\x02\0\0\0\0\0\0\0", 16));
  CHECK_THROWS_WITH(TraceReader(dir / "v.stk"), test::HasText("version 2"));
  WriteFile(dir / "v.stk", std::string("STOKTRC\n\x01\0\0\0\xff\xff\xff\xff", 16));
  CHECK_THROWS_WITH(TraceReader(dir / "v.stk"), test::HasText("header of 4294967295 bytes"));
  CHECK_THROWS_WITH(TraceReader(dir.path()), test::HasText("not a regular file"));
  CHECK_THROWS_AS(TraceReader(dir / "absent"), std::system_error);
}

TEST_CASE("a run without a request costs no older trace") {
  const TempDir dir;
  const Trace old = Sample(50);
  SaveTrace(old, dir / "t.stk", true);
  TraceWriter(dir / "t.stk", old.header).Close();
  CheckSame(old, LoadTrace(dir / "t.stk"));
  const Trace one = Sample(1);
  SaveTrace(one, dir / "t.stk", true);
  CheckSame(one, LoadTrace(dir / "t.stk"));
  TraceWriter(dir / "new.stk", old.header).Close();
  CHECK(LoadTrace(dir / "new.stk").complete);
  Trace none;
  none.header = old.header;
  SaveTrace(none, dir / "t.stk", true);  // not a run: what is saved is what the file holds
  CHECK(LoadTrace(dir / "t.stk").size() == 0);
}

TEST_CASE("a full disk ends the trace, not the run") {
  const TraceHeader header = Sample().header;
  try {
    TraceWriter writer("/dev/full", header);
    FAIL("the header was written to a full device");
  } catch (const std::system_error& error) {
    CHECK_THAT(error.what(), test::HasText("/dev/full"));
  }
}

TEST_CASE("exports hold what their formats ask for") {
  const Trace trace = Sample(2);
  size_t n_demand = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].kind == TraceKind::kDemand) n_demand += trace[i].accesses.size();
  }
  std::ostringstream oracle, perfetto;
  ExportTrace(trace, TraceFormat::kOracleGeneral, oracle);
  const std::string rows = oracle.str();
  REQUIRE(rows.size() == 24 * n_demand);
  for (size_t i = 0; i < n_demand; ++i) {
    const char* row = rows.data() + 24 * i;
    const auto next = LoadLe<int64_t>(row + 16);
    CHECK(LoadLe<uint32_t>(row + 12) == 95'551'488);
    if (next < 0) continue;
    REQUIRE(next > static_cast<int64_t>(i));
    REQUIRE(next < static_cast<int64_t>(n_demand));
    CHECK(LoadLe<uint64_t>(rows.data() + 24 * next + 4) == LoadLe<uint64_t>(row + 4));
  }
  ExportTrace(trace, TraceFormat::kPerfetto, perfetto);
  CHECK_THAT(perfetto.str(), test::HasText("\"traceEvents\"") &&
                                 test::HasText("\"name\":\"expert 1.1\"") &&
                                 Catch::Matchers::EndsWith("]}\n"));
  CHECK(ParseTraceFormat("oracleGeneral") == TraceFormat::kOracleGeneral);
  CHECK_THROWS_WITH(ParseTraceFormat("xml"), test::HasText("perfetto"));
}

TEST_CASE("perfetto's slices end when their records do, on a thread for each kind") {
  Trace trace;
  trace.header = Sample().header;
  const TraceAccess waited[] = {{.entry = 1, .wait_us = 100}, {.entry = 2, .wait_us = 200}};
  const TraceAccess plain[] = {{.entry = 3}};
  trace.Append({.time_us = 1000, .accesses = waited});
  trace.Append({.kind = TraceKind::kPrefetch, .time_us = 1001, .accesses = plain});
  trace.Append({.kind = TraceKind::kProtect, .time_us = 1002, .accesses = plain});
  trace.Append({.token = 1, .time_us = 50, .accesses = waited});  // not before the trace began
  std::ostringstream out;
  ExportTrace(trace, TraceFormat::kPerfetto, out);
  for (const char* slice : {R"("tid":1,"ts":700,"dur":300,"name":"demand layer 0")",
                            R"("tid":4,"ts":700,"dur":100,"name":"expert 0.1")",
                            R"("tid":4,"ts":800,"dur":200,"name":"expert 0.2")",
                            R"("tid":2,"ts":1001,"dur":1,"name":"prefetch layer 0")",
                            R"("tid":3,"ts":1002,"dur":1,"name":"protect layer 0")",
                            R"("tid":1,"ts":0,"dur":300,"name":"demand layer 0")"}) {
    CHECK_THAT(out.str(), test::HasText(slice));
  }
}

TEST_CASE("synthetic traces have the properties they are asked for") {
  SynthOptions options;
  options.n_layers = 4;
  options.n_experts = 16;
  options.decode_tokens = 20000;
  options.runner_ups = 0;
  options.zipf = 1.0;
  options.top_k = 1;
  // Repetition: with probability `locality` the noise stays, so the same expert mostly runs again.
  const auto repeats = [](const Trace& trace) {
    std::vector<EntryId> last(trace.header.n_layers, kNoEntry);
    double same = 0;
    for (size_t i = 0; i < trace.size(); ++i) {
      same += trace[i].accesses[0].entry == last[trace[i].layer] ? 1 : 0;
      last[trace[i].layer] = trace[i].accesses[0].entry;
    }
    return same / static_cast<double>(trace.size());
  };
  options.locality = 0.0;
  const Trace plain = TraceFromSynth(options);
  options.locality = 0.7;
  const Trace sticky = TraceFromSynth(options);
  CHECK(repeats(plain) == Approx(0.14).margin(0.02));  // sum of squared popularities
  CHECK(repeats(sticky) > repeats(plain) + 0.3);
  // Popularity: the most used expert of a layer has the share 1 / H(16) of Zipf's law.
  for (const Trace* trace : {&plain, &sticky}) {
    std::vector<double> count(64, 0.0);
    for (size_t i = 0; i < trace->size(); ++i) count[(*trace)[i].accesses[0].entry] += 1.0;
    for (int layer = 0; layer < 4; ++layer) {
      const double most =
          *std::max_element(count.begin() + layer * 16, count.begin() + layer * 16 + 16);
      CHECK(most / 20000 == Approx(1.0 / 3.3807).margin(0.03));
    }
  }
  options.top_k = 17;
  CHECK_THROWS_WITH(TraceFromSynth(options), test::HasText("top-k = 17"));
  CHECK(TraceFromSynth({.n_layers = 2, .decode_tokens = 5}).size() == 10);
}

TEST_CASE("a synthetic trace is one that a file can hold, or refused by the option's name") {
  const auto refused = [](const SynthOptions& options, const char* why) {
    CHECK_THROWS_WITH(TraceFromSynth(options),
                      test::HasText("trace synth: ") && test::HasText(why));
  };
  refused({.n_layers = 1, .n_experts = 65536, .top_k = 44000, .decode_tokens = 1}, "top-k = 44000");
  refused({.n_layers = 1, .n_experts = 65536, .top_k = 65534, .decode_tokens = 1}, "top-k = 65534");
  refused({.n_layers = 4096, .n_experts = 8192, .decode_tokens = 0}, "experts = 8192");
  refused({.n_layers = 1, .n_experts = 65536, .top_k = 300, .prompt_tokens = 256}, "prefill chunk");
  refused({.decode_tokens = 100'000'000}, "make fewer tokens");
  // As many runner-ups as there are, like the engine.
  for (const int32_t top_k : {3, 4}) {
    const Trace trace =
        TraceFromSynth({.n_layers = 2, .n_experts = 4, .top_k = top_k, .decode_tokens = 2});
    CHECK(trace[0].routes_per_token == 4);
    CHECK(trace[0].accesses.size() == static_cast<size_t>(top_k));
  }
  const TempDir dir;
  const auto most = static_cast<int32_t>(kMaxTraceAccesses);
  SaveTrace(TraceFromSynth({.n_layers = 1, .n_experts = 65536, .top_k = most, .decode_tokens = 1}),
            dir / "widest.stk");
  CHECK(LoadTrace(dir / "widest.stk").n_accesses() == kMaxTraceAccesses);
}

}  // namespace
}  // namespace stoker
