// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "run/executor.h"
#include "run/freeze.h"
#include "run/lock.h"
#include "virt/connection.h"

namespace kld::run {

/// Hears of long work: what, how much is done (0 to 1), bytes per second are the listener's to compute.
using Progress = std::function<void(const std::string& what, double done, std::uint64_t total_bytes)>;

/// Carries steps out on this host: libzfs_core, libvirt, files.
class RealRunner : public Runner {
 public:
  RealRunner(const virt::Connection* connection, Progress progress, std::function<bool()> interrupted)
      : connection_(connection), progress_(std::move(progress)), interrupted_(std::move(interrupted)) {}
  void run(const plan::Step& step) override;
  void require_unused(const plan::AtStake& stake) override;
  void require_unused_since(const std::vector<plan::Started>& started) override;
  bool any_exists(const std::vector<std::string>& datasets) override;
  /// From here on it undoes: waits are not cut short.
  void begin_undo() {
    undoing_ = true;
    interrupted_ = nullptr;
  }
  /// Hears what is not as it was asked for, and no failure.
  void warn_with(std::function<void(const std::string&)> warn) { warn_ = std::move(warn); }
  /// The machines' locks, which programs that change them hold on should we be killed.
  void give_locks(std::vector<int> descriptors) { locks_ = std::move(descriptors); }
  /// Recovers what another process left: a domain that runs by now is in use, and not taken away. Of the machines
  /// whose locks are shared with others meanwhile, what these may be using is left alone: saved definitions, and
  /// snapshots that they claim.
  /// @param began when the operation did
  void recover(std::vector<std::string> shared = {}, UnixTime began = 0) {
    recovering_ = true;
    shared_ = std::move(shared);
    began_ = began;
  }
  /// What came of the freezes so far.
  const std::vector<Frozen>& frozen() const { return frozen_; }
  /// What the operation had made and not marked yet is known by its age: from its beginning to this time.
  void take_unmarked(UnixTime from, UnixTime to) { unmarked_ = {from, to}; }

 private:
  const virt::Connection& libvirt() const;

  void act(const plan::CreateFilesystem& step) const;
  void act(const plan::CreateVolume& step) const;
  void act(const plan::CloneDatasets& step) const;
  void act(const plan::TakeSnapshots& step);
  void act(const plan::CopyDataset& step) const;
  void act(const plan::MountFilesystems& step) const;
  void act(const plan::UnmountFilesystems& step) const;
  void act(const plan::AwaitDevices& step) const;
  void act(const plan::AwaitUnused& step) const;
  void act(const plan::WriteFiles& step) const;
  void act(const plan::WriteSeeds& step) const;
  void act(const plan::WriteImage& step) const;
  void act(const plan::CopyFiles& step) const;
  void act(const plan::MoveAside& step) const;
  void act(const plan::RenameDataset& step) const;
  void act(const plan::PromoteDatasets& step) const;
  void act(const plan::SetProperties& step) const;
  void act(const plan::DefineDomains& step) const;
  void act(const plan::UndefineDomains& step) const;
  void act(const plan::RedefineDomain& step);
  void act(const plan::SaveDefinition& step) const;
  void act(const plan::SetAutostart& step) const;
  std::chrono::seconds asked_still(const plan::StartDomain& step) const;
  void act(const plan::StartDomain& step) const;
  void act(const plan::StopDomain& step) const;
  void act(const plan::DiscardSaved& step) const;
  void act(const plan::DestroyDatasets& step) const;
  void act(const plan::DestroySnapshots& step) const;
  void act(const plan::CheckNewer& step) const;
  void act(const plan::RollbackDatasets& step) const;
  void act(const plan::DestroyOwn& step) const;
  void act(const plan::RestoreFiles& step) const;
  void destroy_own(const std::string& dataset, const plan::DestroyOwn& step) const;
  void destroy_unused(const std::vector<std::string>& snapshots) const;
  std::vector<std::string> unclaimed(const std::vector<std::string>& snapshots) const;

  const virt::Connection* connection_;
  Progress progress_;
  std::function<bool()> interrupted_;
  std::function<void(const std::string&)> warn_;
  std::vector<int> locks_;
  std::vector<Frozen> frozen_;
  bool recovering_ = false;
  UnixTime began_ = 0;
  std::vector<std::string> shared_;
  mutable SnapshotClaims claims_;
  bool undoing_ = false;
  std::string edited_;  ///< a domain that somebody edited before we did: the undo leaves it as it is
  std::optional<std::pair<UnixTime, UnixTime>> unmarked_;
};

}  // namespace kld::run
