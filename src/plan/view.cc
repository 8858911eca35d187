// SPDX-License-Identifier: Apache-2.0
#include "plan/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "base/name.h"
#include "plan/kept.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

/// The property alone does not make a machine's dataset: handed down from a folder, or received with a copy of the
/// machine, it would make the machine own, and its deletion destroy, what is none of its own. The name must agree.
bool is_in_place(const View& view, const zfs::Dataset& dataset, const std::string& owner) {
  if (dataset.kind == zfs::Kind::filesystem) {
    return dataset.name == state_dataset(view.root, owner) || dataset.name == tpm_dataset(view.root, owner);
  }
  const std::string label = dataset.property(zfs::property::disk);
  return dataset.name == disk_dataset(view.root, owner, label.empty() ? kFirstDisk : label);
}

/// The machine that the dataset is part of; empty: none.
std::string owner_in(const View& view, const zfs::Dataset& dataset) {
  const std::string owner = dataset.property(zfs::property::machine);
  const bool own =
      !owner.empty() && dataset.name != view.root && !is_aside(view, dataset) && is_in_place(view, dataset, owner);
  return own ? owner : std::string();
}

/// A domain of the machine's name is the machine's, whatever disks it has by now: what it runs from may be an overlay
/// of libvirt's, or a clone put in by hand, and every check must see that. Unless its volumes lie elsewhere: a
/// replica's or backup's root may be looked at on a host where the machine itself runs.
bool is_its_domain(const View& view, const Machine& machine, const virt::DomainInfo& domain) {
  bool elsewhere = false;
  for (const auto& path : domain.block_paths) {
    const auto volume = volume_of(view, path);
    for (const auto& disk : machine.disks) {
      if (disk.volume.name == volume) return true;
    }
    elsewhere = elsewhere || (!volume.empty() && !zfs::is_below(volume, view.root));
  }
  return machine.disks.empty() || !elsewhere;
}

void add(Machine& machine, const View& view, const zfs::Dataset& dataset) {
  if (dataset.kind == zfs::Kind::volume) {
    const std::string label = dataset.property(zfs::property::disk);
    machine.disks.push_back({label.empty() ? kFirstDisk : label, dataset});
  } else if (dataset.name == tpm_dataset(view.root, machine.name)) {
    machine.tpm = dataset;
  } else if (dataset.name == state_dataset(view.root, machine.name)) {
    machine.state = dataset;
  }
}

}  // namespace

bool is_aside(const View& view, const zfs::Dataset& dataset) {
  return zfs::is_below(dataset.name, view.root + "/.kept") || !dataset.property(zfs::property::kept).empty() ||
         !dataset.property(zfs::property::replica_of).empty();
}

std::vector<zfs::Dataset> Machine::datasets() const {
  std::vector<zfs::Dataset> all;
  for (const auto& disk : disks) all.push_back(disk.volume);
  if (state) all.push_back(*state);
  if (tpm) all.push_back(*tpm);
  return all;
}

std::map<std::string, Machine> machines(const View& view) {
  std::map<std::string, Machine> result;
  std::unordered_map<std::string_view, const virt::DomainInfo*> domains;
  for (const auto& domain : view.domains) domains[domain.name] = &domain;
  for (const auto& dataset : view.datasets) {
    const std::string owner = owner_in(view, dataset);
    if (owner.empty()) continue;
    Machine& machine = result[owner];
    machine.name = owner;
    add(machine, view, dataset);
  }
  for (auto& [name, machine] : result) {
    std::sort(machine.disks.begin(), machine.disks.end(), [](const MachineDisk& a, const MachineDisk& b) {
      const bool a_first = a.label == kFirstDisk;
      const bool b_first = b.label == kFirstDisk;
      return a_first != b_first ? a_first : a.label < b.label;
    });
    const auto domain = domains.find(name);
    for (const auto& disk : machine.disks) {
      const auto by = view.held.find(disk.volume.name);
      if (by != view.held.end()) machine.held.push_back(by->second);
    }
    if (domain != domains.end() && is_its_domain(view, machine, *domain->second)) machine.domain = *domain->second;
  }
  std::erase_if(result, [](const auto& entry) { return entry.second.datasets().empty(); });
  return result;
}

std::optional<Machine> find_machine(const View& view, const std::string& name) {
  auto all = machines(view);
  const auto found = all.find(name);
  return found == all.end() ? std::nullopt : std::optional(std::move(found->second));
}

std::string owner_of(const View& view, const std::string& dataset) {
  if (const auto* found = find_dataset(view, dataset)) return owner_in(view, *found);
  const std::string states = state_dataset(view.root, "");
  if (!dataset.starts_with(states)) return {};
  return dataset.substr(states.size(), dataset.find('/', states.size()) - states.size());
}

const zfs::Dataset* find_dataset(const View& view, const std::string& name) {
  const auto found = std::find_if(view.datasets.begin(), view.datasets.end(),
                                  [&](const zfs::Dataset& dataset) { return dataset.name == name; });
  return found == view.datasets.end() ? nullptr : &*found;
}

std::string volume_of(const View& view, const std::string& path) {
  if (auto volume = zfs::volume_in_path(path); !volume.empty()) return volume;
  const auto found = view.volumes.find(path);
  return found == view.volumes.end() ? std::string() : found->second;
}

bool may_be_volume(const std::string& path, const std::string& volume) {
  return path.starts_with(virt::kUnresolvedVolume) && zfs::last_component(path) == zfs::last_component(volume);
}

const virt::DomainInfo* find_domain(const View& view, const std::string& name) {
  const auto found = std::find_if(view.domains.begin(), view.domains.end(),
                                  [&](const virt::DomainInfo& domain) { return domain.name == name; });
  return found == view.domains.end() ? nullptr : &*found;
}

std::string disk_dataset(const std::string& root, const std::string& machine, const std::string& label) {
  return label == kFirstDisk ? fmt::format("{}/{}", root, machine) : fmt::format("{}/{}-{}", root, machine, label);
}
std::string state_dataset(const std::string& root, const std::string& machine) {
  return fmt::format("{}/.state/{}", root, machine);
}
std::string tpm_dataset(const std::string& root, const std::string& machine) {
  return fmt::format("{}/.state/{}/tpm", root, machine);
}
std::string state_directory(const std::string& machine) { return fmt::format("{}/{}", kStateDirectory, machine); }
std::string tpm_directory(const std::string& uuid) { return fmt::format("{}/{}", kTpmDirectory, uuid); }
std::string nvram_path(const std::string& machine) { return state_directory(machine) + "/uefi_VARS.fd"; }
std::string seed_path(const std::string& machine) { return state_directory(machine) + "/seed.iso"; }
std::string definition_path(const std::string& machine) { return state_directory(machine) + "/domain.xml"; }

std::optional<Refusal> foreign_state(const Machine& machine, const std::vector<std::string>& block_jobs,
                                     bool saved_allowed) {
  for (const auto* part : {&machine.state, &machine.tpm}) {
    if (!*part || (*part)->covered_by.empty()) continue;
    return Refusal{"covered",
                   fmt::format("the state of machine '{}' is hidden by another mount", machine.name),
                   {fmt::format("{} lies over {} at {}", (*part)->covered_by, (*part)->name, (*part)->mountpoint)},
                   fmt::format("unmount what lies on top: umount {}", (*part)->mountpoint)};
  }
  if (!machine.domain) return std::nullopt;
  const auto& domain = *machine.domain;
  const auto& name = machine.name;
  if (!domain.persistent) {
    return Refusal{"transient-domain",
                   fmt::format("machine '{}' is a transient domain: it would vanish when it stops", name),
                   {},
                   fmt::format("make it persistent: virsh dumpxml {0} > {0}.xml; virsh define {0}.xml", name)};
  }
  if (domain.has_snapshots) {
    return Refusal{
        "libvirt-snapshots",
        fmt::format("machine '{}' has snapshots of libvirt's own", name),
        {},
        fmt::format("see 'virsh snapshot-list {0}'; remove each with 'virsh snapshot-delete {0} NAME'", name)};
  }
  if (domain.has_checkpoints) {
    return Refusal{
        "libvirt-checkpoints",
        fmt::format("machine '{}' has checkpoints of libvirt's own", name),
        {},
        fmt::format("see 'virsh checkpoint-list {0}'; remove each with 'virsh checkpoint-delete {0} NAME'", name)};
  }
  if (!block_jobs.empty()) {
    return Refusal{"block-job", fmt::format("a block job is running on machine '{}'", name), block_jobs,
                   fmt::format("wait for it, or end it: virsh blockjob {} DISK --abort", name)};
  }
  if (domain.has_managed_save && !saved_allowed) {
    return Refusal{
        "managed-save",
        fmt::format("machine '{}' has a managed save image, which belongs to its disks as they are", name),
        {},
        fmt::format(
            "start it to use the image, or remove it: virsh managedsave-remove {} (kvm-delete: --discard-saved)",
            name)};
  }
  return std::nullopt;
}

Refusal no_such_machine(const View& view, const std::string& name) {
  const auto aside = all_kept_of(view, name);
  if (!aside.empty() && aside.back().is_ghost() && find_domain(view, name) == nullptr) {
    return {"set-aside",
            fmt::format("machine '{}' was deleted and is set aside", name),
            {fmt::format("as '{}'", aside.back().name)},
            fmt::format("bring it back with 'kvm-snap {0} undo', or destroy it with 'kvm-snap {0} drop {1}'", name,
                        aside.back().name)};
  }
  if (find_domain(view, name) != nullptr) {
    return {"not-adopted",
            fmt::format("domain '{}' is not a machine of {} yet", name, view.root),
            {},
            fmt::format("take it in with 'kvm-adopt {}'", name)};
  }
  std::vector<std::string> names;
  for (const auto& [known, machine] : machines(view)) names.push_back(known);
  const std::string near = nearest(name, names);
  return {"no-such-machine",
          fmt::format("there is no machine '{}' in {}", name, view.root),
          {},
          near.empty() ? "see the machines with 'kvm-list'" : fmt::format("did you mean '{}'?", near)};
}

}  // namespace kld::plan
