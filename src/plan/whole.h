// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

/// False for CD-ROMs, floppies and read-only images such as seeds: they stay where they are, and are shared by clones.
bool holds_data(const virt::Disk& disk);

/// Disks of the definition, by target and reason, that are no zvols of this machine. Media and the seed are none.
struct ForeignDisk {
  std::string target;
  std::string what;  ///< its path or kind
};
std::vector<ForeignDisk> foreign_disks(const View& view, const Machine& machine, const virt::Definition& definition);

/// Firmware variables or TPM state of the definition that lie outside the machine's datasets, one line each.
std::vector<std::string> foreign_state_files(const Machine& machine, const virt::Definition& definition);

/// The refusal when a snapshot of the machine's datasets would not hold the whole machine.
std::optional<Refusal> not_whole(const View& view, const Machine& machine, const virt::Definition& definition);

/// The refusal when another domain has a disk of the machine, too, or may have.
std::optional<Refusal> shared_disk(const View& view, const Machine& machine);

/// The refusal when there is a dataset below the machine's state that is none of its own.
std::optional<Refusal> foreign_dataset(const View& view, const Machine& machine);

}  // namespace kld::plan
