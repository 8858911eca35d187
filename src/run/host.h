// SPDX-License-Identifier: Apache-2.0
// Readers: they fill what planners are given. One listing of ZFS, one connection to libvirt.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan/clone.h"
#include "plan/create.h"
#include "plan/snapshot.h"
#include "plan/view.h"
#include "run/config.h"
#include "run/lock.h"
#include "virt/connection.h"

namespace kld::run {

/// What to look at beyond datasets and domains.
struct Look {
  /// Wait until what was written is accounted for, if the machine `definition_of` is shut off and defined as it was
  /// saved: only then does anybody ask. The listing may be older.
  bool sync = false;
  /// With `shallow`: a machine whose snapshots will be asked for, listed in the same call.
  std::string snapshots_of = {};
  std::string definition_of = {};  ///< a machine whose definition will be asked for, read while ZFS lists
  /// What lies directly below the root, and the state of `machines`; not each dataset of every machine.
  bool shallow = false;
  std::vector<std::string> machines = {};
  bool pending_disks = false;  ///< also the disks that domains will have when they start, by whatever name
  bool kept = false;           ///< with `shallow`: also what was set aside below `.kept`
  /// With `shallow`: the same, should this machine not be there itself.
  std::string or_kept_of = {};
  /// With `shallow`: also below filesystems that people made below the root, where they have put volumes.
  bool folders = false;
  virt::Details domains = virt::Details::all;
};

/// The host as one command sees it.
class Host {
 public:
  /// Connects to libvirt and lists ZFS at the same time. Throws Refused when the root is missing or another dataset
  /// than the configuration remembers.
  static Host look(const Root& root, const std::string& uri, const Look& wanted = {});

  const plan::View& view() const { return view_; }
  const virt::Connection& libvirt() const { return *connection_; }
  std::uint64_t root_guid() const;

  /// Inactive definition and saved one of a machine that is there; empty otherwise.
  plan::Definitions definitions(const plan::Machine& machine) const;
  std::vector<std::string> block_jobs(const plan::Machine& machine) const;
  /// Why a machine that runs cannot be frozen; nullopt when it can, or does not run.
  std::optional<std::string> freeze_problem(const plan::Machine& machine) const;
  /// Snapshots of all datasets of the machine, with sizes; oldest first.
  std::vector<zfs::Snapshot> snapshots(const plan::Machine& machine) const;
  /// True when it was waited for what was written.
  bool synced() const { return synced_; }

 private:
  Host() = default;
  void read_definition(const std::string& machine);
  bool rests_as_saved(const std::string& machine) const;
  void find_covered();
  void find_holders(const std::string& name);
  std::unique_ptr<virt::Connection> connection_;
  plan::View view_;
  bool synced_ = false;
  std::string definition_of_;             ///< UUID of the machine whose definition was read while looking
  std::string definition_;                ///< that one
  std::vector<std::string> listed_;       ///< datasets whose snapshots were listed while looking
  std::vector<zfs::Snapshot> snapshots_;  ///< of these
};

/// The zvols that a definition names by libvirt's storage pools: {"zvols/web", "rpool/vms/web"}.
std::map<std::string, std::string> pool_volumes(const virt::Connection& libvirt, const std::string& xml);

/// What `.state/NAME` keeps of a seed, now or inside a snapshot; empty without one.
plan::SeedDocuments read_seed(const std::string& machine, const std::optional<std::string>& snapshot);
/// domain.xml inside a snapshot of the machine's state; empty when it is not there.
std::string read_snapshot_definition(const std::string& machine, const std::string& snapshot);

/// Of KIND-UTC, KIND-UTC.2 … those that a dataset of the machine has already, or that another command is about to
/// make. The first that is free is claimed. Asks ZFS for these names alone.
std::vector<std::string> taken_snapshot_names(const plan::Machine& machine, const std::string& kind, UnixTime now,
                                              SnapshotClaims& claims);
/// Claims a snapshot so that nobody destroys it: false when it is gone, or about to go.
bool keep_snapshot(const plan::Machine& machine, const std::string& short_name, SnapshotClaims& claims);
bool has_snapshot(const plan::Machine& machine, const std::string& short_name);

/// Of the paths that new machines of these names would use, those that exist.
std::vector<std::string> taken_paths(const std::string& root, const std::vector<std::string>& names,
                                     const std::vector<std::string>& labels);

std::vector<std::string> host_bridges();

/// Now, and random names.
plan::Fresh fresh();
std::string random_uuid();

}  // namespace kld::run
