// SPDX-License-Identifier: Apache-2.0
// Snapshots of guests whose file systems stand still meanwhile, and the certainty that they go on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plan/step.h"
#include "virt/connection.h"

namespace kld::run {

/// What came of a freeze.
struct Frozen {
  std::string machine;
  int frozen = 0;       ///< file systems that the guest froze
  int thawed = 0;       ///< that it thawed
  double seconds = 0;   ///< from the freeze to the thaw
  std::string problem;  ///< why the snapshot is no more than crash-consistent; empty: it is more
  /// It was not frozen, which whoever asked had allowed for.
  bool fell_back = false;
};

/// Freezes, takes the snapshots, thaws. Whatever fails in between, and if we are killed, the guests are thawed: by us,
/// or by a transient systemd unit that repeats it. Throws Error when there is no snapshot; `warn` is then told of
/// guests that may be frozen still.
std::vector<Frozen> snapshot_frozen(const virt::Connection& libvirt, const plan::TakeSnapshots& step,
                                    const std::function<void(const std::string&)>& warn);

/// Says of snapshots that they are no more than crash-consistent.
void lower_label(const plan::TakeSnapshots& step);

/// What that unit runs: waits until the process has ended, or for so long, then thaws the guest again and again until
/// its agent says that it is thawed, or it is off. How many file systems it thawed.
int guard_thaw(const std::string& uri, const std::string& uuid, int pid, std::uint64_t seconds);

}  // namespace kld::run
