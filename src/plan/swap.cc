// SPDX-License-Identifier: Apache-2.0
#include "plan/swap.h"

#include <fmt/format.h>

namespace kld::plan {

virt::Definition coming_definition(const Machine& machine, const std::string& xml, const Fresh& fresh) {
  auto definition = virt::Definition::parse(xml);
  definition.set_name(machine.name);
  definition.set_uuid(machine.domain->uuid);
  definition.set_genid(fresh.uuid());
  return definition;
}

void warn_of_moments(Plan& plan, const MachineSnapshot& snapshot) {
  if (snapshot.one_moment) return;
  plan.warnings.push_back(
      fmt::format("the parts of '@{}' are not of one moment: its disks may contradict each other", snapshot.name));
}

void add_stop(Plan& plan, const Machine& machine, std::uint64_t timeout) {
  const DomainName domain{machine.name, machine.domain->uuid};
  if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, false});
  if (machine.active()) plan.steps.emplace_back(StopDomain{domain, timeout});
  AwaitUnused unused;
  for (const auto& disk : machine.disks) unused.volumes.push_back(disk.volume.name);
  if (!unused.volumes.empty()) plan.steps.emplace_back(std::move(unused));
}

MountFilesystems arriving_mounts(const View& view, const Machine& machine, const Arrival& arrival) {
  MountFilesystems mounts;
  mounts.mounts.push_back({state_dataset(view.root, machine.name), state_directory(machine.name)});
  if (arrival.definition.tpm() == virt::Tpm::emulator) {
    mounts.mounts.push_back({tpm_dataset(view.root, machine.name), tpm_directory(machine.domain->uuid)});
  }
  return mounts;
}

AwaitDevices arriving_devices(const View& view, const Arrival& arrival) {
  AwaitDevices devices;
  for (const auto& disk : arrival.definition.disks()) {
    const auto volume = volume_of(view, disk.source);
    if (!volume.empty()) devices.volumes.push_back(volume);
  }
  return devices;
}

void add_start(Plan& plan, const Machine& machine) {
  const DomainName domain{machine.name, machine.domain->uuid};
  if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, true});
  if (machine.active()) plan.steps.emplace_back(StartDomain{domain});
}

void add_arrival(Plan& plan, const View& view, const Machine& machine, const Arrival& arrival,
                 const std::string& current) {
  const auto& name = machine.name;
  const auto& uuid = machine.domain->uuid;
  const auto xml = arrival.definition.xml();
  if (!arrival.only_disks) plan.steps.emplace_back(arriving_mounts(view, machine, arrival));
  plan.steps.emplace_back(WriteFiles{{{definition_path(name), xml, true, arrival.saved}}, true});
  plan.steps.emplace_back(RedefineDomain{{name, uuid, xml}, {name, uuid, current}, false});
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(arriving_devices(view, arrival));
  add_start(plan, machine);
}

}  // namespace kld::plan
