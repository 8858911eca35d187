// SPDX-License-Identifier: Apache-2.0
#include "plan/whole.h"

#include <fmt/format.h>

#include <algorithm>

namespace kld::plan {
namespace {

std::optional<Refusal> shared_volume(const View& view, const Machine& machine, const std::string& volume) {
  for (const auto& domain : view.domains) {
    if (domain.name == machine.name) continue;
    for (const auto& path : domain.block_paths) {
      if (volume_of(view, path) == volume) {
        const auto also_live = virt::is_active(domain.state) ? " (and --live, as it runs)" : "";
        return Refusal{"shared-disk",
                       fmt::format("{} is a disk of domain '{}', too", volume, domain.name),
                       {path},
                       fmt::format("detach it there first: 'virsh domblklist {0} --inactive' shows its TARGET for "
                                   "virsh detach-disk {0} TARGET --config{1}",
                                   domain.name, also_live)};
      }
      if (may_be_volume(path, volume)) {
        return Refusal{"shared-disk",
                       fmt::format("whether {} is a disk of domain '{}', too, cannot be told", volume, domain.name),
                       {fmt::format("{}: libvirt cannot look into that storage pool", path)},
                       "activate it: virsh pool-start POOL; or refresh it: virsh pool-refresh POOL"};
      }
    }
  }
  return std::nullopt;
}

}  // namespace

bool holds_data(const virt::Disk& disk) {
  if (disk.device == "cdrom" || disk.device == "floppy") return false;
  return disk.type != "file" || !(disk.readonly || disk.source.ends_with(".iso"));
}

std::vector<ForeignDisk> foreign_disks(const View& view, const Machine& machine, const virt::Definition& definition) {
  std::vector<ForeignDisk> foreign;
  for (const auto& disk : definition.disks()) {
    if (!holds_data(disk) || disk.source == seed_path(machine.name)) continue;
    const std::string volume = volume_of(view, disk.source);
    const bool own = std::any_of(machine.disks.begin(), machine.disks.end(),
                                 [&](const auto& d) { return !volume.empty() && d.volume.name == volume; });
    if (!own) foreign.push_back({disk.target, disk.source.empty() ? disk.type : disk.source});
  }
  return foreign;
}

std::vector<std::string> foreign_state_files(const Machine& machine, const virt::Definition& definition) {
  std::vector<std::string> lines;
  const auto variables = definition.variables();
  if (variables && !variables->starts_with(state_directory(machine.name) + "/")) {
    lines.push_back(fmt::format("its UEFI variables are in {}", *variables));
  }
  const auto tpm_home = tpm_directory(definition.uuid());
  if (definition.tpm() == virt::Tpm::emulator && (!machine.tpm || machine.tpm->mountpoint != tpm_home)) {
    lines.push_back(fmt::format("its TPM state is in {}, in no dataset of its own", tpm_home));
  }
  return lines;
}

std::optional<Refusal> not_whole(const View& view, const Machine& machine, const virt::Definition& definition) {
  auto evidence = foreign_state_files(machine, definition);
  for (const auto& disk : foreign_disks(view, machine, definition)) {
    evidence.push_back(fmt::format("{}: {} is not a zvol of this machine", disk.target, disk.what));
  }
  if (!machine.state) evidence.push_back("it has no state filesystem");
  if (evidence.empty()) return std::nullopt;
  return Refusal{"not-whole", fmt::format("machine '{}' has parts that its snapshots would not hold", machine.name),
                 evidence, fmt::format("take them in with 'kvm-adopt {}' (shut off), or detach them", machine.name)};
}

std::optional<Refusal> shared_disk(const View& view, const Machine& machine) {
  for (const auto& disk : machine.disks) {
    if (auto refusal = shared_volume(view, machine, disk.volume.name)) return refusal;
  }
  return std::nullopt;
}

std::optional<Refusal> foreign_dataset(const View& view, const Machine& machine) {
  for (const auto& dataset : view.datasets) {
    const bool foreign = machine.state && zfs::is_below(dataset.name, machine.state->name) &&
                         (!machine.tpm || dataset.name != machine.tpm->name);
    if (!foreign) continue;
    return Refusal{
        "foreign-dataset",
        fmt::format("{} lies below the state of machine '{}' and is not part of it", dataset.name, machine.name),
        {},
        fmt::format("move it away first: zfs rename {} ...", dataset.name)};
  }
  return std::nullopt;
}

}  // namespace kld::plan
