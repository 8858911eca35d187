// SPDX-License-Identifier: Apache-2.0
// The real runner's steps that destroy.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "run/real_runner.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

// A new dataset's own metadata.
constexpr std::uint64_t kNothingWritten = 1ULL << 20;
constexpr int kBusyWaitMs = 5000;

std::vector<std::string> snapshots_of(const std::string& dataset) {
  std::vector<std::string> names;
  for (const auto& snapshot : zfs::list_snapshots({dataset}, false)) names.push_back(snapshot.name);
  return names;
}

/// Adds who is in the way to a "busy" error.
void destroy_naming_holder(const std::string& dataset) {
  for (int tries = 0;; ++tries) {
    try {
      return zfs::destroy_if_present(dataset, kBusyWaitMs);
    } catch (const Error& error) {
      // One with a snapshot is busy, too: somebody's timer may have taken one behind our look.
      const auto meanwhile = tries < 3 ? snapshots_of(dataset) : std::vector<std::string>();
      zfs::destroy_snapshots_if_present(meanwhile);
      if (!meanwhile.empty()) continue;
      const auto holders = zfs::holders({dataset});
      if (holders.empty()) throw;
      throw Error(fmt::format("{}: {}", error.message(), zfs::to_string(holders.front())));
    }
  }
}

/// Those of these snapshots that are there, by name and guid; with `unused`, that have neither clones nor holds.
std::vector<std::string> present(const std::vector<plan::DoomedSnapshot>& doomed, bool unused) {
  constexpr std::size_t kFew = 500;
  std::map<std::string, std::uint64_t> wanted;
  std::vector<std::string> names;
  std::vector<std::string> datasets;
  for (const auto& one : doomed) {
    wanted[one.name] = one.guid;
    names.push_back(one.name);
    const auto dataset = zfs::dataset_of(one.name);
    if (std::find(datasets.begin(), datasets.end(), dataset) == datasets.end()) datasets.push_back(dataset);
  }
  std::vector<std::string> found;
  const auto guids = !unused && names.size() <= kFew ? zfs::snapshot_guids(names) : std::nullopt;
  if (guids) {
    for (const auto& name : names) {
      if (const auto guid = guids->find(name); guid != guids->end() && guid->second == wanted[name])
        found.push_back(name);
    }
    return found;
  }
  // A few are asked for by name: their datasets may have thousands of others.
  for (const auto& snapshot :
       names.size() <= kFew ? zfs::find_snapshots(names) : zfs::list_snapshots(datasets, false)) {
    const auto guid = wanted.find(snapshot.name);
    if (guid == wanted.end() || guid->second != snapshot.guid) continue;
    if (!unused || (snapshot.clones.empty() && snapshot.holds == 0)) found.push_back(snapshot.name);
  }
  return found;
}

/// Of these snapshots, those that nothing was cloned from.
std::vector<std::string> without_clones(const std::vector<std::string>& names) {
  std::vector<std::string> datasets;
  for (const auto& name : names) datasets.push_back(zfs::dataset_of(name));
  std::vector<std::string> result;
  for (const auto& snapshot : zfs::list_snapshots(datasets, false)) {
    if (snapshot.clones.empty() && std::find(names.begin(), names.end(), snapshot.name) != names.end())
      result.push_back(snapshot.name);
  }
  return result;
}

}  // namespace

void RealRunner::act(const plan::DestroyDatasets& step) const {
  std::vector<std::string> names;
  for (const auto& doomed : step.datasets) names.push_back(doomed.name);
  const auto guids = zfs::dataset_guids(names);
  const auto is_another = [&](const plan::Doomed& doomed) {
    const auto guid = guids.find(doomed.name);
    return guid != guids.end() && guid->second != doomed.guid;
  };
  for (const auto& doomed : step.datasets) {
    // A question may have stood for long.
    if (recovering_ || !is_another(doomed)) continue;
    throw Error(fmt::format("'{}' is another dataset by now: it stays", doomed.name),
                "look at both; 'kld recover' destroys the rest of the machine");
  }
  for (const auto& doomed : step.datasets) {
    if (is_another(doomed)) continue;  // not ours to destroy
    if (!doomed.directory.empty()) zfs::unmount_if_mounted(doomed.name, doomed.directory);
    if (!guids.contains(doomed.name)) continue;
    zfs::destroy_snapshots_if_present(snapshots_of(doomed.name));
    destroy_naming_holder(doomed.name);
  }
}

void RealRunner::act(const plan::DestroySnapshots& step) const {
  // Of machines that others use meanwhile, what they claim stays.
  const auto names = unclaimed(present(step.snapshots, step.if_unused));
  if (!step.if_unused) return zfs::destroy_snapshots_if_present(names);
  destroy_unused(names);
}

void RealRunner::destroy_unused(const std::vector<std::string>& snapshots) const {
  try {
    zfs::destroy_snapshots_if_present(snapshots);
  } catch (const Error& error) {
    // A courtesy: what was asked for is done. Somebody is sending or cloning it, and may destroy it then.
    if (warn_) warn_(fmt::format("{} stays: {}", fmt::join(snapshots, ", "), error.message()));
  }
}

void RealRunner::act(const plan::DestroyOwn& step) const {
  std::vector<std::string> names;
  for (const auto& [name, op] : zfs::local_property(zfs::property::op, step.snapshots)) {
    if (op == step.op) names.push_back(name);
  }
  // Another operation has cloned one since: it stays, and goes with its last user.
  names = unclaimed(without_clones(names));
  if (step.if_unused) {
    destroy_unused(names);
  } else {
    zfs::destroy_snapshots_if_present(names);
  }
  for (const auto& dataset : step.datasets) destroy_own(dataset, step);
}

std::vector<std::string> RealRunner::unclaimed(const std::vector<std::string>& snapshots) const {
  std::vector<std::string> free;
  for (const auto& snapshot : snapshots) {
    const auto name = snapshot.substr(snapshot.find('@') + 1);
    const bool used = std::any_of(shared_.begin(), shared_.end(), [&](const std::string& machine) {
      return !claims_.take(machine, name, Lock::exclusive);
    });
    if (!used) free.push_back(snapshot);
  }
  return free;
}

void RealRunner::destroy_own(const std::string& dataset, const plan::DestroyOwn& step) const {
  const auto below = zfs::list_datasets(dataset);
  if (!below) return;
  const auto snapshots = zfs::list_snapshots({dataset}, false);
  const auto marks = zfs::local_property(zfs::property::op, {dataset});
  const bool marked = !marks.empty() && marks.front().second == step.op;
  // ZFS makes a dataset first and sets its properties then: a power cut in between leaves it without a mark. The plan
  // had seen the name free, so what is there without any mark, without snapshots or data, and younger, is what it made.
  bool unmarked = false;
  if (marks.empty() && snapshots.empty() && unmarked_ && below->front().written < kNothingWritten) {
    const auto created = zfs::creation_time(dataset);
    unmarked = created >= unmarked_->first && created <= unmarked_->second;
  }
  if (!marked && !unmarked) return;
  if (below->size() > 1) {
    // Others have put their own below the common parents since: these stay.
    if (const auto name = zfs::last_component(dataset); name == ".state" || name == ".kept") return;
    throw Error(fmt::format("'{}' has datasets below it that this operation did not make", dataset));
  }
  // What snapshots by the clock took of it meanwhile is nothing but what this operation made: no machine could use it
  // yet. A clone or a hold tells that somebody does.
  std::vector<std::string> taken;
  for (const auto& snapshot : snapshots) {
    if (!snapshot.clones.empty() || snapshot.holds > 0) {
      throw Error(
          fmt::format("'{}' is used: snapshot '{}' has clones or holds", dataset, snapshot.name),
          fmt::format("see 'zfs get clones {0}' and 'zfs holds {0}'; end that, then run 'kld recover'", snapshot.name));
    }
    taken.push_back(snapshot.name);
  }
  if (below->front().kind == zfs::Kind::filesystem && below->front().mounted) {
    zfs::unmount_if_mounted(dataset, below->front().mountpoint);
  }
  zfs::destroy_snapshots_if_present(taken);
  destroy_naming_holder(dataset);
}

}  // namespace kld::run
