// SPDX-License-Identifier: Apache-2.0
#include "plan/rollback.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "plan/layout.h"
#include "plan/limits.h"
#include "plan/rollback_classic.h"
#include "plan/rollback_refusals.h"
#include "plan/swap.h"

namespace kld::plan {
namespace {

/// All that is set on the present's dataset, for its past version.
struct Given {
  zfs::Properties when_made;
  zfs::Properties later;  ///< what no call that makes a dataset takes
};

Given properties_of(const zfs::Dataset& present, const RollbackFacts& facts, const std::string& op) {
  Given given;
  const auto own = facts.properties.find(present.name);
  if (own != facts.properties.end()) {
    for (const auto& [name, value] : own->second) {
      if (zfs::is_fixed(name)) continue;
      (zfs::is_given_when_made(name) ? given.when_made : given.later)[name] = value;
    }
  }
  given.when_made[zfs::property::op] = op;
  return given;
}

/// The part of the machine that comes from the snapshot.
struct Past {
  std::vector<zfs::Dataset> parts;  ///< the present's datasets that have the snapshot: disks, state, TPM
  bool has(const std::string& dataset) const {
    return std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return part.name == dataset; });
  }
};

/// Clones of the snapshot where the present was, with all that is set on the present.
void add_clones(Plan& plan, const View& view, const Machine& machine, const Past& past, const Aside& aside,
                const std::string& snapshot, const RollbackFacts& facts, const std::string& op) {
  CloneDatasets clones;
  CloneDatasets children;
  PromoteDatasets promote;
  std::vector<Step> properties;
  for (const auto& part : past.parts) {
    const auto present = aside.place_of(view.root, machine.name, part.name);
    auto given = properties_of(part, facts, op);
    const bool is_child = machine.tpm && part.name == machine.tpm->name;
    (is_child ? children : clones).clones.push_back({present + "@" + snapshot, part.name, std::move(given.when_made)});
    promote.promotions.push_back({part.name, present, part.guid, part.name});
    // Taken back with the clone itself. Where its name is the present's again, those must stay what they are.
    if (!given.later.empty()) properties.emplace_back(SetProperties{part.name, given.later, {}});
  }
  plan.steps.emplace_back(std::move(clones));
  if (!children.clones.empty()) plan.steps.emplace_back(std::move(children));
  plan.steps.insert(plan.steps.end(), properties.begin(), properties.end());
  plan.steps.emplace_back(std::move(promote));
}

/// Bytes that must be there: what the past's datasets reserve as the present's do, and what the safety snapshot takes
/// from the present's own reservation, which ZFS fills up again.
std::uint64_t reserved_by(const std::vector<zfs::Dataset>& leaving, const std::vector<zfs::Dataset>& past,
                          const RollbackFacts& facts) {
  std::uint64_t bytes = 0;
  for (const auto& part : leaving) bytes += std::min(part.written, part.refreservation);
  for (const auto& part : past) {
    bytes += part.refreservation;
    const auto own = facts.properties.find(part.name);
    if (own == facts.properties.end()) continue;
    if (const auto found = own->second.find("reservation"); found != own->second.end()) {
      std::uint64_t reservation = 0;
      std::from_chars(found->second.data(), found->second.data() + found->second.size(), reservation);
      bytes += reservation;
    }
  }
  return bytes;
}

/// The snapshots that a promotion at this one moves: it and all older ones of its datasets.
std::set<std::string> older_or_equal(const MachineSnapshot& snapshot, const std::vector<zfs::Snapshot>& all) {
  std::set<std::string> moving;
  for (const auto& part : snapshot.parts) {
    for (const auto& other : all) {
      if (other.dataset() == part.dataset() && other.createtxg <= part.createtxg) moving.insert(other.name);
    }
  }
  return moving;
}

std::variant<const MachineSnapshot*, Refusal> wanted_snapshot(const Machine& machine, const RollbackRequest& request,
                                                              const std::vector<MachineSnapshot>& all) {
  if (request.snapshot) return named_snapshot(machine, *request.snapshot, all);
  const auto newest = std::find_if(all.rbegin(), all.rend(), [](const auto& one) { return one.missing.empty(); });
  if (newest != all.rend()) return &*newest;
  // A disk may have been added since: what has the definition is as whole as it can be.
  const auto defined = std::find_if(all.rbegin(), all.rend(), [&](const auto& one) {
    return machine.state && std::find(one.missing.begin(), one.missing.end(), machine.state->name) == one.missing.end();
  });
  if (defined != all.rend()) return &*defined;
  return Refusal{"no-snapshot",
                 fmt::format("machine '{}' has no snapshot of all its parts", machine.name),
                 {},
                 fmt::format("see 'kvm-snap {} list'", machine.name)};
}

}  // namespace

const MachineSnapshot* snapshot_to_go_back_to(const Machine& machine, const RollbackRequest& request,
                                              const std::vector<MachineSnapshot>& all) {
  const auto wanted = wanted_snapshot(machine, request, all);
  const auto* found = std::get_if<const MachineSnapshot*>(&wanted);
  return found == nullptr ? nullptr : *found;
}

Result plan_rollback(const View& view, const RollbackRequest& request, const RollbackFacts& facts, const Fresh& fresh) {
  const auto machine = find_machine(view, request.machine);
  if (!machine) return no_such_machine(view, request.machine);
  if (auto refusal = not_to_be_swapped(view, *machine, request.stop, facts)) return *refusal;

  const auto all = machine_snapshots(*machine, facts.snapshots);
  const auto wanted = wanted_snapshot(*machine, request, all);
  if (const auto* refusal = std::get_if<Refusal>(&wanted)) return *refusal;
  const auto& snapshot = *std::get<const MachineSnapshot*>(wanted);
  if (auto refusal = not_in_snapshot(view, *machine, snapshot, request.only_disks, facts)) return *refusal;

  const auto& coming = request.only_disks ? facts.definitions.current : facts.past_definition;
  const auto definition = coming_definition(*machine, coming, fresh);
  if (auto refusal = cannot_start(*machine, definition, facts, !request.only_disks)) return *refusal;
  const Arrival arrival{definition, coming, request.only_disks};
  if (request.destroy_newer) return plan_classic_rollback(view, *machine, snapshot, arrival, request, facts, fresh);
  if (auto refusal = sent_meanwhile(*machine, older_or_equal(snapshot, facts.snapshots), facts)) return *refusal;

  Past past;
  std::vector<zfs::Dataset> leaving;
  for (const auto& dataset : machine->datasets()) {
    if (request.only_disks && dataset.kind != zfs::Kind::volume) continue;
    leaving.push_back(dataset);
    const bool there =
        std::find(snapshot.missing.begin(), snapshot.missing.end(), dataset.name) == snapshot.missing.end();
    if (there) past.parts.push_back(dataset);
  }
  if (auto refusal = key_not_common(view, leaving)) return *refusal;
  if (auto refusal = no_room(view, reserved_by(leaving, past.parts, facts))) return *refusal;

  Plan plan{"rollback", fresh.op, {machine->name}, {}, 0, {}};
  warn_of_moments(plan, snapshot);
  for (const auto& disk : machine->disks) {
    if (!past.has(disk.volume.name)) {
      plan.warnings.push_back(
          fmt::format("{} is not in '@{}': it goes aside with the present", disk.volume.name, snapshot.name));
    }
  }
  add_stop(plan, *machine, request.timeout);
  if (auto save = save_definition(*machine, facts.definitions)) plan.steps.push_back(*save);
  Machine at_rest = *machine;
  if (at_rest.domain) at_rest.domain->state = virt::State::shut_off;
  plan.steps.emplace_back(
      snapshot_all(at_rest, fresh_snapshot_name("safety", fresh.now, facts.taken), "safety", fresh.op));
  const auto place = aside(view, machine->name, leaving, fresh.now);
  add_aside(plan, view, machine->name, place, kRolledBack, fresh.now + request.keep_for, fresh.op);
  add_clones(plan, view, *machine, past, place, snapshot.name, facts, fresh.op);
  add_arrival(plan, view, *machine, arrival, facts.definitions.current);
  return plan;
}

}  // namespace kld::plan
