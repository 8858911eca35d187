// SPDX-License-Identifier: Apache-2.0
// What a rollback and its undo share: the machine stops, another version takes its place, and it starts again.
#pragma once

#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/snapshot.h"
#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

/// The definition that comes, as this machine's: its name and UUID, and a new generation id, for time went back.
virt::Definition coming_definition(const Machine& machine, const std::string& xml, const Fresh& fresh);

/// Warns when the snapshot's parts were not taken together.
void warn_of_moments(Plan& plan, const MachineSnapshot& snapshot);

/// Stops a machine that runs; makes sure that nothing starts it, and that nobody has its disks open.
void add_stop(Plan& plan, const Machine& machine, std::uint64_t timeout);

/// What comes to a machine: its definition, and the one that lies in its state already.
struct Arrival {
  virt::Definition definition;
  std::string saved;
  bool only_disks = false;  ///< the state stays
};

/// The parts of an arrival: filesystems mounted, volumes whose devices must be there, and the end: autostart and start.
MountFilesystems arriving_mounts(const View& view, const Machine& machine, const Arrival& arrival);
AwaitDevices arriving_devices(const View& view, const Arrival& arrival);
void add_start(Plan& plan, const Machine& machine);

/// Mounts what has taken the machine's place, defines it, and starts it if the machine ran. From its devices on, what
/// dies is finished. `current`: the present definition.
void add_arrival(Plan& plan, const View& view, const Machine& machine, const Arrival& arrival,
                 const std::string& current);

}  // namespace kld::plan
