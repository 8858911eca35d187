// SPDX-License-Identifier: Apache-2.0
// The real runner's steps that make, rename, promote and mark datasets.
#include <fmt/format.h>

#include <algorithm>

#include "run/parallel.h"
#include "run/real_runner.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

/// OpenZFS 2.1 does not look for these before it moves bookmarks, and panics.
void require_no_bookmark_twice(const std::string& one, const std::string& other) {
  const auto bookmarks = zfs::list_bookmarks({one, other});
  for (const auto& bookmark : bookmarks) {
    if (!bookmark.name.starts_with(one + "#")) continue;
    const auto same = other + bookmark.name.substr(one.size());
    if (std::none_of(bookmarks.begin(), bookmarks.end(), [&](const auto& b) { return b.name == same; })) continue;
    throw Error(fmt::format("cannot promote '{}': '{}' and '{}' have equal names", one, bookmark.name, same),
                fmt::format("remove one of them: zfs destroy {}", same));
  }
}

/// Those that are not so yet: on a pool that can only be read, what was never set need not be taken back.
zfs::Properties not_yet(const std::string& dataset, zfs::Properties wanted) {
  std::erase_if(wanted, [&](const auto& property) {
    const auto there = zfs::local_property(property.first, {dataset});
    return (there.empty() ? std::string() : there.front().second) == property.second;
  });
  return wanted;
}

}  // namespace

void RealRunner::act(const plan::CreateFilesystem& step) const { zfs::create_filesystem(step.name, step.properties); }
void RealRunner::act(const plan::CreateVolume& step) const {
  zfs::create_volume(step.name, step.size, step.properties);
}

void RealRunner::act(const plan::CloneDatasets& step) const {
  for_each_parallel(step.clones, kThreads,
                    [](const plan::CloneOf& clone) { zfs::clone(clone.snapshot, clone.name, clone.properties); });
}

void RealRunner::act(const plan::TakeSnapshots& step) {
  if (!recovering_ && step.freezes.empty()) return zfs::snapshot(step.names, step.properties);
  if (!recovering_) {
    frozen_ = snapshot_frozen(libvirt(), step, warn_);
    return;
  }
  // A snapshot of now would not be the one that was asked for: it was taken then, or it is not taken.
  const auto op = step.properties.find(zfs::property::op);
  const auto marks = zfs::local_property(zfs::property::op, step.names);
  const bool taken = op != step.properties.end() && marks.size() == step.names.size() &&
                     std::all_of(marks.begin(), marks.end(), [&](const auto& m) { return m.second == op->second; });
  if (!taken) throw Error("the snapshot was not taken before the command was cut off");
  // Whether its guests were thawed in time, nobody can say any more.
  if (!step.freezes.empty()) lower_label(step);
}

void RealRunner::act(const plan::CopyDataset& step) const {
  const std::uint64_t total = zfs::send_size(step.snapshot);
  zfs::CopyOptions options;
  options.progress = [&](std::uint64_t sent) {
    if (progress_ && total > 0) {
      progress_(step.name, std::min(1.0, static_cast<double>(sent) / static_cast<double>(total)), total);
    }
  };
  options.stop = interrupted_;
  options.kept_fds = locks_;
  const auto by_hand = plan::commands(step);
  zfs::copy(by_hand.front(), by_hand.back(), step.name + step.snapshot.substr(step.snapshot.find('@')), options);
}

void RealRunner::act(const plan::RenameDataset& step) const {
  const auto guid = zfs::dataset_guid(step.from);
  if (!guid || *guid != step.guid) {
    // Renamed already, by the run that this one undoes or finishes.
    if (zfs::dataset_guid(step.to) == step.guid) return;
    throw Error(fmt::format("'{}' is not the dataset it was", step.from));
  }
  // A host that started in between has mounted it. ZFS would rename it all the same, and the mount table go on saying
  // its old name, which is another's then.
  auto mounts = zfs::own_mounts();
  std::reverse(mounts.begin(), mounts.end());
  for (const auto& mount : mounts) {
    if (mount.source == step.from || zfs::is_below(mount.source, step.from)) {
      zfs::unmount_if_mounted(mount.source, mount.directory);
    }
  }
  zfs::rename(step.from, step.to);
}

void RealRunner::act(const plan::SetProperties& step) const {
  for (const auto& name : {step.dataset, step.or_at}) {
    if (name.empty() || !zfs::exists(name)) continue;
    if (step.guid != 0 && zfs::dataset_guid(name) != step.guid) continue;
    const auto wanted = undoing_ || recovering_ ? not_yet(name, step.properties) : step.properties;
    if (!wanted.empty()) zfs::set_properties(name, wanted);
  }
}

void RealRunner::act(const plan::PromoteDatasets& step) const {
  std::vector<std::string> names;
  for (const auto& one : step.promotions) names.insert(names.end(), {one.past, one.present, one.present_was});
  const auto guids = zfs::dataset_guids(names);
  const auto origins = zfs::origins_of(names);
  std::vector<std::string> clones;
  for (const auto& one : step.promotions) {
    const auto is_present = [&](const std::string& name) {
      const auto guid = guids.find(name);
      return guid != guids.end() && guid->second == one.guid;
    };
    const auto& clone = step.back ? one.present : one.past;
    const auto& other = step.back ? one.past : one.present;
    const auto origin = origins.find(clone);
    const bool hangs = origin != origins.end() && zfs::dataset_of(origin->second) == other;
    if (step.back && !is_present(one.present) && !is_present(one.present_was)) {
      throw Error(fmt::format("'{}' is gone: '{}' keeps the history of both", one.present, one.past));
    }
    if (!step.back && !hangs) throw Error(fmt::format("'{}' is no clone of '{}' any more", clone, other));
    if (!hangs) continue;
    require_no_bookmark_twice(clone, other);
    clones.push_back(clone);
  }
  for_each_parallel(clones, kThreads, [](const std::string& clone) { zfs::promote(clone); });
}

}  // namespace kld::run
