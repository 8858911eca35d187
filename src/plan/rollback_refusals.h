// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/rollback.h"

namespace kld::plan {

/// Why the machine as it is cannot give its place to another version.
std::optional<Refusal> not_to_be_swapped(const View& view, const Machine& machine, bool stop,
                                         const RollbackFacts& facts);

/// Why the machine cannot go back to this snapshot whole: what its definition names must be in it.
std::optional<Refusal> not_in_snapshot(const View& view, const Machine& machine, const MachineSnapshot& snapshot,
                                       bool only_disks, const RollbackFacts& facts);

/// The refusal when one of the snapshots that move is being sent: ZFS would refuse it in the middle.
std::optional<Refusal> sent_meanwhile(const Machine& machine, const std::set<std::string>& moving,
                                      const RollbackFacts& facts);

/// The refusal when a dataset is not encrypted with the root's key: ZFS renames it only below the dataset that has the
/// key, and a promotion hands a dataset's own key over without loading it.
std::optional<Refusal> key_not_common(const View& view, const std::vector<zfs::Dataset>& swapped);

/// The refusal when this host could not start the version that comes. `may_keep_definition`: the present one would do.
std::optional<Refusal> cannot_start(const Machine& machine, const virt::Definition& coming, const RollbackFacts& facts,
                                    bool may_keep_definition);

}  // namespace kld::plan
