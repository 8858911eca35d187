// SPDX-License-Identifier: Apache-2.0
// Which of the versions that are set aside may go by themselves.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/drop.h"
#include "plan/kept.h"
#include "plan/view.h"
#include "zfs/txg.h"

namespace kld::plan {

struct ExpireFacts {
  std::map<std::string, std::string> expires;  ///< what is set on the containers themselves; by container
  std::map<std::string, UnixTime> created;     ///< by container
  std::vector<zfs::Snapshot> snapshots;        ///< of the versions' datasets
  std::vector<zfs::Dataset> origins;           ///< name and origin of everything in the pool
  /// Sends that run of the versions' snapshots: the snapshot, or a dataset with all of them, and who sends it where.
  std::vector<std::pair<std::string, std::string>> sends = {};
  std::map<std::string, std::string> holders = {};  ///< who has a disk of a version open; by volume
  /// What the pool has lived through, by which a clock that jumped is known. nullopt: it cannot be told.
  std::optional<zfs::TxgClock> clock = {};
};

struct Expiry {
  Kept kept;
  bool goes = false;
  bool unclear = false;  ///< stays because what it says of when it expires is no time
  std::string why;       ///< "until 2026-04-11T14:35:00Z", "rpool/vms/web was cloned from it"
};

/// Of everything that is set aside whether it goes: first those that do, each behind what must go before it; then those
/// that stay, oldest first. One goes when
///
/// | all of this is so | because |
/// |---|---|
/// | a rollback or a deletion set it aside | what else did decides itself when it goes |
/// | its `expires` is a UTC time that has passed | `never`, none, and what is no time keep it |
/// | its pool has lived through half of its time | a clock that jumped would take all of them at once |
/// | nothing but what goes was cloned from it, no snapshot of it is held or sent, no disk of it open | |
/// | of a deleted machine, no older version is set aside | see plan_drop |
///
/// A pool counts its time in transaction groups, while it is imported: nothing counts while the host is off.
std::vector<Expiry> expired(const View& view, const ExpireFacts& facts, UnixTime now);

}  // namespace kld::plan
