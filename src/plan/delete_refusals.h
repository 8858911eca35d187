// SPDX-License-Identifier: Apache-2.0
// Why machines cannot be deleted.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/delete.h"
#include "plan/whole.h"

namespace kld::plan {

/// Why this machine cannot be taken from where it is: its state, who else uses its disks, what is not its own.
std::optional<Refusal> not_at_rest(const View& view, const Machine& machine, const DeleteRequest& request,
                                   const DeleteFacts& facts);
/// The same of one that is to be destroyed: also what holds a snapshot of it.
std::optional<Refusal> not_deletable(const View& view, const Machine& machine, const DeleteRequest& request,
                                     const DeleteFacts& facts);
/// A domain that stays and needs the state of this machine: its TPM, firmware variables or seed. It may have the
/// machine's name and its disks elsewhere, or be the machine itself under another name.
std::optional<Refusal> needed_state(const View& view, const Machine& machine, const std::set<std::string>& undefined,
                                    const DeleteFacts& facts);
/// Who outside of `doomed`, the datasets of `machines`, was cloned from it. State filesystems follow their disks and
/// are told only when alone.
std::optional<Refusal> dependent_clones(const View& view, const std::vector<Machine>& machines,
                                        const std::set<std::string>& doomed, const DeleteFacts& facts);
/// Data disks that the machine's definition names and that are none of its zvols: they stay.
std::vector<ForeignDisk> foreign_disks_of(const View& view, const Machine& machine, const DeleteFacts& facts);

}  // namespace kld::plan
