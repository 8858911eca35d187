// SPDX-License-Identifier: Apache-2.0
#include "plan/revive.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/kept_refusals.h"
#include "plan/layout.h"
#include "plan/limits.h"
#include "plan/whole.h"

namespace kld::plan {
namespace {

/// The version that is meant, if it is a deleted machine's whose name is free.
std::variant<Kept, Refusal> wanted(const View& view, const ReviveRequest& request, const ReviveFacts& facts) {
  auto named = named_kept(view, request.machine, request.kept);
  const auto* kept = std::get_if<Kept>(&named);
  if (kept == nullptr) return named;
  if (!kept->is_ghost()) {
    const auto all = all_kept_of(view, request.machine);
    const auto ghost = std::find_if(all.rbegin(), all.rend(), [](const Kept& one) { return one.is_ghost(); });
    return Refusal{"set-aside",
                   fmt::format("machine '{}' itself is not there to take the place of '{}'", kept->machine, kept->name),
                   {},
                   ghost == all.rend()
                       ? fmt::format("remove it with 'kvm-snap {} drop {}'", kept->machine, kept->name)
                       : fmt::format("bring the machine back first: kvm-snap {} undo {}", kept->machine, ghost->name)};
  }
  const auto all = all_kept_of(view, request.machine);
  if (all.back().name != kept->name && std::any_of(all.begin(), all.end(), [&](const Kept& one) {
        return one.is_ghost() && one.container.createtxg > kept->container.createtxg;
      })) {
    // Whose versions are whose is told by their order.
    return Refusal{"deleted-since",
                   fmt::format("a later machine '{}' was deleted after '{}'", kept->machine, kept->name),
                   {},
                   fmt::format("drop that first, or bring it back: see 'kvm-snap {} kept'", kept->machine)};
  }
  std::vector<std::string> labels;
  for (const auto& disk : kept->disks) labels.push_back(disk.label);
  if (auto refusal = name_taken(view, kept->machine, labels, facts.taken_paths)) {
    refusal->hint = "give that one another name, or delete it, first";
    return *refusal;
  }
  return named;
}

/// Domains that have the machine's UUID, or a network address of it.
std::optional<Refusal> known_already(const Kept& kept, const virt::Definition& definition, const ReviveFacts& facts) {
  std::vector<std::string> evidence;
  for (const auto& [name, xml] : facts.others) {
    const auto other = virt::Definition::parse(xml);
    if (other.uuid() == definition.uuid())
      evidence.push_back(fmt::format("domain '{}' has its UUID, {}", name, other.uuid()));
    for (const auto& nic : definition.interfaces()) {
      const auto theirs = other.interfaces();
      const bool equal = !nic.mac.empty() && std::any_of(theirs.begin(), theirs.end(),
                                                         [&](const auto& their) { return their.mac == nic.mac; });
      if (equal) evidence.push_back(fmt::format("domain '{}' has its MAC address, {}", name, nic.mac));
    }
  }
  if (evidence.empty()) return std::nullopt;
  return Refusal{"known-already", fmt::format("another domain has taken the place of '{}'", kept.name),
                 std::move(evidence), "give that one others, or remove it, first: virsh edit, virsh undefine"};
}

/// Why it would not be the machine that was deleted.
std::optional<Refusal> not_whole_again(const View& view, const Kept& kept, const virt::Definition& definition,
                                       const ReviveFacts& facts) {
  const auto machine = as_it_was(view, kept);
  std::vector<std::string> gone;
  for (const auto& disk : foreign_disks(view, machine, definition)) {
    const bool of_root = zfs::is_below(volume_of(view, disk.what), view.root);
    if (of_root && find_dataset(view, volume_of(view, disk.what)) == nullptr)
      gone.push_back(fmt::format("{}: {}", disk.target, disk.what));
  }
  if (!gone.empty()) {
    return Refusal{"disk-gone", fmt::format("'{}' does not have all disks of its definition any more", kept.name),
                   std::move(gone), "clone what is there instead: zfs clone"};
  }
  auto evidence = not_startable(definition, facts.host);
  if (evidence.empty()) return std::nullopt;
  return Refusal{"not-startable", fmt::format("machine '{}' as it was could not start on this host", kept.machine),
                 std::move(evidence), "give the host what is missing"};
}

}  // namespace

std::string home_of(const View& view, const Kept& kept, const zfs::Dataset& part) {
  if (kept.state && part.name == kept.state->name) return state_dataset(view.root, kept.machine);
  if (kept.tpm && part.name == kept.tpm->name) return tpm_dataset(view.root, kept.machine);
  const auto label = part.property(zfs::property::disk);
  return disk_dataset(view.root, kept.machine, label.empty() ? kFirstDisk : label);
}

Machine as_it_was(const View& view, const Kept& kept) {
  Machine machine{kept.machine, kept.disks, {}, {}, {}};
  for (auto& disk : machine.disks) disk.volume.name = disk_dataset(view.root, kept.machine, disk.label);
  return machine;
}

Result plan_revive(const View& view, const ReviveRequest& request, const ReviveFacts& facts, const Fresh& fresh) {
  if (all_kept_of(view, request.machine).empty()) return no_such_machine(view, request.machine);
  const auto named = wanted(view, request, facts);
  if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
  const auto& kept = std::get<Kept>(named);
  if (auto refusal = foreign_in(view, kept)) return *refusal;
  if (auto refusal = container_held(kept, facts.snapshots)) return *refusal;
  if (auto refusal = key_missing(kept.datasets())) return *refusal;
  if (auto refusal = layout_problem(view)) return *refusal;
  if (auto refusal = pool_full(view)) return *refusal;
  if (facts.definition.empty()) {
    return Refusal{"not-whole",
                   fmt::format("'{}' holds no definition", kept.name),
                   {},
                   fmt::format("rename its datasets back below {}, then take it in: zfs rename, kvm-adopt {}",
                               view.root, kept.machine)};
  }
  auto definition = virt::Definition::parse(facts.definition);
  definition.set_name(kept.machine);
  definition.set_genid(fresh.uuid());
  if (auto refusal = known_already(kept, definition, facts)) return *refusal;
  if (auto refusal = not_whole_again(view, kept, definition, facts)) return *refusal;

  Plan plan{"undo", fresh.op, {kept.machine}, {}, 0, {}};
  if (auto step = ensure_state_root(view, fresh.op)) plan.steps.push_back(std::move(*step));
  AwaitDevices devices;
  for (const auto& part : kept.datasets()) {
    const auto home = home_of(view, kept, part);
    if (part.kind == zfs::Kind::volume) devices.volumes.push_back(home);
    if (!kept.tpm || part.name != kept.tpm->name) plan.steps.emplace_back(RenameDataset{part.name, home, part.guid});
  }
  MountFilesystems mounts{{{state_dataset(view.root, kept.machine), state_directory(kept.machine)}}};
  if (kept.tpm) {
    const auto home = home_of(view, kept, *kept.tpm);
    plan.steps.emplace_back(
        SetProperties{home, {{"canmount", ""}}, {{"canmount", "noauto"}}, kept.tpm->guid, kept.tpm->name});
    mounts.mounts.push_back({home, tpm_directory(definition.uuid())});
  }
  plan.steps.emplace_back(std::move(mounts));
  const auto xml = definition.xml();
  plan.steps.emplace_back(WriteFiles{{{definition_path(kept.machine), xml, true, facts.definition}}, true});
  // libvirt itself had worded it.
  plan.steps.emplace_back(DefineDomains{{{kept.machine, definition.uuid(), xml}}, false});
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(std::move(devices));
  if (facts.autostart) plan.steps.emplace_back(SetAutostart{{kept.machine, definition.uuid()}, true});
  plan.steps.emplace_back(DestroyDatasets{{{kept.container.name, kept.container.guid, ""}}});
  return plan;
}

}  // namespace kld::plan
