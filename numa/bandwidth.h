#pragma once

// The read ceiling: how many bytes per second the workers of a team can stream from memory with a
// plain loop that does nothing but load. Decode speed is quoted as a fraction of it, measured in
// the same process before and after. Engine thread only, because it enters the team. It knows
// nothing of weights and formats.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "numa/node_buffer.h"

namespace stoker {

class ThreadTeam;
struct Topology;

struct ReadBandwidth {
  double bytes_per_second = 0;  // median over the passes
  double lowest = 0;            // bytes per second of the slowest pass
  double highest = 0;           // and of the fastest
  uint64_t bytes = 0;           // read in each pass
  std::vector<double> samples;  // bytes per second, in the order measured
};

// What a probe must read so that the last-level caches cannot serve it: three times their sum, and
// at least 1.5 GiB (virtual machines show caches that are not theirs, or none), but no more than a
// quarter of `usable_bytes`.
uint64_t ProbeBytes(const Topology& topology, uint64_t usable_bytes);

// A touched buffer whose every 64-byte line differs from the others, so that neither the kernel's
// page merging nor a compressing host can shrink it. Each worker writes the share it will read.
// node as in NodeBuffer::Allocate.
NodeBuffer MakeProbeBuffer(ThreadTeam& team, uint64_t bytes, int node = -1);

// Bytes per second that the workers of each node of the team's partition read from memory of their
// own node, all nodes at once, by index; in a team whose places were given. `os_nodes`: where each
// node's buffer is bound. Half a second and `bytes` of memory in all. Nodes that differ by less
// than a tenth are reported as equal: that much is noise, and a symmetric machine should be cut
// evenly.
std::vector<double> MeasureLocalBandwidth(ThreadTeam& team, const std::vector<int>& os_nodes,
                                          uint64_t bytes);

// Streams the whole buffer `passes` times (> 0) after one untimed pass, all workers at once, each
// its contiguous share. The buffer should be larger than the caches; weights that are resident
// anyway serve as well. Timed region: from barrier to barrier around the loads of all workers.
ReadBandwidth MeasureReadBandwidth(ThreadTeam& team, std::span<const std::byte> buffer,
                                   int passes = 7);

}  // namespace stoker
