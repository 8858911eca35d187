// SPDX-License-Identifier: Apache-2.0
// Which automatic snapshots stay and which go, and why.
#pragma once

#include <string>
#include <vector>

#include "plan/retention_rule.h"
#include "plan/snapshot.h"

namespace kld::plan {

/// These stay whatever the rule says.
inline constexpr std::size_t kNewestKept = 2;

/// What becomes of one snapshot of a machine.
struct Verdict {
  MachineSnapshot snapshot;
  bool automatic = false;  ///< ours to remove: made by us by the clock, by mark and exact name of all its parts
  bool goes = false;
  std::string reason;  ///< "hourly: 3 h old, kept until 48 h; newest 2", "held", "cloned by web-2"
};

/// True when the snapshot is ours to remove: `by` of all its parts is auto, and its name exactly auto-UTC.
bool is_automatic(const MachineSnapshot& snapshot);

/// Of each snapshot of a machine, `all` as machine_snapshots has them, in their order. With `early`, what only the
/// hourly rule keeps goes, too.
std::vector<Verdict> judge(const View& view, std::vector<MachineSnapshot> all, const RetentionRule& rule, UnixTime now,
                           bool early = false);

/// True when the clock has jumped since the machine's newest automatic snapshot, or the host stood still: it is more
/// than a day old, or lies more than a day ahead. Also when the machine has none.
bool clock_jumped(const std::vector<MachineSnapshot>& all, UnixTime now);

/// True when more than half of the automatic ones go.
bool removes_most(const std::vector<Verdict>& verdicts);

}  // namespace kld::plan
