// SPDX-License-Identifier: Apache-2.0
// Of what clones are made: the machine as it is, or one of its snapshots.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "plan/clone.h"
#include "plan/snapshot.h"
#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

/// Of what every clone is made: a snapshot's name and the datasets that have it.
struct CloneSource {
  Machine machine;
  std::string snapshot;  ///< the part after '@'
  bool take = false;     ///< it does not exist yet
  std::vector<MachineDisk> disks;
  bool has_state = false;
  bool has_tpm = false;
  virt::Definition definition;
  bool live = true;  ///< the definition is what libvirt says now
};

/// The newest @clone- of a machine that is shut off and defined as it was then: its present state, should nothing have
/// been written since.
const MachineSnapshot* reuse_candidate(const Machine& machine, const CloneFacts& facts,
                                       const std::vector<MachineSnapshot>& all);
/// That, when nothing was written since on any dataset.
const MachineSnapshot* reusable_snapshot(const Machine& machine, const CloneFacts& facts,
                                         const std::vector<MachineSnapshot>& all);

/// The named snapshot as a source, or why it cannot be one.
std::variant<CloneSource, Refusal> source_from_snapshot(const Machine& machine, const CloneRequest& request,
                                                        const CloneFacts& facts,
                                                        const std::vector<MachineSnapshot>& all, Plan& plan);

/// Parts of the definition that cannot be cloned and were not named in --without.
std::vector<std::string> foreign_parts(const View& view, const CloneSource& source, const CloneRequest& request,
                                       const std::string& live);

/// Takes the machine's own disks that --without names from what is cloned.
void leave_out(const View& view, CloneSource& source, const std::vector<std::string>& without);

/// What --without names must be there: a slip would clone what was to be left out.
std::optional<Refusal> unknown_without(const CloneSource& source, const std::vector<std::string>& without);

}  // namespace kld::plan
