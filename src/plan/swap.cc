// SPDX-License-Identifier: Apache-2.0
#include "plan/swap.h"

#include <algorithm>

namespace kld::plan {

virt::Definition coming_definition(const Machine& machine, const std::string& xml, const Fresh& fresh) {
  auto definition = virt::Definition::parse(xml);
  definition.set_name(machine.name);
  definition.set_uuid(machine.domain->uuid);
  definition.set_genid(fresh.uuid());
  return definition;
}

void add_stop(Plan& plan, const Machine& machine, std::uint64_t timeout) {
  const DomainName domain{machine.name, machine.domain->uuid};
  if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, false});
  if (machine.active()) plan.steps.emplace_back(StopDomain{domain, timeout});
  AwaitUnused unused;
  for (const auto& disk : machine.disks) unused.volumes.push_back(disk.volume.name);
  if (!unused.volumes.empty()) plan.steps.emplace_back(std::move(unused));
}

void add_arrival(Plan& plan, const View& view, const Machine& machine, const Arrival& arrival,
                 const std::string& current) {
  const auto& definition = arrival.definition;
  const auto& name = machine.name;
  const auto& uuid = machine.domain->uuid;
  const auto xml = definition.xml();
  if (!arrival.only_disks) {
    MountFilesystems mounts;
    mounts.mounts.push_back({state_dataset(view.root, name), state_directory(name)});
    if (definition.tpm() == virt::Tpm::emulator) {
      mounts.mounts.push_back({tpm_dataset(view.root, name), tpm_directory(uuid)});
    }
    plan.steps.emplace_back(std::move(mounts));
  }
  plan.steps.emplace_back(WriteFiles{{{definition_path(name), xml, true, arrival.saved}}, true});
  plan.steps.emplace_back(RedefineDomain{{name, uuid, xml}, {name, uuid, current}, false});
  AwaitDevices devices;
  for (const auto& disk : definition.disks()) {
    const auto volume = volume_of(view, disk.source);
    if (!volume.empty()) devices.volumes.push_back(volume);
  }
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(std::move(devices));
  const DomainName domain{name, uuid};
  if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, true});
  if (machine.active()) plan.steps.emplace_back(StartDomain{domain});
}

}  // namespace kld::plan
