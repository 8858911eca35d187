// SPDX-License-Identifier: Apache-2.0
#include "plan/adopt_disks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/name.h"
#include "plan/limits.h"
#include "plan/whole.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

using Lines = std::vector<std::string>;

/// Why this disk cannot come in, empty when it can.
std::string disk_problem(const View& view, const virt::Disk& disk, const Volumes& volumes) {
  const std::string volume = volume_of(disk.source, volumes);
  if (disk.source.empty()) return fmt::format("{}: has no source", disk.target);
  if (volume.empty()) return fmt::format("{}: {} is not a zvol", disk.target, disk.source);
  if (!zfs::is_below(volume, view.root)) return fmt::format("{}: {} lies outside {}", disk.target, volume, view.root);
  const auto* dataset = find_dataset(view, volume);
  if (dataset == nullptr) return fmt::format("{}: there is no volume {}", disk.target, volume);
  if (dataset->kind != zfs::Kind::volume) return fmt::format("{}: {} is not a zvol", disk.target, volume);
  if (is_aside(view, *dataset)) return fmt::format("{}: {} is set aside or a replica", disk.target, volume);
  if (!disk.format.empty() && disk.format != "raw") {
    return fmt::format("{}: {} holds a {} image, not the disk itself", disk.target, volume, disk.format);
  }
  return {};
}

/// Disks that another domain uses, too.
Lines shared_disks(const View& view, const virt::Definition& definition, const Volumes& volumes) {
  Lines facts;
  for (const auto& disk : data_disks(definition)) {
    const auto volume = volume_of(disk.source, volumes);
    for (const auto& other : view.domains) {
      if (volume.empty() || other.name == definition.name()) continue;
      const bool shared = std::any_of(other.block_paths.begin(), other.block_paths.end(),
                                      [&](const auto& path) { return volume_of(path, volumes) == volume; });
      if (shared) facts.push_back(fmt::format("{}: {} is a disk of domain '{}', too", disk.target, volume, other.name));
    }
  }
  return facts;
}

/// The label of a further disk: what it has, what its name says, or its target; one that none of `taken` has.
std::string label_for(const std::string& machine, const Incoming& disk, const std::set<std::string>& taken) {
  const auto last = zfs::last_component(disk.volume.name);
  const auto prefix = machine + "-";
  const std::string said =
      disk.volume.property(zfs::property::machine) == machine ? disk.volume.property(zfs::property::disk) : "";
  const std::string named = last.starts_with(prefix) ? last.substr(prefix.size()) : "";
  for (const auto& label : {said, named, disk.target}) {
    if (!disk_label_problem(label) && !taken.contains(label)) return label;
  }
  std::string label;
  for (int repeat = 2; label.empty() || taken.contains(label); ++repeat) {
    label = fmt::format("{}-{}", disk.target, repeat);
  }
  return label;
}

/// ZFS lets an encrypted dataset leave its encryption root only as a root of its own.
std::optional<Refusal> encryption_refusal(const View& view, const std::vector<Incoming>& disks) {
  const auto* root = find_dataset(view, view.root);
  const std::string root_key = root == nullptr ? "" : root->encryption_root;
  for (const auto& disk : disks) {
    const auto& key = disk.volume.encryption_root;
    if (!disk.renamed() || key == root_key || (!key.empty() && key == disk.volume.name)) continue;
    return Refusal{
        "encryption-root",
        fmt::format("{} cannot be renamed to {}: they have different encryption roots", disk.volume.name, disk.name),
        {fmt::format("{}: {}", disk.volume.name, key.empty() ? "not encrypted" : key),
         fmt::format("{}: {}", view.root, root_key.empty() ? "not encrypted" : root_key)},
        key.empty() ? "copy it: zfs send -p … | zfs receive …"
        : disk.volume.origin.empty()
            ? fmt::format("make it a root of its own: zfs change-key -o keyformat=passphrase {}", disk.volume.name)
            : "a clone keeps its key: copy it, zfs send … | zfs receive …, and adopt the copy"};
  }
  return std::nullopt;
}

}  // namespace

std::string volume_of(const std::string& path, const Volumes& volumes) {
  if (auto volume = zfs::volume_in_path(path); !volume.empty()) return volume;
  const auto found = volumes.find(path);
  return found == volumes.end() ? std::string() : found->second;
}

std::vector<virt::Disk> data_disks(const virt::Definition& definition) {
  auto disks = definition.disks();
  std::erase_if(disks, [](const virt::Disk& disk) { return !holds_data(disk); });
  return disks;
}

std::vector<std::string> disk_problems(const View& view, const virt::Definition& definition, const Volumes& volumes) {
  Lines problems;
  std::set<std::string> seen;
  for (const auto& disk : data_disks(definition)) {
    auto problem = disk_problem(view, disk, volumes);
    if (problem.empty() && !seen.insert(volume_of(disk.source, volumes)).second) {
      problem = fmt::format("{}: {} is another of its disks already", disk.target, volume_of(disk.source, volumes));
    }
    if (!problem.empty()) problems.push_back(std::move(problem));
  }
  return problems;
}

std::optional<Refusal> partition_refusal(const virt::Definition& definition, const std::set<std::string>& partitions) {
  Lines facts;
  for (const auto& disk : data_disks(definition)) {
    if (partitions.contains(disk.source)) {
      facts.push_back(fmt::format("{}: {} is a partition, not a zvol", disk.target, disk.source));
    }
  }
  if (facts.empty()) return std::nullopt;
  return Refusal{"bad-disk", fmt::format("domain '{}' has a partition of a zvol for a disk", definition.name()),
                 std::move(facts), "copy it to a zvol of its own: kvm-create NEW --image PARTITION"};
}

std::optional<Refusal> shared_refusal(const View& view, const virt::Definition& definition, const Volumes& volumes) {
  auto shared = shared_disks(view, definition, volumes);
  if (shared.empty()) return std::nullopt;
  return Refusal{"volume-shared", fmt::format("machine '{}' shares a disk with another domain", definition.name()),
                 std::move(shared),
                 "take the disk from one of them first: 'virsh domblklist DOMAIN --inactive' shows its TARGET for "
                 "virsh detach-disk DOMAIN TARGET --config"};
}

std::optional<Refusal> disks_refusal(const View& view, const virt::Definition& definition, const Volumes& volumes) {
  const auto name = definition.name();
  if (data_disks(definition).empty()) {
    return Refusal{"no-disk",
                   fmt::format("domain '{}' has no disk to take in", name),
                   {},
                   "only what has a zvol becomes a machine"};
  }
  if (auto problems = disk_problems(view, definition, volumes); !problems.empty()) {
    return Refusal{"bad-disk", fmt::format("not every disk of domain '{}' is a zvol below {}", name, view.root),
                   std::move(problems),
                   "a zvol elsewhere in the pool: zfs rename; a disk image: kvm-create NEW --image FILE"};
  }
  if (auto shared = shared_refusal(view, definition, volumes)) return shared;
  Lines owned;
  std::vector<zfs::Dataset> in;
  for (const auto& disk : data_disks(definition)) {
    in.push_back(*find_dataset(view, volume_of(disk.source, volumes)));
    const auto owner = in.back().property(zfs::property::machine);
    if (!owner.empty() && owner != name) {
      owned.push_back(fmt::format("{}: {} belongs to machine '{}'", disk.target, in.back().name, owner));
    }
  }
  if (!owned.empty()) {
    return Refusal{"volume-taken", fmt::format("a disk of domain '{}' belongs to another machine", name),
                   std::move(owned), "see the machines with 'kvm-list'"};
  }
  return key_missing(in);
}

std::vector<Incoming> incoming_disks(const View& view, const virt::Definition& definition, const Volumes& volumes) {
  const auto machine = definition.name();
  std::vector<Incoming> disks;
  for (const auto& disk : data_disks(definition)) {
    disks.push_back({disk.target, *find_dataset(view, volume_of(disk.source, volumes)), {}, {}});
  }
  // A machine that is partly ours keeps the first disk it has.
  std::stable_partition(disks.begin(), disks.end(), [&](const Incoming& disk) {
    return disk.volume.property(zfs::property::machine) == machine &&
           disk.volume.property(zfs::property::disk) == kFirstDisk;
  });
  std::set<std::string> taken = {kFirstDisk};
  for (auto& disk : disks) {
    disk.label = &disk == &disks.front() ? kFirstDisk : label_for(machine, disk, taken);
    taken.insert(disk.label);
    disk.name = disk_dataset(view.root, machine, disk.label);
  }
  return disks;
}

std::variant<std::vector<Step>, Refusal> renames(const View& view, const std::string& machine,
                                                 const std::vector<Incoming>& disks) {
  if (auto refusal = encryption_refusal(view, disks)) return *refusal;
  std::vector<Step> steps;
  std::vector<const Incoming*> pending;
  std::set<std::string> left;  // names that earlier renames made free
  for (const auto& disk : disks) {
    if (disk.renamed()) pending.push_back(&disk);
  }
  const auto is_free = [&](const std::string& name) { return left.contains(name) || !find_dataset(view, name); };
  while (!pending.empty()) {
    const auto next =
        std::find_if(pending.begin(), pending.end(), [&](const Incoming* disk) { return is_free(disk->name); });
    if (next == pending.end()) break;
    steps.emplace_back(RenameDataset{(*next)->volume.name, (*next)->name, (*next)->volume.guid});
    left.insert((*next)->volume.name);
    pending.erase(next);
  }
  if (pending.empty()) return steps;
  Lines evidence;
  for (const auto* disk : pending) {
    const auto owner = find_dataset(view, disk->name)->property(zfs::property::machine);
    evidence.push_back(fmt::format("{}: {} would become {}, which exists{}", disk->target, disk->volume.name,
                                   disk->name,
                                   owner.empty() ? "" : fmt::format(" and belongs to machine '{}'", owner)));
  }
  return Refusal{"dataset-taken", fmt::format("a dataset that machine '{}' needs exists already", machine),
                 std::move(evidence), fmt::format("rename it first: zfs rename {} NEW", pending.front()->name)};
}

}  // namespace kld::plan
