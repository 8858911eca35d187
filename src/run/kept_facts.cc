// SPDX-License-Identifier: Apache-2.0
#include "run/kept_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "plan/whole.h"
#include "run/rollback_facts.h"
#include "zfs/dataset.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

/// Devices and files outside of the layout that its disks lie on, and that are gone.
std::vector<std::string> gone_disks(const plan::View& view, const plan::Kept& kept,
                                    const virt::Definition& definition) {
  std::vector<std::string> gone;
  std::error_code none;
  for (const auto& disk : plan::foreign_disks(view, plan::as_it_was(view, kept), definition)) {
    const bool of_root = zfs::is_below(plan::volume_of(view, disk.what), view.root);
    if (!of_root && disk.what.starts_with("/dev/") && !std::filesystem::exists(disk.what, none))
      gone.push_back(disk.what);
  }
  return gone;
}

}  // namespace

plan::GhostFacts ghost_facts(const Host& host, const plan::DeleteRequest& request) {
  plan::GhostFacts facts;
  for (const auto& name : request.machines) {
    const auto machine = plan::find_machine(host.view(), name);
    if (!machine) continue;
    if (machine->domain) facts.definitions[name] = host.definitions(*machine);
    for (const auto& [snapshot, words] : sends_of(zfs::names_of(machine->datasets())))
      facts.sends[name].push_back(words);
  }
  return facts;
}

plan::ReviveFacts revive_facts(const Host& host, const plan::ReviveRequest& request) {
  plan::ReviveFacts facts;
  const auto& view = host.view();
  const auto named = plan::named_kept(view, request.machine, request.kept);
  const auto* kept = std::get_if<plan::Kept>(&named);
  if (kept == nullptr) return facts;
  for (const auto& [name, value] : zfs::local_property(zfs::property::autostart, {kept->container.name})) {
    facts.autostart = value == "true";
  }
  facts.snapshots = zfs::list_snapshots({kept->container.name}, false);
  if (kept->state && !kept->state->key_missing) {
    facts.definition = zfs::read_inside(kept->state->name, "domain.xml").value_or("");
  }
  for (const auto& domain : view.domains) {
    if (auto xml = host.libvirt().inactive_xml_if_any(domain.uuid)) facts.others[domain.name] = std::move(*xml);
  }
  std::vector<std::string> labels;
  for (const auto& disk : kept->disks) labels.push_back(disk.label);
  facts.taken_paths = taken_paths(view.root, {kept->machine}, labels);
  if (facts.definition.empty()) return facts;
  facts.host = host_parts(host.libvirt(), facts.definition, plan::state_directory(kept->machine));
  const auto gone = gone_disks(view, *kept, virt::Definition::parse(facts.definition));
  facts.host.missing_files.insert(facts.host.missing_files.end(), gone.begin(), gone.end());
  return facts;
}

plan::ExpireFacts expire_facts(const Host& host) {
  plan::ExpireFacts facts;
  std::vector<std::string> containers;
  std::vector<std::string> datasets;
  std::vector<std::string> volumes;
  for (const auto& kept : plan::all_kept(host.view())) {
    containers.push_back(kept.container.name);
    datasets.push_back(kept.container.name);
    for (const auto& dataset : kept.datasets()) datasets.push_back(dataset.name);
    for (const auto& disk : kept.disks) volumes.push_back(disk.volume.name);
  }
  if (containers.empty()) return facts;
  for (auto& [name, value] : zfs::local_property(zfs::property::expires, containers)) facts.expires[name] = value;
  facts.created = zfs::creation_times(containers);
  const auto pool = zfs::pool_of(host.view().root);
  facts.snapshots = zfs::list_snapshots(datasets, false);
  facts.origins = zfs::list_origins(pool);
  facts.sends = sends_of(datasets);
  for (const auto& holder : zfs::holders(volumes)) facts.holders[holder.volume] = zfs::to_string(holder);
  facts.clock = zfs::txg_clock(pool);
  return facts;
}

}  // namespace kld::run
