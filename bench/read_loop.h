#pragma once

// The plain parallel read loop: the bandwidth ceiling that kernel rates are divided by, measured in
// the same process and interleaved with them. Collective-free: it runs its own region on the team.

#include <cstddef>
#include <span>

#include "numa/thread_team.h"

namespace stoker {

// Reads every byte once, each worker a contiguous share, and returns the seconds it took.
double TimeReadLoop(ThreadTeam& team, std::span<const std::byte> bytes);

}  // namespace stoker
