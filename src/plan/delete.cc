// SPDX-License-Identifier: Apache-2.0
#include "plan/delete.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/size.h"
#include "plan/limits.h"
#include "plan/snapshot.h"
#include "plan/whole.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

std::string dataset_of(const std::string& snapshot) { return snapshot.substr(0, snapshot.find('@')); }

bool contains(const std::set<std::string>& set, const std::string& entry) { return set.find(entry) != set.end(); }

std::set<std::string> datasets_of(const std::vector<Machine>& machines) {
  std::set<std::string> names;
  for (const auto& machine : machines) {
    for (const auto& dataset : machine.datasets()) names.insert(dataset.name);
  }
  return names;
}

/// Snapshots of `dataset` that a promote of a clone of `origin` would move: the origin and all older.
std::vector<std::string> moved_by_promote(const std::string& origin, const std::vector<zfs::Snapshot>& snapshots) {
  const auto at = std::find_if(snapshots.begin(), snapshots.end(), [&](const auto& s) { return s.name == origin; });
  std::vector<std::string> moved;
  if (at == snapshots.end()) return moved;
  for (const auto& snapshot : snapshots) {
    if (snapshot.dataset() == at->dataset() && snapshot.createtxg <= at->createtxg) moved.push_back(snapshot.name);
  }
  return moved;
}

/// Who outside of `doomed` was cloned from it. State filesystems follow their disks and are told only when alone.
std::optional<Refusal> dependent_clones(const View& view, const std::vector<Machine>& machines,
                                        const std::set<std::string>& doomed, const DeleteFacts& facts) {
  std::vector<zfs::Dataset> clones;
  std::set<std::string> volumes;
  for (const auto& machine : machines) {
    for (const auto& disk : machine.disks) volumes.insert(disk.volume.name);
  }
  for (const auto& dataset : facts.origins) {
    if (!dataset.origin.empty() && contains(doomed, dataset_of(dataset.origin)) && !contains(doomed, dataset.name)) {
      clones.push_back(dataset);
    }
  }
  if (clones.empty()) return std::nullopt;
  std::stable_partition(clones.begin(), clones.end(),
                        [&](const auto& c) { return contains(volumes, dataset_of(c.origin)); });
  std::set<std::string> told;
  std::vector<std::string> evidence;
  for (const auto& clone : clones) {
    const std::string owner = owner_of(view, clone.name);
    if (!contains(volumes, dataset_of(clone.origin)) && contains(told, owner)) continue;
    told.insert(owner);
    evidence.push_back(fmt::format("{}{} (from {})", clone.name,
                                   owner.empty() ? "" : fmt::format(", machine '{}',", owner), clone.origin));
  }
  for (const auto& clone : clones) {
    if (!contains(volumes, dataset_of(clone.origin))) continue;
    const auto moved = moved_by_promote(clone.origin, facts.snapshots);
    std::vector<std::string> siblings;
    for (const auto& other : clones) {
      const bool hangs_on_moved = std::find(moved.begin(), moved.end(), other.origin) != moved.end();
      if (other.name != clone.name && hangs_on_moved) siblings.push_back(other.name);
    }
    evidence.push_back(
        fmt::format("'zfs promote {}' would move to it: {}{}", clone.name, fmt::join(moved, ", "),
                    siblings.empty() ? "" : fmt::format("; {} would then hang on it", fmt::join(siblings, ", "))));
  }
  std::vector<std::string> names;
  for (const auto& machine : machines) names.push_back("'" + machine.name + "'");
  return Refusal{"dependent-clones",
                 fmt::format("{} {} machines cloned from {}", fmt::join(names, ", "),
                             names.size() == 1 ? "has" : "have", names.size() == 1 ? "it" : "them"),
                 evidence, "delete those machines first (all in one command is fine), or promote one of them"};
}

/// Data disks of the machine's definition that are none of its zvols, and whether it has any of those.
struct NamedDisks {
  bool any_own = false;
  std::vector<ForeignDisk> foreign;
};

NamedDisks named_disks(const View& view, const Machine& machine, const DeleteFacts& facts) {
  const auto xml = facts.definitions.find(machine.name);
  if (xml == facts.definitions.end() || xml->second.empty()) return {};
  const auto definition = virt::Definition::parse(xml->second);
  View known = {view.root, {}, {}, view.volumes};
  known.volumes.insert(facts.volumes.begin(), facts.volumes.end());
  std::set<std::string> named;
  for (const auto& disk : definition.disks()) named.insert(volume_of(known, disk.source));
  const bool any_own = std::any_of(machine.disks.begin(), machine.disks.end(),
                                   [&](const MachineDisk& disk) { return contains(named, disk.volume.name); });
  return {any_own, foreign_disks(known, machine, definition)};
}

/// A domain that has the machine's name and none of its disks may be another machine, which must not go along.
std::optional<Refusal> another_domain(const View& view, const Machine& machine, const DeleteFacts& facts) {
  const auto disks = named_disks(view, machine, facts);
  if (machine.disks.empty() || disks.any_own || disks.foreign.empty()) return std::nullopt;
  std::vector<std::string> evidence;
  for (const auto& disk : disks.foreign) evidence.push_back(fmt::format("{}: {}", disk.target, disk.what));
  return Refusal{"another-domain",
                 fmt::format("domain '{}' has none of the disks of machine '{}'", machine.name, machine.name),
                 std::move(evidence),
                 fmt::format("if it is another machine, give it another name: virsh domrename {} NEW; if not, give it "
                             "its disks back",
                             machine.name)};
}

std::optional<Refusal> shared_disk(const View& view, const Machine& machine, const std::string& volume) {
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

std::optional<Refusal> not_deletable(const View& view, const Machine& machine, const DeleteRequest& request,
                                     const DeleteFacts& facts) {
  const auto jobs = facts.block_jobs.find(machine.name);
  if (auto refusal = foreign_state(machine, jobs == facts.block_jobs.end() ? std::vector<std::string>() : jobs->second,
                                   request.discard_saved)) {
    return refusal;
  }
  if (machine.active() && !request.force) {
    return Refusal{"running",
                   fmt::format("machine '{}' is {}", machine.name, virt::to_string(machine.domain->state)),
                   {},
                   fmt::format("shut it down first ('virsh shutdown {}'), or stop it with --force", machine.name)};
  }
  if (const auto holders = facts.holders.find(machine.name);
      holders != facts.holders.end() && !holders->second.empty()) {
    // Before it is stopped: found out behind that, the machine would have been stopped for nothing.
    return Refusal{"in-use", fmt::format("a disk of machine '{}' is open elsewhere", machine.name), holders->second,
                   "end that program, or wait until it is done"};
  }
  if (auto refusal = another_domain(view, machine, facts)) return refusal;
  for (const auto& disk : machine.disks) {
    if (auto refusal = shared_disk(view, machine, disk.volume.name)) return refusal;
  }
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
  for (const auto& snapshot : facts.snapshots) {
    const auto datasets = machine.datasets();
    const bool own =
        std::any_of(datasets.begin(), datasets.end(), [&](const auto& d) { return d.name == snapshot.dataset(); });
    if (own && snapshot.holds > 0) {
      return Refusal{"held",
                     fmt::format("snapshot '{}' is held", snapshot.name),
                     {},
                     fmt::format("see by what with 'zfs holds {}', and end that first", snapshot.name)};
    }
  }
  return std::nullopt;
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
    if (contains(doomed, snapshot.dataset()) || !is_named(snapshot.short_name(), "clone")) continue;
    const auto owner = owner_of(view, snapshot.dataset());
    auto& whole = wholes[{owner.empty() ? snapshot.dataset() : owner, snapshot.short_name()}];
    whole.parts.push_back({snapshot.name, snapshot.guid});
    if (snapshot.holds > 0 || snapshot.property(zfs::property::by) != "clone") whole.stays = true;
    for (const auto& clone : snapshot.clones) (contains(doomed, clone) ? whole.used : whole.stays) = true;
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
    if (contains(doomed, snapshot.dataset()) && snapshot.clones.empty())
      result.push_back({snapshot.name, snapshot.guid});
  }
  return result;
}

/// Clones before what they were cloned from, children before parents.
std::vector<Doomed> in_order(const std::vector<Machine>& machines) {
  std::vector<Doomed> waiting;
  std::map<std::string, std::string> origins;
  for (const auto& machine : machines) {
    const auto uuid = machine.domain ? machine.domain->uuid : std::string();
    // Disks first: one that is in use keeps the keys and variables that belong to it.
    for (const auto& disk : machine.disks) waiting.push_back({disk.volume.name, disk.volume.guid, ""});
    if (machine.tpm) waiting.push_back({machine.tpm->name, machine.tpm->guid, machine.tpm->mountpoint});
    if (machine.state) waiting.push_back({machine.state->name, machine.state->guid, state_directory(machine.name)});
    for (const auto& dataset : machine.datasets()) origins[dataset.name] = dataset_of(dataset.origin);
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
    doom.lines.push_back(fmt::format("machine '{}' ({})", name,
                                     machine->domain ? virt::to_string(machine->domain->state) : "no domain"));
    for (const auto& dataset : machine->datasets()) {
      const auto count = std::count_if(facts.snapshots.begin(), facts.snapshots.end(),
                                       [&](const auto& s) { return s.dataset() == dataset.name; });
      doom.used += dataset.used;
      doom.lines.push_back(fmt::format("  {} ({}, {} snapshot{})", dataset.name, format_size(dataset.used), count,
                                       count == 1 ? "" : "s"));
    }
    for (const auto& disk : named_disks(view, *machine, facts).foreign) {
      doom.lines.push_back(fmt::format("  but not {} ({}), which is none of its zvols", disk.what, disk.target));
    }
  }
  for (const auto& snapshot : last_used(view, datasets_of(machines), facts)) {
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
  const auto doomed = datasets_of(machines);
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
  plan.steps.emplace_back(DestroyDatasets{in_order(machines)});
  if (auto snapshots = last_used(view, doomed, facts); !snapshots.empty()) {
    plan.steps.emplace_back(DestroySnapshots{std::move(snapshots), true});
  }
  return plan;
}

}  // namespace kld::plan
