// SPDX-License-Identifier: Apache-2.0
// The real runner's step that discards what was written since a snapshot.
#include <fmt/format.h>

#include <algorithm>

#include "run/real_runner.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/device.h"

namespace kld::run {
namespace {

/// Destroys snapshots and bookmarks that came behind the plan's look, taken by somebody's timer. False: there are none.
bool sweep_newer(const plan::GoingBack& one) {
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

void go_back(const plan::GoingBack& one) {
  for (int tries = 0;; ++tries) {
    try {
      return zfs::rollback(one.dataset, one.snapshot);
    } catch (const Error&) {
      if (tries >= 3 || !sweep_newer(one)) throw;
    }
  }
}

}  // namespace

void RealRunner::act(const plan::RollbackDatasets& step) const {
  std::vector<std::string> names;
  for (const auto& one : step.datasets) names.push_back(one.dataset);
  // Started by hand since: ZFS would go back all the same, beneath what runs.
  if (const auto holders = zfs::holders(names); !holders.empty()) {
    throw Error(zfs::to_string(holders.front()), "end that program, then run 'kld recover'");
  }
  const auto snapshots = zfs::list_snapshots(names, false);
  for (const auto& one : step.datasets) {
    const bool there = std::any_of(snapshots.begin(), snapshots.end(),
                                   [&](const auto& s) { return s.name == one.snapshot && s.guid == one.guid; });
    if (!there) throw Error(fmt::format("'{}' is not the snapshot it was", one.snapshot));
  }
  zfs::destroy_bookmarks_if_present(step.bookmarks);
  for (const auto& one : step.datasets) go_back(one);
}

}  // namespace kld::run
