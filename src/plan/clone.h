// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/seed.h"
#include "plan/snapshot.h"
#include "plan/view.h"

namespace kld::plan {

struct CloneRequest {
  std::string source;
  std::vector<std::string> targets;
  std::optional<std::string> snapshot;  ///< clone this state, not the present
  bool full = false;                    ///< an independent copy
  bool start = false;
  bool new_tpm = false;  ///< an empty TPM instead of a copy
  bool over_limit = false;
  FreezeMode freeze = FreezeMode::never;
  std::optional<std::uint64_t> memory;  ///< bytes
  std::optional<unsigned> vcpus;
  std::vector<std::string> without;  ///< disk targets to leave out, or "hostdev"
  SeedRequest seed;
};

/// What the readers found beyond the view.
struct CloneFacts {
  Definitions definitions;               ///< of the present
  std::string snapshot_definition;       ///< domain.xml inside the named snapshot; empty: not there
  SeedDocuments seed;                    ///< the source's seed (of the snapshot, when one is named); empty: none
  std::vector<std::string> taken;        ///< snapshot names the source has
  std::vector<zfs::Snapshot> snapshots;  ///< the source's
  /// Bytes written to the source since the snapshot that is a candidate for reuse, asked behind a sync; nullopt: none.
  std::optional<std::uint64_t> written;
  std::vector<std::string> going;  ///< of these, names that another command is destroying
  std::vector<std::string> block_jobs;
  std::optional<std::string> freeze_problem = std::nullopt;  ///< why the source's guest cannot be frozen
  std::vector<std::string> taken_paths;  ///< of the paths the clones would use, those that exist already
  std::optional<zfs::Pool> pool;         ///< read for a full copy
};

/// One atomic snapshot of the whole machine, then clones of all its datasets and one definition each.
Result plan_clone(const View& view, const CloneRequest& request, const CloneFacts& facts, const Fresh& fresh);

/// web-1 … web-50: names for `--count 50 --prefix web-`, the first free numbers are not searched: a taken one is
/// refused.
std::vector<std::string> numbered(const std::string& prefix, unsigned count);

}  // namespace kld::plan
