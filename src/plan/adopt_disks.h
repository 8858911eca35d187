// SPDX-License-Identifier: Apache-2.0
// The disks of a domain that is to become a machine: which come in, whether they may, under what names.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "plan/step.h"
#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

/// Volumes of devices that are not named under /dev/zvol/: {"/dev/zd16", "rpool/vms/web"}.
using Volumes = std::map<std::string, std::string>;

/// The volume behind a path that a definition names, empty when it is none.
std::string volume_of(const std::string& path, const Volumes& volumes);

/// A disk of the domain on its way into the layout.
struct Incoming {
  std::string target;  ///< "vda"
  zfs::Dataset volume;
  std::string label;
  std::string name;  ///< of the dataset once it is ours

  bool renamed() const { return volume.name != name; }
};

/// The disks that hold the machine's data: CD-ROMs, floppies and seed images are none and stay where they are.
std::vector<virt::Disk> data_disks(const virt::Definition& definition);

/// The refusal when the domain has only a partition of a volume: it must not be given the whole. `partitions`: paths of
/// its disks that are one.
std::optional<Refusal> partition_refusal(const virt::Definition& definition, const std::set<std::string>& partitions);

/// One line for each data disk that is no volume below the root, or not one to take.
std::vector<std::string> disk_problems(const View& view, const virt::Definition& definition, const Volumes& volumes);

/// The refusal when another domain uses one of these disks, too.
std::optional<Refusal> shared_refusal(const View& view, const virt::Definition& definition, const Volumes& volumes);

/// Why these disks cannot come in: none, no volumes, shared, another machine's, locked.
std::optional<Refusal> disks_refusal(const View& view, const virt::Definition& definition, const Volumes& volumes);

/// The disks with their places in the layout, the first disk first. Only after disks_refusal found nothing.
std::vector<Incoming> incoming_disks(const View& view, const virt::Definition& definition, const Volumes& volumes);

/// Renames in an order in which each name is free when it is taken. A Refusal when there is none, or when ZFS would not
/// let an encrypted volume move.
std::variant<std::vector<Step>, Refusal> renames(const View& view, const std::string& machine,
                                                 const std::vector<Incoming>& disks);

}  // namespace kld::plan
