// SPDX-License-Identifier: Apache-2.0
// What the hourly run looks at, of all machines together.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "plan/auto_snapshot.h"
#include "plan/prune.h"
#include "run/host.h"

namespace kld::run {

/// The host's view with what the host itself has open of any machine that is shut off.
plan::View view_with_holders(const Host& host);

/// Golden images that have a retention rule of their own. Asks ZFS only when one might.
std::set<std::string> golden_with_rule(const plan::View& view);

/// Inactive and saved definitions of those that take part. libvirt is asked only about a machine whose saved definition
/// is not what libvirt's own file of it says, or that runs with a disk that its definition does not name. Adds to
/// `view` the volumes that definitions name by storage pools. `unreadable`: those that cannot be told, and why.
std::map<std::string, plan::Definitions> definitions_of(const Host& host, plan::View& view,
                                                        const std::vector<plan::AutoMachine>& machines,
                                                        std::map<std::string, std::string>& unreadable);

/// Of those that take part and ask to be frozen, why they cannot be.
std::map<std::string, std::string> freeze_problems(const Host& host, const std::vector<plan::AutoMachine>& machines);

/// Snapshots of the machines, oldest first, from one listing.
std::map<std::string, std::vector<plan::MachineSnapshot>> snapshots_of(const std::vector<plan::AutoMachine>& machines);

/// Machines that this host may have, without asking ZFS or libvirt: those whose state has a mount point.
std::vector<std::string> likely_machines();

/// Bytes that would be free without these snapshots, about: what machines share with their clones is not looked at.
std::uint64_t space_of(const std::vector<plan::SnapshotRange>& ranges);

/// How much of the dataset's pool is allocated, 0 to 1.
double share_of_pool(const std::string& dataset);

}  // namespace kld::run
