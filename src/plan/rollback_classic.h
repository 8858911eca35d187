// SPDX-License-Identifier: Apache-2.0
// The classic rollback, `zfs rollback -r`: the one that loses what is newer.
#pragma once

#include <string>
#include <vector>

#include "plan/rollback.h"
#include "plan/swap.h"

namespace kld::plan {

/// Destroys what is newer than the snapshot, snapshots and data, of all datasets of the machine. ZFS does so for one
/// dataset after the other: what can fail or be refused comes before the commit point, and from there on it is
/// finished. The machine and its snapshot have passed the checks of every rollback.
Result plan_classic_rollback(const View& view, const Machine& machine, const MachineSnapshot& snapshot,
                             const Arrival& arrival, const RollbackRequest& request, const RollbackFacts& facts,
                             const Fresh& fresh);

/// What it destroys, for the question before it: each snapshot, each bookmark, what was written since.
std::vector<std::string> lost_with(const View& view, const RollbackRequest& request, const RollbackFacts& facts,
                                   UnixTime now);

}  // namespace kld::plan
