// SPDX-License-Identifier: Apache-2.0
#include "plan/rollback_refusals.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/layout.h"
#include "plan/limits.h"
#include "plan/whole.h"

namespace kld::plan {
namespace {

bool is_missing(const MachineSnapshot& snapshot, const std::string& dataset) {
  return std::find(snapshot.missing.begin(), snapshot.missing.end(), dataset) != snapshot.missing.end();
}

/// Disks that the definition names and the snapshot does not have.
std::vector<std::string> gone_disks(const View& view, const Machine& machine, const MachineSnapshot& snapshot,
                                    const virt::Definition& definition) {
  std::vector<std::string> gone;
  for (const auto& disk : foreign_disks(view, machine, definition)) {
    gone.push_back(fmt::format("{}: {} is no zvol of this machine any more", disk.target, disk.what));
  }
  for (const auto& disk : definition.disks()) {
    const auto volume = volume_of(view, disk.source);
    const bool own =
        std::any_of(machine.disks.begin(), machine.disks.end(), [&](const auto& d) { return d.volume.name == volume; });
    if (own && is_missing(snapshot, volume)) {
      gone.push_back(fmt::format("{}: {} has no snapshot '@{}'", disk.target, volume, snapshot.name));
    }
  }
  return gone;
}

}  // namespace

std::optional<Refusal> not_to_be_swapped(const View& view, const Machine& machine, bool stop,
                                         const RollbackFacts& facts) {
  if (!machine.domain) {
    return Refusal{"no-domain",
                   fmt::format("machine '{}' has datasets but libvirt does not know it", machine.name),
                   {},
                   fmt::format("define it from its saved state with 'kvm-adopt {}'", machine.name)};
  }
  if (machine.disks.empty()) {
    return Refusal{"no-disk", fmt::format("machine '{}' has no zvol", machine.name), {}, "there is nothing to go back"};
  }
  if (auto refusal = foreign_state(machine, facts.block_jobs, false)) return refusal;
  auto own = machine.datasets();
  if (const auto* root = find_dataset(view, view.root)) own.push_back(*root);
  if (auto refusal = key_missing(own)) return refusal;
  if (auto refusal = not_whole(view, machine, virt::Definition::parse(facts.definitions.current))) return refusal;
  if (!facts.definitions.live.empty()) {
    if (auto refusal = not_whole(view, machine, virt::Definition::parse(facts.definitions.live))) return refusal;
  }
  if (auto refusal = state_unmounted(machine)) return refusal;
  if (auto refusal = layout_problem(view)) return refusal;
  if (auto refusal = pool_full(view)) return refusal;
  if (auto refusal = shared_disk(view, machine)) return refusal;
  if (auto refusal = foreign_dataset(view, machine)) return refusal;
  if (machine.active() && !stop) {
    return Refusal{"running",
                   fmt::format("machine '{}' is {}", machine.name, virt::to_string(machine.domain->state)),
                   {},
                   "shut it down first, or have it stopped and started again with --stop"};
  }
  if (!facts.holders.empty()) {
    return Refusal{"in-use", fmt::format("a disk of machine '{}' is open elsewhere", machine.name), facts.holders,
                   "end that program, or wait until it is done"};
  }
  return std::nullopt;
}

std::optional<Refusal> not_in_snapshot(const View& view, const Machine& machine, const MachineSnapshot& snapshot,
                                       bool only_disks, const RollbackFacts& facts) {
  const auto refused = [&](const std::string& kind, const std::string& message, std::vector<std::string> evidence,
                           const std::string& hint) {
    return Refusal{kind, message, std::move(evidence), hint};
  };
  const auto at = fmt::format("'{}@{}'", machine.name, snapshot.name);
  if (!only_disks && facts.past_definition.empty()) {
    return refused("not-whole", fmt::format("snapshot {} holds no definition", at), {},
                   "roll back its disks alone, under the present definition, with --only-disks");
  }
  auto definition = virt::Definition::parse(only_disks ? facts.definitions.current : facts.past_definition);
  definition.set_uuid(machine.domain->uuid);
  if (auto gone = gone_disks(view, machine, snapshot, definition); !gone.empty()) {
    return only_disks
               ? refused("disk-gone",
                         fmt::format("the present definition needs disks that snapshot {} does not have", at),
                         std::move(gone), "without --only-disks they go aside with the present")
               : refused("disk-gone", fmt::format("snapshot {} needs disks that it does not have any more", at),
                         std::move(gone), "clone what is there: kvm-clone --snap; what went aside, 'undo' brings back");
  }
  if (only_disks) return std::nullopt;
  auto evidence = foreign_state_files(machine, definition);
  if (definition.tpm() == virt::Tpm::emulator && machine.tpm && is_missing(snapshot, machine.tpm->name)) {
    evidence.push_back(fmt::format("{} has no snapshot '@{}'", machine.tpm->name, snapshot.name));
  }
  if (evidence.empty()) return std::nullopt;
  return refused("not-whole", fmt::format("snapshot {} does not hold the whole machine", at), std::move(evidence),
                 "roll back its disks alone, under the present definition, with --only-disks");
}

std::optional<Refusal> sent_meanwhile(const Machine& machine, const std::set<std::string>& moving,
                                      const RollbackFacts& facts) {
  std::vector<std::string> evidence;
  for (const auto& [snapshot, words] : facts.sends) {
    const bool told = std::find(evidence.begin(), evidence.end(), words) != evidence.end();
    const bool moves = std::any_of(moving.begin(), moving.end(), [&, &sent = snapshot](const auto& name) {
      return name == sent || zfs::dataset_of(name) == sent;
    });
    if (moves && !told) evidence.push_back(words);
  }
  if (evidence.empty()) return std::nullopt;
  return Refusal{"sending", fmt::format("snapshots of machine '{}' that would move are being sent", machine.name),
                 std::move(evidence), "wait until that is done, or end it"};
}

std::optional<Refusal> key_not_common(const View& view, const std::vector<zfs::Dataset>& swapped) {
  const auto* root = find_dataset(view, view.root);
  std::vector<std::string> evidence;
  for (const auto& part : swapped) {
    const auto& key = part.encryption_root;
    if (key.empty() || (root != nullptr && key == root->encryption_root)) continue;
    evidence.push_back(key == part.name ? fmt::format("{} has a key of its own", part.name)
                                        : fmt::format("{} takes its key from {}", part.name, key));
  }
  if (evidence.empty()) return std::nullopt;
  return Refusal{"own-key",
                 fmt::format("what is encrypted with another key than that of '{}' cannot be set aside", view.root),
                 std::move(evidence),
                 "a rollback with --destroy-newer can go back, for good; or clone the snapshot: kvm-clone --snap"};
}

std::optional<Refusal> cannot_start(const Machine& machine, const virt::Definition& coming, const RollbackFacts& facts,
                                    bool may_keep_definition) {
  auto evidence = not_startable(coming, facts.host);
  if (evidence.empty()) return std::nullopt;
  return Refusal{"not-startable", fmt::format("machine '{}' as it was could not start on this host", machine.name),
                 std::move(evidence),
                 may_keep_definition ? "give the host what is missing, or roll back the disks alone with --only-disks"
                                     : "give the host what is missing, then try again"};
}

}  // namespace kld::plan
