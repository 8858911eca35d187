// SPDX-License-Identifier: Apache-2.0
#include "plan/drop.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/kept_refusals.h"

namespace kld::plan {

std::string owner_in_words(const View& view, const std::string& dataset) {
  if (const auto machine = owner_of(view, dataset); !machine.empty()) return fmt::format(", machine '{}',", machine);
  if (const auto kept = kept_with(view, dataset); !kept.empty()) return fmt::format(", set aside as '{}',", kept);
  return {};
}

std::vector<Doomed> doomed_with(const Kept& kept) {
  std::vector<Doomed> all;
  for (const auto& disk : kept.disks) all.push_back({disk.volume.name, disk.volume.guid, ""});
  if (kept.tpm) all.push_back({kept.tpm->name, kept.tpm->guid, ""});
  if (kept.state) all.push_back({kept.state->name, kept.state->guid, ""});
  all.push_back({kept.container.name, kept.container.guid, ""});
  return all;
}

Result plan_drop(const View& view, const DropRequest& request, const DropFacts& facts, const Fresh& fresh) {
  const bool is_known = find_machine(view, request.machine) || !all_kept_of(view, request.machine).empty();
  if (!is_known) return no_such_machine(view, request.machine);
  const auto named = named_kept(view, request.machine, request.kept);
  if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
  const auto& kept = std::get<Kept>(named);
  const auto doomed = doomed_with(kept);
  const auto goes = [&](const std::string& name) {
    return std::any_of(doomed.begin(), doomed.end(), [&](const Doomed& one) { return one.name == name; });
  };
  if (auto refusal = foreign_in(view, kept)) return *refusal;
  if (auto refusal = kept_in_use(view, kept, facts.holders)) return *refusal;
  // Who came to them behind it would take them for the next machine's of this name.
  if (const auto older = kept.is_ghost() ? kept_before(view, kept) : std::vector<Kept>(); !older.empty()) {
    std::vector<std::string> names;
    for (const auto& one : older) names.push_back(one.name);
    return Refusal{"kept-earlier", fmt::format("older versions of '{}' are set aside", kept.name), std::move(names),
                   fmt::format("drop those first: kvm-snap {} drop {}", kept.machine, older.front().name)};
  }
  std::vector<std::string> clones;
  for (const auto& dataset : facts.origins) {
    if (dataset.origin.empty() || !goes(zfs::dataset_of(dataset.origin)) || goes(dataset.name)) continue;
    clones.push_back(fmt::format("{}{} (from {})", dataset.name, owner_in_words(view, dataset.name), dataset.origin));
  }
  if (!clones.empty()) {
    return Refusal{"dependent-clones", fmt::format("'{}' has clones", kept.name), std::move(clones),
                   "delete or drop those first"};
  }
  DestroySnapshots snapshots;
  for (const auto& snapshot : facts.snapshots) {
    if (!goes(snapshot.dataset())) continue;
    if (snapshot.holds > 0) {
      return Refusal{"held",
                     fmt::format("snapshot '{}' is held", snapshot.name),
                     {},
                     fmt::format("see by what with 'zfs holds {}', and end that first", snapshot.name)};
    }
    snapshots.snapshots.push_back({snapshot.name, snapshot.guid});
  }
  Plan plan{"drop", fresh.op, {kept.machine}, {}, 0, {}};
  if (!snapshots.snapshots.empty()) plan.steps.emplace_back(std::move(snapshots));
  plan.steps.emplace_back(DestroyDatasets{doomed});
  return plan;
}

}  // namespace kld::plan
