// SPDX-License-Identifier: Apache-2.0
// Going back to a snapshot, and back again, without destroying anything: another version of the machine takes its
// place, and the present is set aside whole.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/kept.h"
#include "plan/plan.h"
#include "plan/snapshot.h"
#include "plan/startable.h"
#include "plan/view.h"

namespace kld::plan {

/// How long a guest has to shut down before it is stopped at once. Seconds.
inline constexpr std::uint64_t kShutdownSeconds = 120;

struct RollbackRequest {
  std::string machine;
  std::optional<std::string> snapshot;  ///< the newest one when it is not said
  bool stop = false;                    ///< shut it down if it runs, and start it again
  std::uint64_t timeout = kShutdownSeconds;
  bool only_disks = false;  ///< definition, firmware variables and TPM stay
  UnixTime keep_for = kKeptFor;
};

struct UndoRequest {
  std::string machine;
  std::optional<std::string> kept;  ///< the newest one when it is not said
  bool stop = false;
  std::uint64_t timeout = kShutdownSeconds;
  UnixTime keep_for = kKeptFor;
};

/// What the readers found beyond the view.
struct RollbackFacts {
  Definitions definitions;
  std::string past_definition;           ///< domain.xml of the version that comes; empty: not there
  std::vector<zfs::Snapshot> snapshots;  ///< the machine's
  std::vector<std::string> taken;        ///< names of snapshots that there are already
  std::vector<std::string> block_jobs;
  std::vector<std::string> holders;  ///< who else has a disk of the machine open
  /// Sends that run of snapshots which would move: the snapshot, and who sends it where.
  std::vector<std::pair<std::string, std::string>> sends;
  std::vector<std::string> bookmarks;                 ///< of the machine's datasets and the version that comes
  std::map<std::string, zfs::Properties> properties;  ///< local and received, by dataset
  HostParts host;
};

/// The one of `all` that is meant; nullptr when there is none.
const MachineSnapshot* snapshot_to_go_back_to(const Machine& machine, const RollbackRequest& request,
                                              const std::vector<MachineSnapshot>& all);

/// The machine as it was at the snapshot; the present goes aside with the snapshots that are newer.
Result plan_rollback(const View& view, const RollbackRequest& request, const RollbackFacts& facts, const Fresh& fresh);

/// A version that was set aside comes back; the present takes its place there.
Result plan_undo(const View& view, const UndoRequest& request, const RollbackFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
