// SPDX-License-Identifier: Apache-2.0
#include "plan/auto_snapshot.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/limits.h"
#include "plan/whole.h"

namespace kld::plan {
namespace {

/// What the machine's datasets say by this property; all of them inherit alike, the first disk may say otherwise.
std::string property_of(const Machine& machine, const char* name) {
  const auto datasets = machine.datasets();
  return datasets.empty() ? std::string() : datasets.front().property(name);
}

bool says(const Machine& machine, const char* name) {
  const auto datasets = machine.datasets();
  return !datasets.empty() && datasets.front().user.contains(name);
}

AutoMachine as_asked(const Machine& machine, const AutoRequest& request) {
  AutoMachine one{machine, {}, request.rule, "", "", false};
  const bool own_rule = says(machine, zfs::property::keep);
  if (own_rule) one.rule_text = property_of(machine, zfs::property::keep);
  one.held_back = says(machine, zfs::property::held_back);
  if (property_of(machine, zfs::property::golden) == "true" && !request.golden_with_rule.contains(machine.name)) {
    one.out = "golden image";
    return one;
  }
  const auto parsed = parse_retention(one.rule_text);
  if (const auto* problem = std::get_if<std::string>(&parsed)) {
    one.problem = fmt::format("{} '{}' of '{}': {}", zfs::property::keep, one.rule_text, machine.name, *problem);
    if (!own_rule) one.problem = fmt::format("'keep' in the configuration, '{}': {}", one.rule_text, *problem);
    return one;
  }
  one.rule = std::get<RetentionRule>(parsed);
  if (one.rule.none) one.out = "keep=none";
  return one;
}

/// Why its snapshot would not be what it says; the same as for one that a person asks for. A block job is none here:
/// what it writes goes to other disks, and those that a machine runs from by then are looked at.
std::optional<Refusal> unfit(const View& view, const Machine& machine, const Definitions& definitions) {
  if (auto refusal = foreign_state(machine, {}, true)) return refusal;
  if (auto refusal = key_missing(machine.datasets())) return refusal;
  if (definitions.current.empty()) return std::nullopt;
  for (const auto* xml : {&definitions.current, &definitions.live}) {
    if (xml->empty()) continue;
    if (auto refusal = not_whole(view, machine, virt::Definition::parse(*xml))) return refusal;
  }
  return state_unmounted(machine);
}

AutoPart part_of(const Machine& machine, const AutoFacts& facts, UnixTime now) {
  AutoPart part{machine.name, {}, {}, {}, warn_of_holders(machine)};
  const auto taken = facts.taken.find(machine.name);
  part.snapshot =
      fresh_snapshot_name("auto", now, taken == facts.taken.end() ? std::vector<std::string>() : taken->second);
  for (const auto& dataset : machine.datasets()) part.names.push_back(dataset.name + "@" + part.snapshot);
  const auto definitions = facts.definitions.find(machine.name);
  if (definitions == facts.definitions.end()) return part;
  if (const auto save = save_definition(machine, definitions->second)) part.files = std::get<WriteFiles>(*save).files;
  return part;
}

}  // namespace

std::variant<std::vector<AutoMachine>, Refusal> auto_machines(const View& view, const AutoRequest& request) {
  const auto all = machines(view);
  for (const auto& name : request.only) {
    if (!all.contains(name)) return no_such_machine(view, name);
  }
  std::vector<AutoMachine> wanted;
  for (const auto& [name, machine] : all) {
    const bool asked =
        request.only.empty() || std::find(request.only.begin(), request.only.end(), name) != request.only.end();
    if (asked) wanted.push_back(as_asked(machine, request));
  }
  return wanted;
}

bool asks_for_freeze(const Machine& machine) {
  return machine.active() && property_of(machine, zfs::property::freeze) == "try";
}

AutoRun group_auto_snapshots(const View& view, const std::vector<AutoMachine>& machines, const AutoFacts& facts,
                             UnixTime now) {
  AutoRun run;
  std::vector<AutoGroup> together;
  for (const auto& one : machines) {
    if (!one.out.empty()) continue;
    const auto definitions = facts.definitions.find(one.machine.name);
    const auto refusal =
        unfit(view, one.machine, definitions == facts.definitions.end() ? Definitions() : definitions->second);
    if (refusal) {
      run.left_out.push_back({one.machine.name, *refusal});
      continue;
    }
    auto part = part_of(one.machine, facts, now);
    auto label = consistency(one.machine);
    if (asks_for_freeze(one.machine)) {
      const auto problem = facts.freeze_problems.find(one.machine.name);
      auto freeze = std::get<FreezePlan>(
          plan_freeze(one.machine, FreezeMode::attempt,
                      problem == facts.freeze_problems.end() ? std::nullopt : std::optional(problem->second)));
      part.warnings.insert(part.warnings.end(), freeze.warnings.begin(), freeze.warnings.end());
      if (!freeze.freezes.empty()) {
        run.groups.push_back({"application", {std::move(part)}, std::move(freeze.freezes)});
        continue;
      }
    }
    auto group = std::find_if(together.begin(), together.end(), [&](const auto& g) { return g.consistency == label; });
    if (group == together.end()) group = together.insert(together.end(), {std::move(label), {}});
    group->parts.push_back(std::move(part));
  }
  run.groups.insert(run.groups.end(), together.begin(), together.end());
  return run;
}

Plan plan_group(const AutoGroup& group, const std::string& op) {
  Plan plan{"auto-snapshot", op, {}, {}, 0, {}};
  WriteFiles definitions;
  TakeSnapshots take;
  take.freezes = group.freezes;
  take.properties = {
      {zfs::property::by, "auto"}, {zfs::property::consistency, group.consistency}, {zfs::property::op, op}};
  for (const auto& part : group.parts) {
    plan.machines.push_back(part.machine);
    take.names.insert(take.names.end(), part.names.begin(), part.names.end());
    definitions.files.insert(definitions.files.end(), part.files.begin(), part.files.end());
    plan.warnings.insert(plan.warnings.end(), part.warnings.begin(), part.warnings.end());
  }
  if (!definitions.files.empty()) plan.steps.emplace_back(std::move(definitions));
  // As for one that a person takes: once it is there, somebody may count on it.
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(std::move(take));
  return plan;
}

MachineSnapshot as_taken(const std::vector<std::string>& names, UnixTime now) {
  MachineSnapshot snapshot;
  snapshot.name = names.front().substr(names.front().find('@') + 1);
  snapshot.createtxg = UINT64_MAX;
  snapshot.creation = now;
  snapshot.by = "auto";
  for (const auto& name : names) {
    zfs::Snapshot part;
    part.name = name;
    part.user = {{zfs::property::by, "auto"}};
    snapshot.parts.push_back(std::move(part));
  }
  return snapshot;
}

std::map<std::string, std::string> blamed(const AutoGroup& group, const std::map<std::string, std::string>& errors,
                                          const std::string& whole, bool last) {
  std::map<std::string, std::string> machines;
  for (const auto& part : group.parts) {
    for (const auto& name : part.names) {
      auto error = errors.find(name);
      if (error == errors.end()) error = errors.find(zfs::dataset_of(name));
      if (error != errors.end()) machines.try_emplace(part.machine, fmt::format("'{}': {}", name, error->second));
    }
  }
  if (last || machines.empty()) {
    for (const auto& part : group.parts) machines.try_emplace(part.machine, whole);
  }
  return machines;
}

std::optional<AutoGroup> without(const AutoGroup& group, const std::map<std::string, std::string>& machines) {
  AutoGroup rest = group;
  std::erase_if(rest.parts, [&](const AutoPart& part) { return machines.contains(part.machine); });
  return rest.parts.empty() ? std::nullopt : std::optional(std::move(rest));
}

std::vector<AutoGroup> set_apart(AutoGroup& group) {
  std::vector<AutoGroup> apart;
  if (group.parts.size() < 2) return apart;
  std::erase_if(group.parts, [&](const AutoPart& part) {
    if (part.files.empty()) return false;
    apart.push_back({group.consistency, {part}, {}});
    return true;
  });
  return apart;
}

bool automatic_is_late(const std::vector<MachineSnapshot>& snapshots, UnixTime now) {
  constexpr UnixTime kLate = UnixTime{2} * 3600;
  const auto newest = std::find_if(snapshots.rbegin(), snapshots.rend(),
                                   [](const auto& one) { return one.by == "auto" && is_named(one.name, "auto"); });
  return newest != snapshots.rend() && now - newest->creation > kLate;
}

std::set<std::string> snapshotted_by_sanoid(const std::map<std::string, std::vector<MachineSnapshot>>& snapshots) {
  std::set<std::string> machines;
  for (const auto& [machine, all] : snapshots) {
    const bool any = std::any_of(all.begin(), all.end(),
                                 [](const MachineSnapshot& one) { return one.name.starts_with("autosnap_"); });
    if (any) machines.insert(machine);
  }
  return machines;
}

}  // namespace kld::plan
