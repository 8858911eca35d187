// SPDX-License-Identifier: Apache-2.0
#include "plan/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/name.h"
#include "plan/drop.h"
#include "plan/kept.h"
#include "plan/limits.h"
#include "plan/whole.h"

namespace kld::plan {

std::string consistency(const Machine& machine) {
  if (machine.active() || !machine.held.empty()) return "crash";
  return machine.domain && machine.domain->has_managed_save ? "saved" : "offline";
}

std::vector<std::string> warn_of_holders(const Machine& machine) {
  std::vector<std::string> warnings;
  for (const auto& holder : machine.held) {
    warnings.push_back(fmt::format("{}: what is not on the disk yet will be missing", holder));
  }
  return warnings;
}

std::string fresh_snapshot_name(const std::string& kind, UnixTime now, const std::vector<std::string>& taken) {
  const std::string base = (kind.empty() ? "" : kind + "-") + format_utc(now);
  std::string name = base;
  for (int repeat = 2; std::find(taken.begin(), taken.end(), name) != taken.end(); ++repeat) {
    name = fmt::format("{}.{}", base, repeat);
  }
  return name;
}

bool is_named(const std::string& short_name, const std::string& kind) {
  std::string rest = short_name;
  if (!kind.empty()) {
    if (!rest.starts_with(kind + "-")) return false;
    rest = rest.substr(kind.size() + 1);
  }
  const auto z = rest.find('Z');
  if (z == std::string::npos || !parse_utc(rest.substr(0, z + 1))) return false;
  const std::string suffix = rest.substr(z + 1);
  if (suffix.empty()) return true;
  return suffix.size() > 1 && suffix[0] == '.' && suffix[1] != '0' && suffix != ".1" &&
         suffix.find_first_not_of("0123456789", 1) == std::string::npos;
}

bool is_by_the_clock(const std::string& short_name) {
  constexpr std::array kForeign = {"autosnap_", "zfs-auto-snap_", "zrepl_", "syncoid_", "pyznap_"};
  return is_named(short_name, "auto") || std::any_of(kForeign.begin(), kForeign.end(), [&](const char* prefix) {
           return short_name.starts_with(prefix);
         });
}

std::optional<Step> save_definition(const Machine& machine, const Definitions& definitions) {
  if (!machine.state || definitions.current.empty()) return std::nullopt;
  if (definitions.saved_exists && definitions.saved == definitions.current) return std::nullopt;
  return WriteFiles{
      {{definition_path(machine.name), definitions.current, definitions.saved_exists, definitions.saved}}};
}

TakeSnapshots snapshot_all(const Machine& machine, const std::string& short_name, const std::string& by,
                           const std::string& op, std::vector<Freeze> freezes) {
  TakeSnapshots step;
  for (const auto& dataset : machine.datasets()) step.names.push_back(dataset.name + "@" + short_name);
  step.properties = {{zfs::property::by, by},
                     {zfs::property::consistency, freezes.empty() ? consistency(machine) : "application"},
                     {zfs::property::op, op}};
  step.freezes = std::move(freezes);
  return step;
}

Result plan_snapshot(const View& view, const SnapshotRequest& request, const Definitions& definitions,
                     const std::vector<std::string>& taken, const std::vector<std::string>& block_jobs,
                     const Fresh& fresh, const std::optional<std::string>& freeze_problem) {
  const auto machine = find_machine(view, request.machine);
  if (!machine) return no_such_machine(view, request.machine);
  if (auto refusal = foreign_state(*machine, block_jobs, true)) return *refusal;
  if (!definitions.current.empty()) {
    if (auto refusal = not_whole(view, *machine, virt::Definition::parse(definitions.current))) return *refusal;
    if (!definitions.live.empty()) {
      if (auto refusal = not_whole(view, *machine, virt::Definition::parse(definitions.live))) return *refusal;
    }
    if (auto refusal = state_unmounted(*machine)) return *refusal;
  }
  if (auto refusal = pool_full(view)) return *refusal;
  std::string name = request.name;
  if (name.empty()) {
    name = fresh_snapshot_name("", fresh.now, taken);
  } else if (std::find(taken.begin(), taken.end(), name) != taken.end()) {
    return Refusal{"snapshot-exists",
                   fmt::format("machine '{}' has a snapshot '@{}' already", machine->name, name),
                   {},
                   fmt::format("see 'kvm-snap {} list'", machine->name)};
  }
  const auto frozen = plan_freeze(*machine, request.freeze, freeze_problem);
  if (const auto* refusal = std::get_if<Refusal>(&frozen)) return *refusal;
  const auto& freeze = std::get<FreezePlan>(frozen);
  Plan plan{"snapshot", fresh.op, {machine->name}, {}, 0, warn_of_holders(*machine)};
  plan.warnings.insert(plan.warnings.end(), freeze.warnings.begin(), freeze.warnings.end());
  if (auto save = save_definition(*machine, definitions)) plan.steps.push_back(*save);
  // Once it is there, somebody may count on it: what dies behind it is finished.
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(snapshot_all(*machine, name, "hand", fresh.op, freeze.freezes));
  return plan;
}

std::vector<MachineSnapshot> machine_snapshots(const Machine& machine, const std::vector<zfs::Snapshot>& snapshots) {
  std::vector<MachineSnapshot> result;
  const auto datasets = machine.datasets();
  for (const auto& part : snapshots) {
    const bool own =
        std::any_of(datasets.begin(), datasets.end(), [&](const auto& d) { return d.name == part.dataset(); });
    if (!own) continue;
    auto whole = std::find_if(result.begin(), result.end(), [&](const auto& s) { return s.name == part.short_name(); });
    if (whole == result.end()) {
      result.emplace_back();
      whole = std::prev(result.end());
      whole->name = part.short_name();
      whole->creation = part.creation;
      whole->consistency = part.property(zfs::property::consistency);
      whole->by = part.property(zfs::property::by);
    }
    whole->one_moment = whole->one_moment && (whole->parts.empty() || whole->createtxg == part.createtxg);
    whole->createtxg = std::max(whole->createtxg, part.createtxg);
    whole->used += part.used;
    whole->written += part.written;
    whole->holds += part.holds;
    whole->parts.push_back(part);
  }
  for (auto& whole : result) {
    // In the machine's own order: disks before state.
    for (const auto& dataset : datasets) {
      for (const auto& part : whole.parts) {
        if (part.dataset() != dataset.name) continue;
        whole.clones.insert(whole.clones.end(), part.clones.begin(), part.clones.end());
      }
    }
    for (const auto& dataset : datasets) {
      const bool has = std::any_of(whole.parts.begin(), whole.parts.end(),
                                   [&](const auto& part) { return part.dataset() == dataset.name; });
      if (!has) whole.missing.push_back(dataset.name);
    }
  }
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return a.createtxg < b.createtxg; });
  return result;
}

std::vector<std::string> owners_of_clones(const View& view, const std::vector<std::string>& clones) {
  std::vector<std::string> owners;
  for (const auto& clone : clones) {
    const std::string machine = owner_of(view, clone);
    const std::string& owner = machine.empty() ? clone : machine;
    if (std::find(owners.begin(), owners.end(), owner) == owners.end()) owners.push_back(owner);
  }
  return owners;
}

const MachineSnapshot* newest_for_clones(const std::vector<MachineSnapshot>& all) {
  const auto newest = std::find_if(all.rbegin(), all.rend(), [](const MachineSnapshot& snapshot) {
    return snapshot.by == "clone" && is_named(snapshot.name, "clone");
  });
  return newest == all.rend() ? nullptr : &*newest;
}

std::variant<std::string, Refusal> snapshot_argument(const Machine& machine, const std::string& given) {
  const auto at = given.find('@');
  const std::string before = at == std::string::npos ? "" : given.substr(0, at);
  const std::string name = at == std::string::npos ? given : given.substr(at + 1);
  if (const auto problem = snapshot_name_problem(name)) {
    return Refusal{"bad-name",
                   fmt::format("snapshot name '{}' {}", name, *problem),
                   {},
                   fmt::format("see 'kvm-snap {} list'", machine.name)};
  }
  if (before.empty() || before == machine.name) return name;
  const auto datasets = machine.datasets();
  const bool own = std::any_of(datasets.begin(), datasets.end(), [&](const auto& d) { return d.name == before; });
  if (own) return name;
  return Refusal{"other-machine",
                 fmt::format("'{}' is not a snapshot of machine '{}'", given, machine.name),
                 {},
                 fmt::format("its own are named by 'kvm-snap {} list'", machine.name)};
}

std::variant<const MachineSnapshot*, Refusal> named_snapshot(const Machine& machine, const std::string& given,
                                                             const std::vector<MachineSnapshot>& all) {
  const auto argument = snapshot_argument(machine, given);
  if (const auto* refusal = std::get_if<Refusal>(&argument)) return *refusal;
  const auto& name = std::get<std::string>(argument);
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.name == name; });
  if (found != all.end()) return &*found;
  std::vector<std::string> names;
  for (const auto& snapshot : all) names.push_back(snapshot.name);
  const auto near = nearest(name, names);
  return Refusal{
      "no-such-snapshot",
      fmt::format("machine '{}' has no snapshot '@{}'", machine.name, name),
      {},
      near.empty() ? fmt::format("see 'kvm-snap {} list'", machine.name) : fmt::format("did you mean '@{}'?", near)};
}

namespace {

/// `aside`: a version that is set aside and hangs on the snapshot; `others`: something else does.
std::string clones_hint(const std::string& aside, bool others) {
  const std::string machines = "delete those machines first, or make one independent with 'zfs promote'";
  if (aside.empty()) return machines;
  const auto drop = fmt::format("kvm-snap {} drop {}", machine_of_kept(aside), aside);
  return others ? fmt::format("{}; what is set aside goes with '{}'", machines, drop)
                : fmt::format("remove what is set aside first: {}", drop);
}

}  // namespace

Result plan_snapshot_delete(const View& view, const std::string& machine_name, const std::string& given,
                            const std::vector<zfs::Snapshot>& snapshots, const Fresh& fresh) {
  const auto machine = find_machine(view, machine_name);
  if (!machine) return no_such_machine(view, machine_name);
  const auto all = machine_snapshots(*machine, snapshots);
  const auto named = named_snapshot(*machine, given, all);
  if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
  const auto* whole = std::get<const MachineSnapshot*>(named);
  const auto& name = whole->name;
  if (!whole->clones.empty()) {
    std::vector<std::string> evidence;
    std::string aside;
    bool others = false;
    for (const auto& clone : whole->clones) {
      evidence.push_back(fmt::format("{}{} was cloned from it", clone, owner_in_words(view, clone)));
      const auto kept = kept_with(view, clone);
      if (!kept.empty() && aside.empty()) aside = kept;
      others = others || kept.empty();
    }
    return Refusal{"dependent-clones", fmt::format("snapshot '{}@{}' has clones", machine->name, name), evidence,
                   clones_hint(aside, others)};
  }
  if (whole->holds > 0) {
    return Refusal{"held",
                   fmt::format("snapshot '{}@{}' is held", machine->name, name),
                   {},
                   fmt::format("see by what: zfs holds {}", whole->parts.front().name)};
  }
  Plan plan{"snapshot-delete", fresh.op, {machine->name}, {}, 0, {}};
  DestroySnapshots destroy;
  for (const auto& part : whole->parts) destroy.snapshots.push_back({part.name, part.guid});
  plan.steps.emplace_back(destroy);
  return plan;
}

}  // namespace kld::plan
