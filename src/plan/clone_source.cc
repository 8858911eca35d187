// SPDX-License-Identifier: Apache-2.0
#include "plan/clone_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "plan/whole.h"

namespace kld::plan {
namespace {

bool contains(const std::vector<std::string>& list, const std::string& entry) {
  return std::find(list.begin(), list.end(), entry) != list.end();
}

}  // namespace

const MachineSnapshot* reuse_candidate(const Machine& machine, const CloneFacts& facts,
                                       const std::vector<MachineSnapshot>& all) {
  if (machine.active() || consistency(machine) != "offline") return nullptr;
  if (!facts.definitions.saved_exists || facts.definitions.saved != facts.definitions.current) return nullptr;
  const auto* newest = newest_for_clones(all);
  if (newest == nullptr || !newest->missing.empty() || newest->consistency != "offline") return nullptr;
  return contains(facts.going, newest->name) ? nullptr : newest;
}

const MachineSnapshot* reusable_snapshot(const Machine& machine, const CloneFacts& facts,
                                         const std::vector<MachineSnapshot>& all) {
  return facts.written == 0U ? reuse_candidate(machine, facts, all) : nullptr;
}

std::variant<CloneSource, Refusal> source_from_snapshot(const Machine& machine, const CloneRequest& request,
                                                        const CloneFacts& facts,
                                                        const std::vector<MachineSnapshot>& all, Plan& plan) {
  const auto named = named_snapshot(machine, *request.snapshot, all);
  if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
  const auto* whole = std::get<const MachineSnapshot*>(named);
  const auto& name = whole->name;
  if (contains(facts.going, name)) {
    return Refusal{"locked",
                   fmt::format("another command is destroying snapshot '{}@{}'", machine.name, name),
                   {},
                   fmt::format("see 'kvm-snap {} list'", machine.name)};
  }
  const auto has = [&](const std::string& dataset) { return !contains(whole->missing, dataset); };
  const bool own_definition = !facts.snapshot_definition.empty();
  CloneSource source{machine,
                     name,
                     false,
                     {},
                     machine.state && has(machine.state->name),
                     machine.tpm && has(machine.tpm->name),
                     virt::Definition::parse(own_definition ? facts.snapshot_definition : facts.definitions.current),
                     !own_definition};
  for (const auto& disk : machine.disks) {
    if (has(disk.volume.name)) source.disks.push_back(disk);
  }
  if (!whole->one_moment) {
    plan.warnings.push_back(
        fmt::format("the parts of '@{}' are not of one moment: its disks may contradict each other", name));
  }
  if (!own_definition) plan.warnings.push_back(fmt::format("'@{}' holds no definition: the present one is used", name));
  if (!source.has_state && source.definition.uefi()) {
    plan.warnings.push_back(fmt::format("'@{}' holds no firmware variables: the present ones are copied", name));
  }
  if (!source.has_tpm && source.definition.tpm() == virt::Tpm::emulator && !request.new_tpm) {
    plan.warnings.push_back(fmt::format("'@{}' holds no TPM state: the clones start with an empty TPM", name));
  }
  return source;
}

std::vector<std::string> foreign_parts(const View& view, const CloneSource& source, const CloneRequest& request,
                                       const std::string& live) {
  std::vector<std::string> evidence;
  Machine machine = source.machine;
  machine.disks = source.disks;
  for (const auto& disk : foreign_disks(view, machine, source.definition)) {
    if (contains(request.without, disk.target)) continue;
    evidence.push_back(
        fmt::format("{}: {} is not a zvol of this machine (--without {})", disk.target, disk.what, disk.target));
  }
  if (!live.empty() && !request.snapshot) {
    const auto known = foreign_disks(view, machine, source.definition);
    for (const auto& disk : foreign_disks(view, machine, virt::Definition::parse(live))) {
      const bool named = std::any_of(known.begin(), known.end(), [&](const auto& k) { return k.what == disk.what; });
      if (named || contains(request.without, disk.target)) continue;
      evidence.push_back(fmt::format("{}: {} is attached to the running machine alone", disk.target, disk.what));
    }
  }
  if (!contains(request.without, "hostdev")) {
    for (const auto& device : source.definition.host_devices()) {
      evidence.push_back(fmt::format("{} belongs to one machine at a time (--without hostdev)", device));
    }
  }
  // Of a snapshot that lacks them it was said already what stands in.
  if (request.snapshot) return evidence;
  for (const auto& line : foreign_state_files(machine, source.definition)) {
    if (!(request.new_tpm && line.find("TPM") != std::string::npos))
      evidence.push_back(line + " (kvm-adopt takes it in)");
  }
  return evidence;
}

void leave_out(const View& view, CloneSource& source, const std::vector<std::string>& without) {
  for (const auto& disk : source.definition.disks()) {
    if (!contains(without, disk.target)) continue;
    const auto volume = volume_of(view, disk.source);
    std::erase_if(source.disks, [&](const MachineDisk& own) { return own.volume.name == volume; });
  }
}

std::optional<Refusal> unknown_without(const CloneSource& source, const std::vector<std::string>& without) {
  std::vector<std::string> targets;
  for (const auto& disk : source.definition.disks()) targets.push_back(disk.target);
  for (const auto& unwanted : without) {
    if (unwanted == "hostdev" || contains(targets, unwanted)) continue;
    return Refusal{"no-such-disk",
                   fmt::format("machine '{}' has no disk '{}' to leave out", source.machine.name, unwanted),
                   {},
                   fmt::format("it has {}", fmt::join(targets, ", "))};
  }
  return std::nullopt;
}

}  // namespace kld::plan
