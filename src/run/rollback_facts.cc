// SPDX-License-Identifier: Apache-2.0
#include "run/rollback_facts.h"

#include <algorithm>
#include <filesystem>

#include "plan/kept.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/device.h"
#include "zfs/mount.h"
#include "zfs/send.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

plan::RollbackFacts facts_of(const Host& host, const plan::Machine& machine) {
  plan::RollbackFacts facts;
  const auto names = zfs::names_of(machine.datasets());
  facts.definitions = host.definitions(machine);
  facts.snapshots = host.snapshots(machine);
  for (const auto& snapshot : facts.snapshots) facts.taken.push_back(snapshot.short_name());
  facts.block_jobs = host.block_jobs(machine);
  facts.holders = other_holders(machine);
  facts.properties = zfs::own_properties(names);
  facts.sends = sends_of(names);
  return facts;
}

void add_host(plan::RollbackFacts& facts, const Host& host, const plan::Machine& machine, bool only_disks) {
  const auto& xml = only_disks ? facts.definitions.current : facts.past_definition;
  if (!xml.empty()) facts.host = host_parts(host.libvirt(), xml, plan::state_directory(machine.name));
}

/// What a rollback would lose that sets nothing aside.
void add_losses(plan::RollbackFacts& facts, const plan::Machine& machine, const std::string& snapshot) {
  const auto names = zfs::names_of(machine.datasets());
  facts.bookmarks = zfs::list_bookmarks(names);
  zfs::sync(zfs::pool_of(names.front()));
  for (const auto& name : names) {
    if (const auto bytes = zfs::written_since({name}, snapshot)) facts.written[name] = *bytes;
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> sends_of(const std::vector<std::string>& datasets) {
  std::vector<std::pair<std::string, std::string>> sends;
  for (const auto& send : zfs::running_sends(datasets)) {
    for (const auto& snapshot : send.snapshots) sends.emplace_back(snapshot, zfs::to_string(send));
    for (const auto& dataset : send.whole) sends.emplace_back(dataset, zfs::to_string(send));
  }
  return sends;
}

std::vector<std::string> other_holders(const plan::Machine& machine) {
  std::vector<std::string> volumes;
  for (const auto& disk : machine.disks) volumes.push_back(disk.volume.name);
  std::vector<std::string> others;
  for (const auto& holder : zfs::holders(volumes)) {
    const bool own = machine.active() && (holder.command.starts_with("qemu-system") || holder.command == "kvm");
    if (!own) others.push_back(zfs::to_string(holder));
  }
  return others;
}

std::vector<std::string> holders_of(const plan::Kept& kept) {
  std::vector<std::string> volumes;
  for (const auto& disk : kept.disks) volumes.push_back(disk.volume.name);
  std::vector<std::string> holders;
  for (const auto& holder : zfs::holders(volumes)) holders.push_back(zfs::to_string(holder));
  return holders;
}

plan::HostParts host_parts(const virt::Connection& libvirt, const std::string& xml, const std::string& own) {
  plan::HostParts parts;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/sys/class/net", none)) {
    parts.interfaces.push_back(entry.path().filename());
  }
  for (const auto& network : libvirt.networks()) {
    if (libvirt.network_active(network)) parts.networks.push_back(network);
  }
  for (const auto& file : plan::needed_files(virt::Definition::parse(xml))) {
    if (!file.starts_with(own + "/") && !fs::exists(file, none)) parts.missing_files.push_back(file);
  }
  parts.unsupported = libvirt.unsupported(xml);
  return parts;
}

plan::RollbackFacts rollback_facts(const Host& host, const plan::RollbackRequest& request) {
  const auto machine = plan::find_machine(host.view(), request.machine);
  if (!machine || !machine->domain) return {};
  auto facts = facts_of(host, *machine);
  const auto all = plan::machine_snapshots(*machine, facts.snapshots);
  if (const auto* snapshot = plan::snapshot_to_go_back_to(*machine, request, all)) {
    facts.past_definition = read_snapshot_definition(machine->name, snapshot->name);
    if (request.destroy_newer) add_losses(facts, *machine, snapshot->name);
  }
  add_host(facts, host, *machine, request.only_disks);
  return facts;
}

plan::RollbackFacts undo_facts(const Host& host, const plan::UndoRequest& request) {
  const auto machine = plan::find_machine(host.view(), request.machine);
  if (!machine || !machine->domain) return {};
  auto facts = facts_of(host, *machine);
  const auto named = plan::named_kept(host.view(), machine->name, request.kept);
  const auto* kept = std::get_if<plan::Kept>(&named);
  if (kept == nullptr) return facts;
  const auto there = zfs::names_of(kept->datasets());
  auto all = there;
  all.push_back(kept->container.name);
  const auto snapshots = zfs::list_snapshots(all, false);
  facts.snapshots.insert(facts.snapshots.end(), snapshots.begin(), snapshots.end());
  auto both = zfs::names_of(machine->datasets());
  both.insert(both.end(), there.begin(), there.end());
  facts.bookmarks = zfs::list_bookmarks(both);
  facts.kept_holders = holders_of(*kept);
  if (kept->state && !kept->state->key_missing) {
    facts.past_definition = zfs::read_inside(kept->state->name, "domain.xml").value_or("");
  }
  add_host(facts, host, *machine, !kept->state);
  return facts;
}

}  // namespace kld::run
