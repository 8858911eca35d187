// SPDX-License-Identifier: Apache-2.0
#include "plan/ghost.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/size.h"
#include "plan/delete_refusals.h"
#include "plan/drop.h"
#include "plan/kept.h"
#include "plan/layout.h"
#include "plan/limits.h"

namespace kld::plan {
namespace {

/// Why this machine could not come back as it is, or not be moved.
std::optional<Refusal> not_to_be_set_aside(const Machine& machine, const GhostFacts& more) {
  if (machine.domain && !machine.state) {
    return Refusal{"not-whole",
                   fmt::format("machine '{}' has no state filesystem, so nothing could bring it back", machine.name),
                   {},
                   fmt::format("take it in whole with 'kvm-adopt {}', or delete it for good", machine.name)};
  }
  if (machine.domain) {
    if (auto refusal = state_unmounted(machine)) return refusal;
  }
  if (const auto sends = more.sends.find(machine.name); sends != more.sends.end() && !sends->second.empty()) {
    // It would fail at its next snapshot, which has another name by then.
    return Refusal{"sending", fmt::format("snapshots of machine '{}' are being sent", machine.name), sends->second,
                   "wait until that is done, or end it"};
  }
  return std::nullopt;
}

/// Who was cloned from the machine and is none of those that go aside with it.
std::vector<std::string> clones_of(const View& view, const Machine& machine, const DeleteRequest& request,
                                   const DeleteFacts& facts) {
  std::vector<std::string> clones;
  for (const auto& dataset : facts.origins) {
    const auto origin = zfs::dataset_of(dataset.origin);
    const bool hangs = std::any_of(machine.disks.begin(), machine.disks.end(),
                                   [&](const MachineDisk& disk) { return disk.volume.name == origin; });
    if (!hangs) continue;
    const auto owner = owner_of(view, dataset.name);
    const auto& name = owner.empty() ? dataset.name : owner;
    const bool goes = std::find(request.machines.begin(), request.machines.end(), owner) != request.machines.end();
    if (!goes && std::find(clones.begin(), clones.end(), name) == clones.end()) clones.push_back(name);
  }
  return clones;
}

void add_stops(Plan& plan, const std::vector<Machine>& machines, const GhostFacts& more) {
  AwaitUnused unused;
  for (const auto& machine : machines) {
    if (const auto known = more.definitions.find(machine.name); known != more.definitions.end()) {
      if (auto save = save_definition(machine, known->second)) {
        // No snapshot follows that would bring it to disk.
        std::get<WriteFiles>(*save).synced = true;
        plan.steps.push_back(std::move(*save));
      }
    }
    for (const auto& disk : machine.disks) unused.volumes.push_back(disk.volume.name);
    if (!machine.domain) continue;
    const DomainName domain{machine.name, machine.domain->uuid};
    if (machine.domain->autostart) plan.steps.emplace_back(SetAutostart{domain, false});
    if (machine.active()) plan.steps.emplace_back(StopDomain{domain, 0});
  }
  if (!unused.volumes.empty()) plan.steps.emplace_back(std::move(unused));
}

}  // namespace

UnixTime expires_at(const DeleteRequest& request, UnixTime now) { return now + request.keep_for; }

std::vector<std::string> describe_ghosts(const View& view, const DeleteRequest& request, const DeleteFacts& facts,
                                         UnixTime now) {
  std::vector<std::string> lines;
  for (const auto& name : request.machines) {
    const auto machine = find_machine(view, name);
    if (!machine) continue;
    lines.push_back(fmt::format("machine '{}' ({})", name,
                                machine->domain ? virt::to_string(machine->domain->state) : "no domain"));
    for (const auto& dataset : machine->datasets()) {
      lines.push_back(fmt::format("  {} ({})", dataset.name, format_size(dataset.used)));
    }
    if (machine->domain && machine->domain->has_managed_save)
      lines.emplace_back("  but not its managed save image, which goes for good");
    const auto clones = clones_of(view, *machine, request, facts);
    const auto until = request.keep_for > 0 ? "until " + format_utc(expires_at(request, now)) : std::string();
    if (!clones.empty()) {
      lines.push_back(fmt::format("  kept {}{}until its clones are gone: {}", until, until.empty() ? "" : ", and ",
                                  fmt::join(clones, ", ")));
    } else {
      lines.push_back(until.empty() ? "  kept until the timer runs next: nothing was cloned from it"
                                    : "  kept " + until);
    }
    for (const auto& disk : foreign_disks_of(view, *machine, facts)) {
      lines.push_back(fmt::format("  but not {} ({}), which is none of its zvols", disk.what, disk.target));
    }
  }
  return lines;
}

Result plan_ghost(const View& view, const DeleteRequest& request, const DeleteFacts& facts, const GhostFacts& more,
                  const Fresh& fresh) {
  std::vector<Machine> machines;
  std::set<std::string> undefined;
  for (const auto& name : request.machines) {
    if (std::any_of(machines.begin(), machines.end(), [&](const auto& m) { return m.name == name; })) continue;
    auto machine = find_machine(view, name);
    if (!machine) return no_such_machine(view, name);
    if (auto refusal = not_at_rest(view, *machine, request, facts)) return *refusal;
    if (auto refusal = not_to_be_set_aside(*machine, more)) return *refusal;
    if (machine->domain) undefined.insert(machine->domain->uuid);
    machines.push_back(std::move(*machine));
  }
  for (const auto& machine : machines) {
    if (auto refusal = needed_state(view, machine, undefined, facts)) return *refusal;
  }
  if (auto refusal = layout_problem(view)) return *refusal;
  if (auto refusal = pool_full(view)) return *refusal;

  Plan plan{"ghost", fresh.op, {}, {}, 0, {}};
  add_stops(plan, machines, more);
  View seen = view;
  UndefineDomains undefine;
  std::vector<Step> discards;
  for (const auto& machine : machines) {
    plan.machines.push_back(machine.name);
    const bool starts = machine.domain && machine.domain->autostart;
    add_aside(plan, seen, machine.name, aside(seen, machine.name, machine.datasets(), fresh.now), kGhost,
              expires_at(request, fresh.now), fresh.op,
              starts ? zfs::Properties{{zfs::property::autostart, "true"}} : zfs::Properties{});
    if (find_dataset(seen, view.root + "/.kept") == nullptr) {
      seen.datasets.emplace_back();
      seen.datasets.back().name = view.root + "/.kept";
    }
    if (!machine.domain && !machine.state) {
      plan.warnings.push_back(fmt::format(
          "machine '{}' has no definition: what is set aside comes back by 'zfs rename' alone", machine.name));
    }
    if (!machine.domain) continue;
    const DomainName domain{machine.name, machine.domain->uuid};
    if (machine.domain->has_managed_save) discards.emplace_back(DiscardSaved{domain});
    const auto xml = facts.definitions.find(machine.name);
    undefine.domains.push_back({machine.name, machine.domain->uuid, xml == facts.definitions.end() ? "" : xml->second});
  }
  // Last, so that an undo finds the domains as they were. What cannot come back goes behind all that can fail.
  plan.commit = plan.steps.size();
  plan.steps.insert(plan.steps.end(), discards.begin(), discards.end());
  if (!undefine.domains.empty()) plan.steps.emplace_back(std::move(undefine));
  return plan;
}

}  // namespace kld::plan
