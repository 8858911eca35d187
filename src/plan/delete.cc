// SPDX-License-Identifier: Apache-2.0
#include "plan/delete.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/size.h"
#include "plan/delete_refusals.h"
#include "plan/drop.h"
#include "plan/kept.h"
#include "plan/snapshot.h"

namespace kld::plan {
namespace {

/// The machines' datasets, and the versions of them that were set aside.
std::set<std::string> datasets_of(const View& view, const std::vector<Machine>& machines) {
  std::set<std::string> names;
  for (const auto& machine : machines) {
    for (const auto& dataset : machine.datasets()) names.insert(dataset.name);
    for (const auto& kept : kept_of(view, machine.name)) {
      for (const auto& doomed : doomed_with(kept)) names.insert(doomed.name);
    }
  }
  return names;
}

/// @clone- snapshots on the origins that nobody uses once `doomed` is gone, if they are ours. Those of a machine go
/// whole or stay whole: also the parts that were not cloned, as with --without.
std::vector<DoomedSnapshot> last_used(const View& view, const std::set<std::string>& doomed, const DeleteFacts& facts) {
  struct Whole {
    std::vector<DoomedSnapshot> parts;
    bool used = false;  ///< by what goes
    bool stays = false;
  };
  std::map<std::pair<std::string, std::string>, Whole> wholes;
  for (const auto& snapshot : facts.snapshots) {
    if (doomed.contains(snapshot.dataset()) || !is_named(snapshot.short_name(), "clone")) continue;
    const auto owner = owner_of(view, snapshot.dataset());
    auto& whole = wholes[{owner.empty() ? snapshot.dataset() : owner, snapshot.short_name()}];
    whole.parts.push_back({snapshot.name, snapshot.guid});
    if (snapshot.holds > 0 || snapshot.property(zfs::property::by) != "clone") whole.stays = true;
    for (const auto& clone : snapshot.clones) (doomed.contains(clone) ? whole.used : whole.stays) = true;
  }
  std::vector<DoomedSnapshot> result;
  for (const auto& [name, whole] : wholes) {
    if (whole.used && !whole.stays) result.insert(result.end(), whole.parts.begin(), whole.parts.end());
  }
  return result;
}

/// Snapshots of what goes, but for those that others of it were cloned from: they go with their datasets.
std::vector<DoomedSnapshot> own_snapshots(const std::set<std::string>& doomed, const DeleteFacts& facts) {
  std::vector<DoomedSnapshot> result;
  for (const auto& snapshot : facts.snapshots) {
    if (doomed.contains(snapshot.dataset()) && snapshot.clones.empty())
      result.push_back({snapshot.name, snapshot.guid});
  }
  return result;
}

/// Clones before what they were cloned from, children before parents.
std::vector<Doomed> in_order(const View& view, const std::vector<Machine>& machines) {
  std::vector<Doomed> waiting;
  std::map<std::string, std::string> origins;
  for (const auto& machine : machines) {
    for (const auto& kept : kept_of(view, machine.name)) {
      for (auto& doomed : doomed_with(kept)) waiting.push_back(std::move(doomed));
      for (const auto& dataset : kept.datasets()) origins[dataset.name] = zfs::dataset_of(dataset.origin);
    }
    // Disks first: one that is in use keeps the keys and variables that belong to it.
    for (const auto& disk : machine.disks) waiting.push_back({disk.volume.name, disk.volume.guid, ""});
    if (machine.tpm) waiting.push_back({machine.tpm->name, machine.tpm->guid, machine.tpm->mountpoint});
    if (machine.state) waiting.push_back({machine.state->name, machine.state->guid, state_directory(machine.name)});
    for (const auto& dataset : machine.datasets()) origins[dataset.name] = zfs::dataset_of(dataset.origin);
  }
  std::vector<Doomed> ordered;
  while (!waiting.empty()) {
    const auto ready = std::find_if(waiting.begin(), waiting.end(), [&](const Doomed& candidate) {
      return std::none_of(waiting.begin(), waiting.end(), [&](const Doomed& other) {
        return other.name != candidate.name &&
               (origins[other.name] == candidate.name || zfs::is_below(other.name, candidate.name));
      });
    });
    // ZFS knows no cycles of origins, so one is always ready.
    const auto next = ready == waiting.end() ? waiting.begin() : ready;
    ordered.push_back(*next);
    waiting.erase(next);
  }
  return ordered;
}

}  // namespace

Doom describe_deletion(const View& view, const DeleteRequest& request, const DeleteFacts& facts) {
  Doom doom;
  std::vector<Machine> machines;
  for (const auto& name : request.machines) {
    const auto machine = find_machine(view, name);
    if (!machine) continue;
    machines.push_back(*machine);
    const bool elsewhere = !machine->domain && find_domain(view, name) != nullptr;
    doom.lines.push_back(fmt::format("machine '{}' ({})", name,
                                     machine->domain ? virt::to_string(machine->domain->state)
                                     : elsewhere     ? "but not the domain of this name, whose disks lie elsewhere"
                                                     : "no domain"));
    for (const auto& dataset : machine->datasets()) {
      const auto count = std::count_if(facts.snapshots.begin(), facts.snapshots.end(),
                                       [&](const auto& s) { return s.dataset() == dataset.name; });
      doom.used += dataset.used;
      doom.lines.push_back(fmt::format("  {} ({}, {} snapshot{})", dataset.name, format_size(dataset.used), count,
                                       count == 1 ? "" : "s"));
    }
    for (const auto& kept : kept_of(view, name)) {
      doom.used += kept.container.used;
      doom.lines.push_back(
          fmt::format("  {}, set aside by a {} ({})", kept.name, kept.reason, format_size(kept.container.used)));
    }
    for (const auto& disk : foreign_disks_of(view, *machine, facts)) {
      doom.lines.push_back(fmt::format("  but not {} ({}), which is none of its zvols", disk.what, disk.target));
    }
  }
  for (const auto& snapshot : last_used(view, datasets_of(view, machines), facts)) {
    doom.lines.push_back(fmt::format("  {} (nothing else was cloned from it)", snapshot.name));
  }
  return doom;
}

Result plan_delete(const View& view, const DeleteRequest& request, const DeleteFacts& facts, const Fresh& fresh) {
  std::vector<Machine> machines;
  for (const auto& name : request.machines) {
    if (std::any_of(machines.begin(), machines.end(), [&](const auto& m) { return m.name == name; })) continue;
    auto machine = find_machine(view, name);
    if (!machine) return no_such_machine(view, name);
    if (auto refusal = not_deletable(view, *machine, request, facts)) return *refusal;
    machines.push_back(std::move(*machine));
  }
  const auto doomed = datasets_of(view, machines);
  std::set<std::string> undefined;
  for (const auto& machine : machines) {
    if (machine.domain) undefined.insert(machine.domain->uuid);
  }
  for (const auto& machine : machines) {
    if (auto refusal = needed_state(view, machine, undefined, facts)) return *refusal;
  }
  if (auto refusal = dependent_clones(view, machines, doomed, facts)) return *refusal;

  Plan plan{"delete", fresh.op, {}, {}, 0, {}};
  AwaitUnused unused;
  UnmountFilesystems unmounts;
  UndefineDomains undefine;
  std::vector<Step> discards;
  for (const auto& machine : machines) {
    plan.machines.push_back(machine.name);
    for (const auto& disk : machine.disks) unused.volumes.push_back(disk.volume.name);
    if (machine.tpm && machine.tpm->mounted) unmounts.mounts.push_back({machine.tpm->name, machine.tpm->mountpoint});
    if (machine.state && machine.state->mounted) {
      unmounts.mounts.push_back({machine.state->name, state_directory(machine.name)});
    }
    if (!machine.domain) continue;
    const DomainName domain{machine.name, machine.domain->uuid};
    if (machine.active()) plan.steps.emplace_back(StopDomain{domain, 0});
    if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, false});
    if (machine.domain->has_managed_save) discards.emplace_back(DiscardSaved{domain});
    const auto xml = facts.definitions.find(machine.name);
    undefine.domains.push_back({machine.name, machine.domain->uuid, xml == facts.definitions.end() ? "" : xml->second});
  }
  if (!unused.volumes.empty()) plan.steps.emplace_back(std::move(unused));
  if (!unmounts.mounts.empty()) plan.steps.emplace_back(std::move(unmounts));
  // A managed save image cannot come back: from its removal on the deletion is finished, not undone.
  if (!discards.empty()) plan.commit = plan.steps.size();
  plan.steps.insert(plan.steps.end(), discards.begin(), discards.end());
  if (!undefine.domains.empty()) plan.steps.emplace_back(std::move(undefine));
  if (discards.empty()) plan.commit = plan.steps.size();
  // One call, all or none: what ZFS refuses now (a hold, a clone, a send that runs) leaves the machine as it was.
  if (auto snapshots = own_snapshots(doomed, facts); !snapshots.empty()) {
    plan.steps.emplace_back(DestroySnapshots{std::move(snapshots), false});
  }
  plan.steps.emplace_back(DestroyDatasets{in_order(view, machines)});
  if (auto snapshots = last_used(view, doomed, facts); !snapshots.empty()) {
    plan.steps.emplace_back(DestroySnapshots{std::move(snapshots), true});
  }
  return plan;
}

}  // namespace kld::plan
