// SPDX-License-Identifier: Apache-2.0
#include "plan/rollback_classic.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"
#include "base/time.h"
#include "plan/drop.h"
#include "plan/limits.h"

namespace kld::plan {
namespace {

/// What is newer than the snapshot on its datasets.
struct Newer {
  std::vector<zfs::Snapshot> snapshots;
  std::vector<std::string> bookmarks;
};

/// Parts of the snapshot that go back: with `only_disks` its volumes.
std::vector<zfs::Snapshot> going_back(const Machine& machine, const MachineSnapshot& snapshot, bool only_disks) {
  std::vector<zfs::Snapshot> parts;
  for (const auto& dataset : machine.datasets()) {
    if (only_disks && dataset.kind != zfs::Kind::volume) continue;
    for (const auto& part : snapshot.parts) {
      if (part.dataset() == dataset.name) parts.push_back(part);
    }
  }
  return parts;
}

Newer newer_than(const std::vector<zfs::Snapshot>& parts, const RollbackFacts& facts) {
  Newer newer;
  for (const auto& part : parts) {
    for (const auto& other : facts.snapshots) {
      if (other.dataset() == part.dataset() && other.createtxg > part.createtxg) newer.snapshots.push_back(other);
    }
    for (const auto& bookmark : facts.bookmarks) {
      const bool own = bookmark.name.starts_with(part.dataset() + "#");
      if (own && bookmark.createtxg > part.createtxg) newer.bookmarks.push_back(bookmark.name);
    }
  }
  return newer;
}

/// Why not all of it can go: ZFS would refuse in the middle.
std::optional<Refusal> must_stay(const View& view, const Newer& newer, const RollbackFacts& facts) {
  std::vector<std::string> cloned;
  std::vector<std::string> held;
  std::vector<std::string> sent;
  for (const auto& snapshot : newer.snapshots) {
    for (const auto& clone : snapshot.clones) {
      cloned.push_back(fmt::format("{}{} (from {})", clone, owner_in_words(view, clone), snapshot.name));
    }
    if (snapshot.holds > 0) held.push_back(snapshot.name);
    for (const auto& [name, words] : facts.sends) {
      const bool is_sent = name == snapshot.name || name == snapshot.dataset();
      if (is_sent && std::find(sent.begin(), sent.end(), words) == sent.end()) sent.push_back(words);
    }
  }
  const std::string instead = "a rollback without --destroy-newer keeps it all";
  if (!cloned.empty()) {
    return Refusal{"dependent-clones", "newer snapshots have clones", std::move(cloned),
                   fmt::format("delete or drop those first; {}", instead)};
  }
  if (!held.empty()) {
    return Refusal{"held", "newer snapshots are held", std::move(held),
                   fmt::format("see by what with 'zfs holds', and end that first; {}", instead)};
  }
  if (!sent.empty()) {
    return Refusal{"sending", "newer snapshots are being sent", std::move(sent), "wait until that is done, or end it"};
  }
  return std::nullopt;
}

/// Bytes that ZFS wants to have free: what it goes back over returns to the reservation of the dataset, but not before.
std::uint64_t refilled(const Machine& machine, const std::vector<zfs::Snapshot>& parts, const RollbackFacts& facts) {
  std::uint64_t bytes = 0;
  for (const auto& dataset : machine.datasets()) {
    const bool goes =
        std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return part.dataset() == dataset.name; });
    if (!goes) continue;
    const auto written = facts.written.find(dataset.name);
    bytes +=
        written == facts.written.end() ? dataset.refreservation : std::min(written->second, dataset.refreservation);
  }
  return bytes;
}

}  // namespace

Result plan_classic_rollback(const View& view, const Machine& machine, const MachineSnapshot& snapshot,
                             const Arrival& arrival, const RollbackRequest& request, const RollbackFacts& facts,
                             const Fresh& fresh) {
  const auto parts = going_back(machine, snapshot, request.only_disks);
  std::vector<std::string> without;
  for (const auto& dataset : machine.datasets()) {
    if (request.only_disks && dataset.kind != zfs::Kind::volume) continue;
    const bool there =
        std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return part.dataset() == dataset.name; });
    if (!there) without.push_back(dataset.name);
  }
  if (!without.empty()) {
    return Refusal{"not-in-snapshot", fmt::format("'@{}' does not have all datasets of the machine", snapshot.name),
                   std::move(without), "without --destroy-newer they go aside with the present"};
  }
  const auto newer = newer_than(parts, facts);
  if (auto refusal = must_stay(view, newer, facts)) return *refusal;
  if (auto refusal = no_room(view, refilled(machine, parts, facts))) return *refusal;

  Plan plan{"rollback", fresh.op, {machine.name}, {}, 0, {}};
  warn_of_moments(plan, snapshot);
  add_stop(plan, machine, request.timeout);
  // libvirt must take the definition before anything is lost.
  const auto xml = arrival.definition.xml();
  const auto& uuid = machine.domain->uuid;
  plan.steps.emplace_back(
      RedefineDomain{{machine.name, uuid, xml}, {machine.name, uuid, facts.definitions.current}, false});
  DestroySnapshots doomed;
  for (const auto& one : newer.snapshots) doomed.snapshots.push_back({one.name, one.guid});
  RollbackDatasets back;
  for (const auto& part : parts) back.datasets.push_back({part.dataset(), part.name, part.guid});
  back.bookmarks = newer.bookmarks;
  plan.steps.emplace_back(CheckNewer{{machine.name, uuid}, back.datasets, doomed.snapshots, back.bookmarks});
  plan.commit = plan.steps.size();
  // One call, all or none: what ZFS refuses now leaves everything as it was.
  if (!doomed.snapshots.empty()) plan.steps.emplace_back(std::move(doomed));
  plan.steps.emplace_back(std::move(back));
  if (!arrival.only_disks) plan.steps.emplace_back(arriving_mounts(view, machine, arrival));
  plan.steps.emplace_back(WriteFiles{{{definition_path(machine.name), xml, true, arrival.saved}}, true});
  plan.steps.emplace_back(arriving_devices(view, arrival));
  add_start(plan, machine);
  return plan;
}

std::vector<std::string> lost_with(const View& view, const RollbackRequest& request, const RollbackFacts& facts,
                                   UnixTime now) {
  const auto machine = find_machine(view, request.machine);
  if (!machine) return {};
  const auto all = machine_snapshots(*machine, facts.snapshots);
  const auto* snapshot = snapshot_to_go_back_to(*machine, request, all);
  if (snapshot == nullptr) return {};
  const auto parts = going_back(*machine, *snapshot, request.only_disks);
  const auto newer = newer_than(parts, facts);
  std::vector<std::string> lines;
  for (const auto& one : newer.snapshots) {
    lines.push_back(fmt::format("  {} ({} old, {} written, {} in it alone)", one.name, format_age(now - one.creation),
                                format_size(one.written), format_size(one.used)));
  }
  for (const auto& bookmark : newer.bookmarks) lines.push_back(fmt::format("  {}", bookmark));
  for (const auto& part : parts) {
    const auto written = facts.written.find(part.dataset());
    lines.push_back(fmt::format("  what was written to {} since '@{}'{}", part.dataset(), snapshot->name,
                                written == facts.written.end() ? "" : ": " + format_size(written->second)));
  }
  return lines;
}

}  // namespace kld::plan
