// SPDX-License-Identifier: Apache-2.0
#include "plan/delete_refusals.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "plan/drop.h"
#include "plan/kept_refusals.h"

namespace kld::plan {
namespace {

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
                                   [&](const MachineDisk& disk) { return named.contains(disk.volume.name); });
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

}  // namespace

std::vector<ForeignDisk> foreign_disks_of(const View& view, const Machine& machine, const DeleteFacts& facts) {
  return named_disks(view, machine, facts).foreign;
}

std::optional<Refusal> needed_state(const View& view, const Machine& machine, const std::set<std::string>& undefined,
                                    const DeleteFacts& facts) {
  // Of a copy under another root the machine itself may be here, with its own state at the same place.
  const auto lies_at = [&](const std::string& directory, const std::string& dataset) {
    const auto there = facts.mounts.find(directory);
    return there == facts.mounts.end() || there->second == dataset;
  };
  const auto directory = state_directory(machine.name);
  const bool has_state = machine.state && lies_at(directory, machine.state->name);
  for (const auto& domain : view.domains) {
    if (undefined.contains(domain.uuid)) continue;
    std::vector<std::string> evidence;
    const auto tpm = tpm_directory(domain.uuid);
    if (machine.tpm && machine.tpm->mountpoint == tpm && lies_at(tpm, machine.tpm->name))
      evidence.push_back(fmt::format("its TPM: {}", machine.tpm->name));
    const auto nvram = facts.nvrams.find(domain.name);
    if (has_state && nvram != facts.nvrams.end() && nvram->second.starts_with(directory + "/"))
      evidence.push_back(fmt::format("its firmware variables: {}", nvram->second));
    for (const auto& path : domain.block_paths) {
      if (has_state && path.starts_with(directory + "/")) evidence.push_back(fmt::format("its disk: {}", path));
    }
    if (evidence.empty()) continue;
    return Refusal{"needed-state",
                   fmt::format("domain '{}' needs the state of machine '{}'", domain.name, machine.name),
                   std::move(evidence),
                   fmt::format("if that domain is to go, undefine it first: virsh undefine {} --keep-nvram --keep-tpm",
                               domain.name)};
  }
  return std::nullopt;
}

std::optional<Refusal> not_at_rest(const View& view, const Machine& machine, const DeleteRequest& request,
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
  if (auto refusal = shared_disk(view, machine)) return refusal;
  return foreign_dataset(view, machine);
}

std::optional<Refusal> not_deletable(const View& view, const Machine& machine, const DeleteRequest& request,
                                     const DeleteFacts& facts) {
  if (auto refusal = not_at_rest(view, machine, request, facts)) return refusal;
  auto datasets = machine.datasets();
  for (const auto& kept : kept_of(view, machine.name)) {
    if (auto refusal = foreign_in(view, kept)) return refusal;
    const auto holders = facts.kept_holders.find(kept.name);
    if (auto refusal = kept_in_use(
            view, kept, holders == facts.kept_holders.end() ? std::vector<std::string>() : holders->second)) {
      return refusal;
    }
    for (auto& dataset : kept.datasets()) datasets.push_back(std::move(dataset));
    datasets.push_back(kept.container);
  }
  for (const auto& snapshot : facts.snapshots) {
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

std::optional<Refusal> dependent_clones(const View& view, const std::vector<Machine>& machines,
                                        const std::set<std::string>& doomed, const DeleteFacts& facts) {
  std::vector<zfs::Dataset> clones;
  std::set<std::string> volumes;
  for (const auto& machine : machines) {
    for (const auto& disk : machine.disks) volumes.insert(disk.volume.name);
  }
  for (const auto& dataset : facts.origins) {
    if (!dataset.origin.empty() && doomed.contains(zfs::dataset_of(dataset.origin)) && !doomed.contains(dataset.name)) {
      clones.push_back(dataset);
    }
  }
  if (clones.empty()) return std::nullopt;
  std::stable_partition(clones.begin(), clones.end(),
                        [&](const auto& c) { return volumes.contains(zfs::dataset_of(c.origin)); });
  std::set<std::string> told;
  std::vector<std::string> evidence;
  for (const auto& clone : clones) {
    const std::string owner = owner_of(view, clone.name);
    if (!volumes.contains(zfs::dataset_of(clone.origin)) && told.contains(owner)) continue;
    told.insert(owner);
    evidence.push_back(fmt::format("{}{} (from {})", clone.name, owner_in_words(view, clone.name), clone.origin));
  }
  for (const auto& clone : clones) {
    if (!volumes.contains(zfs::dataset_of(clone.origin))) continue;
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
                 evidence,
                 "set it aside until they are gone with --ghost; or delete those machines first (all in one command is "
                 "fine), or promote one of them"};
}

}  // namespace kld::plan
