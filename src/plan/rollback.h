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

/// What a rollback and its undo are both asked for.
struct SwapRequest {
  std::string machine;
  bool stop = false;  ///< shut it down if it runs, and start it again
  std::uint64_t timeout = kShutdownSeconds;
  UnixTime keep_for = kKeptFor;
};

struct RollbackRequest : SwapRequest {
  std::optional<std::string> snapshot;  ///< the newest one when it is not said
  bool only_disks = false;              ///< definition, firmware variables and TPM stay
  bool destroy_newer = false;           ///< the classic, `zfs rollback -r`: nothing is set aside
};

struct UndoRequest : SwapRequest {
  std::optional<std::string> kept;  ///< the newest one when it is not said
};

/// What the readers found beyond the view.
struct RollbackFacts {
  Definitions definitions;
  std::string past_definition;           ///< domain.xml of the version that comes; empty: not there
  std::vector<zfs::Snapshot> snapshots;  ///< the machine's
  std::vector<std::string> taken;        ///< names of snapshots that there are already
  std::vector<std::string> block_jobs;
  std::vector<std::string> holders;       ///< who else has a disk of the machine open
  std::vector<std::string> kept_holders;  ///< who has a disk of the version that comes back open
  /// Sends that run: the snapshot, or a dataset with all of its snapshots, and who sends it where.
  std::vector<std::pair<std::string, std::string>> sends;
  std::vector<zfs::Bookmark> bookmarks;  ///< of the machine's datasets and the version that comes
  /// Bytes written since the snapshot, by dataset; of those that ZFS could tell of. For a rollback that loses them.
  std::map<std::string, std::uint64_t> written = {};
  std::map<std::string, zfs::Properties> properties;  ///< local and received, by dataset
  HostParts host;
};

/// The one of `all` that is meant; nullptr when there is none.
const MachineSnapshot* snapshot_to_go_back_to(const Machine& machine, const RollbackRequest& request,
                                              const std::vector<MachineSnapshot>& all);

/// The machine as it was at the snapshot; the present goes aside with the snapshots that are newer. With
/// `destroy_newer` both are destroyed instead.
Result plan_rollback(const View& view, const RollbackRequest& request, const RollbackFacts& facts, const Fresh& fresh);

/// A version that was set aside comes back; the present takes its place there.
Result plan_undo(const View& view, const UndoRequest& request, const RollbackFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
