// SPDX-License-Identifier: Apache-2.0
#include "plan/recovery.h"

#include <algorithm>
#include <map>
#include <set>

#include "virt/definition.h"

namespace kld::plan {
namespace {

template <typename... Kinds>
bool is_any(const Step& step) {
  return (std::holds_alternative<Kinds>(step) || ...);
}

/// It does no harm to run it again although later steps, and the machine's users, have gone on.
bool may_be_repeated(const Step& step) {
  return is_any<MountFilesystems, WriteFiles, WriteSeeds, DefineDomains, AwaitDevices, SaveDefinition, StartDomain>(
      step);
}

/// Changes all or nothing: when it fails at the commit point, nothing is lost yet.
bool is_all_or_nothing(const Step& step) { return is_any<DestroySnapshots, TakeSnapshots, RedefineDomain>(step); }

/// Gives a machine nothing yet that somebody could use.
bool is_preparing(const Step& step) { return is_any<MountFilesystems, CopyFiles, WriteFiles, WriteSeeds>(step); }

/// A power cut takes it unless a later step brought it to disk.
bool is_volatile(const Step& step) {
  const auto* files = std::get_if<WriteFiles>(&step);
  return (files != nullptr && !files->synced) || is_any<WriteSeeds, MountFilesystems>(step);
}

/// It reads the machine, or takes from it, or removes what is set aside; running or not makes no difference to it.
bool leaves_alone(const Step& step) {
  if (const auto* destroy = std::get_if<DestroyDatasets>(&step)) {
    return std::all_of(destroy->datasets.begin(), destroy->datasets.end(),
                       [](const Doomed& doomed) { return doomed.name.find("/.kept/") != std::string::npos; });
  }
  if (const auto* set = std::get_if<SetProperties>(&step)) {
    return std::all_of(set->properties.begin(), set->properties.end(),
                       [](const auto& property) { return property.first.starts_with("com.kldload:"); });
  }
  return is_any<TakeSnapshots, DestroySnapshots, WriteFiles, SaveDefinition>(step);
}

bool brings_to_disk(const Step& step) {
  const auto* define = std::get_if<DefineDomains>(&step);
  const auto* seeds = std::get_if<WriteSeeds>(&step);
  return (define != nullptr && !define->sync.empty()) || (seeds != nullptr && !seeds->sync.empty()) ||
         is_any<TakeSnapshots>(step);
}

}  // namespace

std::vector<bool> synced_notes(const Plan& plan) {
  std::vector<bool> synced;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const auto* before = i == 0 ? nullptr : &plan.steps[i - 1];
    // A host that starts anew must know that it should not start the machine: what turned that off goes to disk, too.
    const bool guards = before != nullptr && is_any<SetAutostart>(*before);
    synced.push_back(i == plan.commit || guards || (i > plan.commit && !may_be_repeated(*before)));
  }
  return synced;
}

std::size_t no_return(const Plan& plan) {
  std::size_t at = plan.commit;
  while (at < plan.steps.size() && !is_destructive(plan.steps[at])) ++at;
  return at;
}

bool is_undone_when_it_fails(const Plan& plan, std::size_t step) {
  return step < no_return(plan) || (step == plan.commit && is_all_or_nothing(plan.steps[step]));
}

std::size_t first_to_finish(const Plan& plan, const Progress& progress) {
  std::size_t first = *progress.begun;
  if (!progress.other_boot) return first;
  for (std::size_t i = first; i-- > plan.commit && !brings_to_disk(plan.steps[i]);) {
    if (is_volatile(plan.steps[i])) first = i;
  }
  return first;
}

AtStake at_stake(const Plan& plan, std::size_t from) {
  AtStake stake;
  for (std::size_t i = from; i < plan.steps.size(); ++i) {
    if (const auto* undefine = std::get_if<UndefineDomains>(&plan.steps[i])) {
      for (const auto& domain : undefine->domains) stake.undefined.push_back(domain.uuid);
    }
    if (const auto* destroy = std::get_if<DestroyDatasets>(&plan.steps[i])) {
      for (const auto& doomed : destroy->datasets) stake.datasets.push_back(doomed.name);
    }
  }
  return stake;
}

std::vector<std::string> made_by(const Plan& plan) {
  std::vector<std::string> names;
  for (const auto& step : plan.steps) {
    const auto* filesystem = std::get_if<CreateFilesystem>(&step);
    if (filesystem != nullptr && filesystem->properties.contains(zfs::property::machine))
      names.push_back(filesystem->name);
    if (const auto* volume = std::get_if<CreateVolume>(&step)) names.push_back(volume->name);
    if (const auto* copy = std::get_if<CopyDataset>(&step)) names.push_back(copy->name);
    const auto* clones = std::get_if<CloneDatasets>(&step);
    for (std::size_t i = 0; clones != nullptr && i < clones->clones.size(); ++i)
      names.push_back(clones->clones[i].name);
  }
  return names;
}

bool only_takes_from(const Plan& plan, const std::string& machine) {
  // The hourly run's, each of many machines: one that is in use for hours must not hold up all the others.
  if (plan.operation == "auto-snapshot" || plan.operation == "prune") return true;
  return plan.operation == "clone" && plan.machines.size() > 1 && plan.machines.front() == machine;
}

bool works_on(const Plan& plan, const std::string& machine) {
  if (std::find(plan.machines.begin(), plan.machines.end(), machine) == plan.machines.end()) return false;
  if (only_takes_from(plan, machine)) return false;
  // One that cannot be read has no steps.
  return plan.steps.empty() || !std::all_of(plan.steps.begin(), plan.steps.end(), leaves_alone);
}

std::vector<Started> started_by(const Plan& plan, std::size_t last, const std::set<std::size_t>& undone) {
  std::vector<Started> started;
  std::set<std::string> defined;
  for (std::size_t i = 0; i <= last && i < plan.steps.size(); ++i) {
    if (const auto* define = std::get_if<DefineDomains>(&plan.steps[i])) {
      for (const auto& domain : define->domains) defined.insert(domain.uuid);
    }
    if (const auto* start = std::get_if<StartDomain>(&plan.steps[i]); start != nullptr && !undone.contains(i)) {
      started.push_back({start->domain, defined.contains(start->domain.uuid)});
    }
  }
  return started;
}

bool is_done(const RedefineDomain& step, const std::string& present) {
  const auto sources = [](const virt::Definition& definition) {
    std::map<std::string, std::string> by_target;
    for (const auto& disk : definition.disks()) by_target[disk.target] = disk.source;
    return by_target;
  };
  const auto now = virt::Definition::parse(present);
  const auto wanted = virt::Definition::parse(step.now.xml);
  // Another version of the machine in the same places is known by its generation id, or by having none.
  const bool is_marked = wanted.genid() != virt::Definition::parse(step.before.xml).genid();
  if (is_marked && now.genid() != wanted.genid()) return false;
  const auto there = sources(now);
  const auto all = sources(wanted);
  return now.nvram() == wanted.nvram() && std::includes(there.begin(), there.end(), all.begin(), all.end());
}

std::optional<std::size_t> last_to_undo(const Plan& plan, const Progress& progress) {
  if (!progress.other_boot || plan.commit == 0) return progress.begun;
  if (plan.steps.empty()) return std::nullopt;
  // Notes before the commit point are not synced one by one, so each of those steps may have run; every inverse
  // tolerates that its step did not.
  return std::max(progress.begun.value_or(0), std::min(plan.commit, plan.steps.size()) - 1);
}

bool can_go_back(const Plan& plan, std::size_t failed, const Progress& progress) {
  if (failed == plan.commit && is_all_or_nothing(plan.steps[failed])) return true;
  const auto first = plan.steps.begin() + static_cast<std::ptrdiff_t>(plan.commit);
  const auto last = plan.steps.begin() + static_cast<std::ptrdiff_t>(std::max(failed, *progress.begun));
  return !progress.other_boot && std::all_of(first, last + 1, is_preparing);
}

bool takes_all_back(const Plan& plan, std::size_t failed, const Progress& progress) {
  const auto* start = std::get_if<StartDomain>(&plan.steps[failed]);
  if (start == nullptr || progress.other_boot || !is_undone_when_it_fails(plan, failed)) return false;
  // One that had begun may have come about, and the machine may have been used since.
  if (!progress.begun || *progress.begun >= failed) return false;
  return std::any_of(plan.steps.begin(), plan.steps.begin() + static_cast<std::ptrdiff_t>(failed),
                     [&](const Step& step) {
                       const auto* stop = std::get_if<StopDomain>(&step);
                       return stop != nullptr && stop->domain == start->domain;
                     });
}

bool is_optional(const Step& step) { return is_any<StartDomain, AwaitDevices, SaveDefinition>(step); }

bool is_whole_without(const Plan& plan, std::size_t step) {
  const auto rest = plan.steps.begin() + static_cast<std::ptrdiff_t>(step);
  return step >= plan.commit && std::all_of(rest, plan.steps.end(), is_optional);
}

bool is_left_to_the_host(const std::vector<Step>& steps, const Step& step) {
  const auto* start = std::get_if<StartDomain>(&step);
  if (start == nullptr) return is_any<UnmountFilesystems>(step);
  // Its autostart was off while the host started.
  return std::none_of(steps.begin(), steps.end(), [&](const Step& other) {
    const auto* autostart = std::get_if<SetAutostart>(&other);
    return autostart != nullptr && !autostart->autostart && autostart->domain == start->domain;
  });
}

}  // namespace kld::plan
