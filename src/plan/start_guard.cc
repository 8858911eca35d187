// SPDX-License-Identifier: Apache-2.0
#include "plan/start_guard.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/kept.h"
#include "plan/recovery.h"

namespace kld::plan {
namespace {

bool starts(const Step& step, const std::string& uuid) {
  const auto* start = std::get_if<StartDomain>(&step);
  return start != nullptr && start->domain.uuid == uuid;
}

/// The start is a step of the operation itself, on its way there or back.
bool is_own_start(const OpenOperation& operation, const std::string& uuid) {
  if (!operation.alive || !operation.begun || *operation.begun >= operation.plan.steps.size()) return false;
  if (starts(operation.plan.steps[*operation.begun], uuid)) return true;
  for (std::size_t i = *operation.begun + 1; i-- > 0;) {
    const auto back = inverse(operation.plan.steps[i]);
    if (back && !operation.undone.contains(i)) return starts(*back, uuid);
  }
  return false;
}

std::optional<Refusal> golden(const Machine& machine) {
  for (const auto& disk : machine.disks) {
    if (disk.volume.property(zfs::property::golden) != "true") continue;
    return Refusal{"golden",
                   fmt::format("machine '{}' is a golden image: what it writes would be in every clone", machine.name),
                   {fmt::format("{} has {}=true", disk.volume.name, zfs::property::golden)},
                   fmt::format("clone it: kvm-clone {} NAME --start", machine.name)};
  }
  return std::nullopt;
}

/// Not another domain that was given its disk, say to mend what does not boot: that one has a TPM of its own, or none.
bool is_itself(const Machine& machine, const StartFacts& facts) {
  const auto saved = facts.uuids.find(machine.name);
  return machine.name == facts.domain || (saved != facts.uuids.end() && saved->second == facts.uuid);
}

/// It would start with blank firmware variables or a blank TPM, or not at all.
std::optional<Refusal> unmounted(const Machine& machine, const StartFacts& facts) {
  const auto check = [&](const std::optional<zfs::Dataset>& part, const std::string& directory) {
    if (!part) return std::optional<Refusal>();
    const auto there = facts.mounts.find(directory);
    if (there != facts.mounts.end() && there->second == part->name) return std::optional<Refusal>();
    return std::optional(Refusal{"not-mounted",
                                 fmt::format("state of machine '{}' is not mounted", machine.name),
                                 {fmt::format("{} belongs at {}", part->name, directory)},
                                 there == facts.mounts.end()
                                     ? fmt::format("zfs mount {}", part->name)
                                     : fmt::format("{} lies there: unmount it first", there->second)});
  };
  if (auto refusal = check(machine.state, state_directory(machine.name))) return refusal;
  if (!is_itself(machine, facts)) return std::nullopt;
  return check(machine.tpm, tpm_directory(facts.uuid));
}

std::optional<Refusal> unfinished(const std::string& machine, const StartFacts& facts) {
  for (const auto& operation : facts.operations) {
    // Machines below another root may have the same names.
    if (!operation.plan.root.empty() && operation.plan.root != facts.view.root) continue;
    if (!works_on(operation.plan, machine) || is_own_start(operation, facts.uuid)) continue;
    if (operation.alive) {
      return Refusal{"locked",
                     fmt::format("machine '{}' is being changed by another command", machine),
                     {fmt::format("{} ({})", operation.plan.operation, operation.plan.op)},
                     "wait until that has ended"};
    }
    return Refusal{"unfinished",
                   fmt::format("an operation on machine '{}' was cut off", machine),
                   {fmt::format("{} ({})", operation.plan.operation, operation.plan.op)},
                   "undo or finish it: kld recover"};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Refusal> bar_start(const StartFacts& facts) {
  std::set<std::string> names;
  for (const auto& volume : facts.volumes) {
    if (const auto kept = kept_with(facts.view, volume); !kept.empty()) {
      return Refusal{"set-aside",
                     fmt::format("{} is set aside with {}", volume, kept),
                     {},
                     "bring that back: see 'kvm-snap MACHINE kept' and 'kvm-snap MACHINE undo'"};
    }
    if (const auto owner = owner_of(facts.view, volume); !owner.empty()) names.insert(owner);
  }
  for (const auto& name : names) {
    const auto machine = find_machine(facts.view, name);
    if (!machine) continue;
    if (auto refusal = golden(*machine)) return refusal;
    if (auto refusal = unfinished(name, facts)) return refusal;
    if (auto refusal = unmounted(*machine, facts)) return refusal;
  }
  return std::nullopt;
}

}  // namespace kld::plan
