// SPDX-License-Identifier: Apache-2.0
#include "run/auto_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/name.h"
#include "run/file.h"
#include "virt/definition.h"
#include "zfs/change.h"
#include "zfs/device.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

constexpr char kSystemUri[] = "qemu:///system";

/// Where libvirt writes a persistent domain's definition before it says that it has it. Read, not asked for: a call to
/// libvirt for each of hundreds of machines every hour is what it spares.
std::string libvirts_file(const std::string& name) { return fmt::format("/etc/libvirt/qemu/{}.xml", name); }

bool is_up_to_date(const Host& host, const plan::Machine& machine, const std::string& saved) {
  if (host.libvirt().uri() != kSystemUri || !machine.domain->persistent) return false;
  try {
    const auto file = read_file(libvirts_file(machine.domain->name));
    if (!file) return false;
    const auto present = virt::Definition::parse(*file);
    return present.uuid() == machine.domain->uuid && present.same_hardware(virt::Definition::parse(saved));
  } catch (const Error&) {
    return false;  // whatever it is, libvirt knows better
  }
}

/// True when it runs with a disk that is none of its own and that its definition does not name either.
bool runs_with_more(const plan::View& view, const plan::Machine& machine, const std::string& definition) {
  if (!machine.active()) return false;
  const auto disks = virt::Definition::parse(definition).disks();
  return std::any_of(
      machine.domain->block_paths.begin(), machine.domain->block_paths.end(), [&](const std::string& path) {
        const auto volume = plan::volume_of(view, path);
        const bool own = std::any_of(machine.disks.begin(), machine.disks.end(),
                                     [&](const auto& disk) { return disk.volume.name == volume; });
        return !own && std::none_of(disks.begin(), disks.end(), [&](const auto& disk) { return disk.source == path; });
      });
}

plan::Definitions definitions_of_one(const Host& host, plan::View& view, const plan::Machine& machine) {
  plan::Definitions definitions;
  if (machine.state && machine.state->mounted) {
    if (auto saved = read_file(plan::definition_path(machine.name))) {
      definitions.saved_exists = true;
      definitions.saved = std::move(*saved);
    }
  }
  if (!machine.domain) return definitions;
  const auto& uuid = machine.domain->uuid;
  definitions.current = definitions.saved_exists && is_up_to_date(host, machine, definitions.saved)
                            ? definitions.saved
                            : host.libvirt().inactive_xml(uuid);
  view.volumes.merge(pool_volumes(host.libvirt(), definitions.current));
  if (runs_with_more(view, machine, definitions.current)) definitions.live = host.libvirt().live_xml(uuid);
  return definitions;
}

}  // namespace

plan::View view_with_holders(const Host& host) {
  plan::View view = host.view();
  std::vector<std::string> volumes;
  for (const auto& [name, machine] : plan::machines(view)) {
    for (const auto& disk : machine.disks) {
      if (!machine.active()) volumes.push_back(disk.volume.name);
    }
  }
  for (const auto& holder : zfs::kernel_holders(volumes)) view.held[holder.volume] = zfs::to_string(holder);
  return view;
}

std::set<std::string> golden_with_rule(const plan::View& view) {
  std::map<std::string, std::string> by_dataset;
  std::vector<std::string> datasets;
  for (const auto& [name, machine] : plan::machines(view)) {
    if (machine.disks.empty()) continue;
    const auto& disk = machine.disks.front().volume;
    if (disk.property(zfs::property::golden) != "true" || !disk.user.contains(zfs::property::keep)) continue;
    by_dataset[disk.name] = name;
    datasets.push_back(disk.name);
  }
  std::set<std::string> machines;
  for (const auto& [dataset, value] : zfs::local_property(zfs::property::keep, datasets))
    machines.insert(by_dataset[dataset]);
  return machines;
}

std::map<std::string, plan::Definitions> definitions_of(const Host& host, plan::View& view,
                                                        const std::vector<plan::AutoMachine>& machines,
                                                        std::map<std::string, std::string>& unreadable) {
  std::map<std::string, plan::Definitions> all;
  for (const auto& one : machines) {
    if (!one.out.empty()) continue;
    try {
      all[one.machine.name] = definitions_of_one(host, view, one.machine);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      unreadable[one.machine.name] = error.message();
    }
  }
  return all;
}

std::map<std::string, std::string> freeze_problems(const Host& host, const std::vector<plan::AutoMachine>& machines) {
  std::map<std::string, std::string> problems;
  for (const auto& one : machines) {
    if (!one.out.empty() || !plan::asks_for_freeze(one.machine)) continue;
    if (const auto problem = host.freeze_problem(one.machine)) problems[one.machine.name] = *problem;
  }
  return problems;
}

std::map<std::string, std::vector<plan::MachineSnapshot>> snapshots_of(const std::vector<plan::AutoMachine>& machines) {
  std::vector<std::string> datasets;
  std::map<std::string, std::string> owners;
  for (const auto& one : machines) {
    for (const auto& dataset : one.machine.datasets()) {
      datasets.push_back(dataset.name);
      owners[dataset.name] = one.machine.name;
    }
  }
  std::map<std::string, std::vector<zfs::Snapshot>> parts;
  for (auto& snapshot : zfs::list_snapshots(datasets, false)) {
    parts[owners[snapshot.dataset()]].push_back(std::move(snapshot));
  }
  std::map<std::string, std::vector<plan::MachineSnapshot>> all;
  for (const auto& one : machines) {
    all[one.machine.name] = plan::machine_snapshots(one.machine, parts[one.machine.name]);
  }
  return all;
}

std::vector<std::string> likely_machines() {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(plan::kStateDirectory, none)) {
    const std::string name = entry.path().filename();
    if (!machine_name_problem(name)) names.push_back(name);
  }
  return names;
}

std::uint64_t space_of(const std::vector<plan::SnapshotRange>& ranges) {
  std::uint64_t sum = 0;
  for (const auto& range : ranges) sum += zfs::space_of(range.first, range.last);
  return sum;
}

double share_of_pool(const std::string& dataset) {
  const auto pool = zfs::find_pool(zfs::pool_of(dataset));
  if (!pool || pool->size == 0) return 0;
  return static_cast<double>(pool->allocated) / static_cast<double>(pool->size);
}

}  // namespace kld::run
