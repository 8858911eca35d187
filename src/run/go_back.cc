// SPDX-License-Identifier: Apache-2.0
// The real runner's step that discards what was written since a snapshot.
#include <fmt/format.h>

#include <algorithm>

#include "plan/snapshot.h"
#include "run/real_runner.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/device.h"

namespace kld::run {
namespace {

std::vector<std::string> names_of(const std::vector<plan::GoingBack>& all) {
  std::vector<std::string> names;
  for (const auto& one : all) names.push_back(one.dataset);
  return names;
}

void require_not_open(const std::vector<std::string>& datasets, const std::string& hint) {
  if (const auto holders = zfs::holders(datasets); !holders.empty()) {
    throw Error(zfs::to_string(holders.front()), hint);
  }
}

/// The snapshot to go back to. Throws when it is another by now.
const zfs::Snapshot& target_in(const std::vector<zfs::Snapshot>& snapshots, const plan::GoingBack& one) {
  const auto found = std::find_if(snapshots.begin(), snapshots.end(),
                                  [&](const auto& s) { return s.name == one.snapshot && s.guid == one.guid; });
  if (found == snapshots.end()) throw Error(fmt::format("'{}' is not the snapshot it was", one.snapshot));
  return *found;
}

/// Destroys snapshots and bookmarks that came behind the plan's look, taken by somebody's timer. False: there are none.
/// @param long_ago that may be long ago: one that a person took is not lost then
bool sweep_newer(const plan::GoingBack& one, bool long_ago) {
  const auto snapshots = zfs::list_snapshots({one.dataset}, false);
  const auto target =
      std::find_if(snapshots.begin(), snapshots.end(), [&](const auto& s) { return s.guid == one.guid; });
  if (target == snapshots.end()) return false;
  std::vector<std::string> names;
  for (const auto& snapshot : snapshots) {
    if (snapshot.createtxg <= target->createtxg) continue;
    if (!snapshot.clones.empty() || snapshot.holds > 0) {
      throw Error(fmt::format("'{}' was taken meanwhile, and has clones or holds", snapshot.name),
                  fmt::format("see 'zfs get clones {0}' and 'zfs holds {0}'; end that first", snapshot.name));
    }
    if (long_ago && !plan::is_by_the_clock(snapshot.short_name())) {
      throw Error(fmt::format("'{}' was taken since the rollback was cut off, and would be lost", snapshot.name),
                  "send it elsewhere if you need it ('zfs send'), destroy it, then run 'kld recover'");
    }
    names.push_back(snapshot.name);
  }
  std::vector<std::string> marks;
  for (const auto& bookmark : zfs::list_bookmarks({one.dataset})) {
    if (bookmark.createtxg > target->createtxg) marks.push_back(bookmark.name);
  }
  zfs::destroy_snapshots_if_present(names);
  zfs::destroy_bookmarks_if_present(marks);
  return !names.empty() || !marks.empty();
}

void go_back(const plan::GoingBack& one, bool long_ago) {
  for (int tries = 0;; ++tries) {
    try {
      return zfs::rollback(one.dataset, one.snapshot);
    } catch (const Error&) {
      if (tries >= 3 || !sweep_newer(one, long_ago)) throw;
    }
  }
}

}  // namespace

void RealRunner::act(const plan::CheckNewer& step) const {
  const auto names = names_of(step.datasets);
  require_not_open(names, "end that program, or wait until it is done");
  if (libvirt().has_managed_save(step.domain.uuid)) {
    throw Error(fmt::format("the memory of domain '{}' was saved meanwhile", step.domain.name),
                fmt::format("start it, or discard that with 'virsh managedsave-remove {}'", step.domain.name));
  }
  const auto snapshots = zfs::list_snapshots(names, false);
  const auto bookmarks = zfs::list_bookmarks(names);
  const auto forget = [](const std::string& name) {
    throw Error(fmt::format("'{}' came meanwhile, and would be lost", name), "try again to have it listed");
  };
  for (const auto& one : step.datasets) {
    const auto& target = target_in(snapshots, one);
    for (const auto& newer : snapshots) {
      if (newer.dataset() != one.dataset || newer.createtxg <= target.createtxg) continue;
      const bool known = std::any_of(step.snapshots.begin(), step.snapshots.end(),
                                     [&](const auto& s) { return s.name == newer.name && s.guid == newer.guid; });
      if (!known) forget(newer.name);
    }
    for (const auto& newer : bookmarks) {
      if (!newer.name.starts_with(one.dataset + "#") || newer.createtxg <= target.createtxg) continue;
      const auto& known = step.bookmarks;
      if (std::find(known.begin(), known.end(), newer.name) == known.end()) forget(newer.name);
    }
  }
}

void RealRunner::act(const plan::RollbackDatasets& step) const {
  const auto names = names_of(step.datasets);
  // Started by hand since: ZFS would go back all the same, beneath what runs.
  require_not_open(names, "end that program, then run 'kld recover'");
  const auto snapshots = zfs::list_snapshots(names, false);
  for (const auto& one : step.datasets) target_in(snapshots, one);
  zfs::destroy_bookmarks_if_present(step.bookmarks);
  for (const auto& one : step.datasets) go_back(one, recovering_);
}

}  // namespace kld::run
