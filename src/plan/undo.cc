// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "plan/kept_refusals.h"
#include "plan/limits.h"
#include "plan/revive.h"
#include "plan/rollback.h"
#include "plan/rollback_refusals.h"
#include "plan/swap.h"
#include "plan/whole.h"

namespace kld::plan {
namespace {

bool is_one_of(const std::vector<zfs::Dataset>& datasets, const std::string& name) {
  return std::any_of(datasets.begin(), datasets.end(), [&](const auto& dataset) { return dataset.name == name; });
}

/// The refusal when the version is not the present machine's own, but of a deleted one that had its name before.
std::optional<Refusal> of_another(const View& view, const Kept& kept) {
  const auto own = kept_of(view, kept.machine);
  if (std::any_of(own.begin(), own.end(), [&](const Kept& one) { return one.name == kept.name; })) return std::nullopt;
  return Refusal{
      "name-taken",
      fmt::format("'{}' is of a deleted machine, and the name '{}' is another's now", kept.name, kept.machine),
      {},
      fmt::format("give '{}' another name, or delete it, first", kept.machine)};
}

/// Parts of the version whose names somebody else's datasets have taken since.
std::optional<Refusal> place_taken(const View& view, const Kept& kept, const std::vector<zfs::Dataset>& leaving) {
  std::vector<std::string> taken;
  for (const auto& part : kept.datasets()) {
    const auto home = home_of(view, kept, part);
    if (find_dataset(view, home) == nullptr || is_one_of(leaving, home)) continue;
    const auto owner = owner_of(view, home);
    taken.push_back(owner.empty() ? home : fmt::format("{}, of machine '{}'", home, owner));
  }
  if (taken.empty()) return std::nullopt;
  return Refusal{"name-taken", fmt::format("the place of '{}' is taken", kept.name), std::move(taken),
                 "rename or delete what is there, then try again"};
}

/// Parts of the version that hang on another one that is set aside: its history went there.
std::optional<Refusal> hangs_on_another(const View& view, const Kept& kept) {
  for (const auto& part : kept.datasets()) {
    const auto other = kept_with(view, part.origin);
    if (other == kept.name || machine_of_kept(other) != kept.machine) continue;
    return Refusal{"kept-later",
                   fmt::format("'{}' was set aside before '{}', which has its history", kept.name, other),
                   {fmt::format("{} is a clone of {}", part.name, part.origin)},
                   fmt::format("bring that one back first: kvm-snap {} undo {}", kept.machine, other)};
  }
  return std::nullopt;
}

/// Snapshots of `present` that a promotion of `part` moves.
std::vector<zfs::Snapshot> moving(const zfs::Dataset& part, const std::string& present, const RollbackFacts& facts) {
  std::vector<zfs::Snapshot> found;
  const auto origin = std::find_if(facts.snapshots.begin(), facts.snapshots.end(),
                                   [&](const auto& snapshot) { return snapshot.name == part.origin; });
  if (origin == facts.snapshots.end()) return found;
  for (const auto& snapshot : facts.snapshots) {
    if (snapshot.dataset() == present && snapshot.createtxg <= origin->createtxg) found.push_back(snapshot);
  }
  return found;
}

/// Names of snapshots and bookmarks that are on both: ZFS could not bring them together.
std::optional<Refusal> named_twice(const Kept& kept, const std::vector<zfs::Dataset>& leaving,
                                   const RollbackFacts& facts) {
  std::vector<std::string> twice;
  for (const auto& part : kept.datasets()) {
    const auto present = zfs::dataset_of(part.origin);
    if (!is_one_of(leaving, present)) continue;
    for (const auto& snapshot : moving(part, present, facts)) {
      const auto same = part.name + "@" + snapshot.short_name();
      const bool there = std::any_of(facts.snapshots.begin(), facts.snapshots.end(),
                                     [&](const auto& other) { return other.name == same; });
      if (there) twice.push_back(fmt::format("{} and {}", snapshot.name, same));
    }
    for (const auto& bookmark : facts.bookmarks) {
      if (!bookmark.name.starts_with(present + "#")) continue;
      const auto same = part.name + bookmark.name.substr(present.size());
      const bool there = std::any_of(facts.bookmarks.begin(), facts.bookmarks.end(),
                                     [&](const auto& other) { return other.name == same; });
      if (there) twice.push_back(fmt::format("{} and {}", bookmark.name, same));
    }
  }
  if (twice.empty()) return std::nullopt;
  return Refusal{"named-twice",
                 fmt::format("'{}' and the present of machine '{}' have equal names", kept.name, kept.machine),
                 std::move(twice), "rename or destroy one of each: zfs rename, zfs destroy"};
}

/// Disks of the definition that the version does not have.
std::optional<Refusal> disks_gone(const View& view, const Kept& kept, const virt::Definition& definition) {
  std::vector<std::string> gone;
  for (const auto& disk : foreign_disks(view, as_it_was(view, kept), definition)) {
    gone.push_back(fmt::format("{}: {}", disk.target, disk.what));
  }
  if (gone.empty()) return std::nullopt;
  return Refusal{"disk-gone", fmt::format("'{}' does not have all disks of its definition any more", kept.name),
                 std::move(gone), "clone what is there instead: zfs clone"};
}

}  // namespace

Result plan_undo(const View& view, const UndoRequest& request, const RollbackFacts& facts, const Fresh& fresh) {
  const auto machine = find_machine(view, request.machine);
  if (!machine) return no_such_machine(view, request.machine);
  const auto named = named_kept(view, machine->name, request.kept);
  if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
  const auto& kept = std::get<Kept>(named);
  if (auto refusal = of_another(view, kept)) return *refusal;
  if (auto refusal = not_to_be_swapped(view, *machine, request.stop, facts)) return *refusal;
  if (auto refusal = foreign_in(view, kept)) return *refusal;
  if (auto refusal = kept_in_use(view, kept, facts.kept_holders)) return *refusal;
  if (auto refusal = container_held(kept, facts.snapshots)) return *refusal;
  if (auto refusal = hangs_on_another(view, kept)) return *refusal;
  if (auto refusal = key_missing(kept.datasets())) return *refusal;

  const bool only_disks = !kept.state;
  std::vector<zfs::Dataset> leaving;
  for (const auto& dataset : machine->datasets()) {
    if (!only_disks || dataset.kind == zfs::Kind::volume) leaving.push_back(dataset);
  }
  for (const auto& swapped : {leaving, kept.datasets()}) {
    if (auto refusal = key_not_common(view, swapped)) return *refusal;
  }
  if (auto refusal = place_taken(view, kept, leaving)) return *refusal;
  if (auto refusal = named_twice(kept, leaving, facts)) return *refusal;
  if (!only_disks && facts.past_definition.empty()) {
    return Refusal{"not-whole",
                   fmt::format("'{}' holds no definition", kept.name),
                   {},
                   fmt::format("look into it: mount -t zfs -o ro,zfsutil {} /mnt", kept.state->name)};
  }
  const auto& coming = only_disks ? facts.definitions.current : facts.past_definition;
  const auto definition = coming_definition(*machine, coming, fresh);
  if (auto refusal = disks_gone(view, kept, definition)) return *refusal;
  if (auto refusal = cannot_start(*machine, definition, facts, false)) return *refusal;

  Plan plan{"undo", fresh.op, {machine->name}, {}, 0, {}};
  const auto place = aside(view, machine->name, leaving, fresh.now);
  PromoteDatasets promote;
  std::set<std::string> moved;
  std::vector<Step> renames;
  for (const auto& part : kept.datasets()) {
    const auto home = home_of(view, kept, part);
    if (!kept.tpm || part.name != kept.tpm->name) renames.emplace_back(RenameDataset{part.name, home, part.guid});
    const auto* present = find_dataset(view, zfs::dataset_of(part.origin));
    if (present == nullptr || !is_one_of(leaving, present->name)) continue;
    promote.promotions.push_back(
        {part.name, place.place_of(view.root, machine->name, present->name), present->guid, present->name});
    for (const auto& snapshot : moving(part, present->name, facts)) moved.insert(snapshot.name);
  }
  if (auto refusal = sent_meanwhile(*machine, moved, facts)) return *refusal;

  add_stop(plan, *machine, request.timeout);
  if (auto save = save_definition(*machine, facts.definitions)) plan.steps.push_back(*save);
  add_aside(plan, view, machine->name, place, kRolledBack, fresh.now + request.keep_for, fresh.op);
  if (!promote.promotions.empty()) plan.steps.emplace_back(std::move(promote));
  plan.steps.insert(plan.steps.end(), renames.begin(), renames.end());
  // Not before it is at home: a host that starts in between would mount it over the present's.
  if (kept.tpm) {
    const auto home = home_of(view, kept, *kept.tpm);
    plan.steps.emplace_back(
        SetProperties{home, {{"canmount", ""}}, {{"canmount", "noauto"}}, kept.tpm->guid, kept.tpm->name});
  }
  add_arrival(plan, view, *machine, {definition, coming, only_disks}, facts.definitions.current);
  plan.steps.emplace_back(DestroyDatasets{{{kept.container.name, kept.container.guid, ""}}});
  return plan;
}

}  // namespace kld::plan
