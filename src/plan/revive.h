// SPDX-License-Identifier: Apache-2.0
// Bringing back a deleted machine that is set aside.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/kept.h"
#include "plan/plan.h"
#include "plan/startable.h"
#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

struct ReviveRequest {
  std::string machine;
  std::optional<std::string> kept;  ///< the newest one when it is not said
};

struct ReviveFacts {
  std::string definition;  ///< domain.xml of the version; empty: not there
  bool autostart = false;  ///< as it was when the machine was deleted
  /// Inactive definitions of the domains there are: none may have its UUID or a MAC address of it. By name.
  std::map<std::string, std::string> others = {};
  std::vector<std::string> taken_paths = {};  ///< that it would use, and that exist
  HostParts host = {};
  std::vector<zfs::Snapshot> snapshots = {};  ///< of the version's container
};

/// Where a part of a version that was set aside lies when it is the machine's again.
std::string home_of(const View& view, const Kept& kept, const zfs::Dataset& part);

/// The machine as the version has it, its disks where they lie once it is back.
Machine as_it_was(const View& view, const Kept& kept);

/// Its datasets go back to their places, and libvirt gets its definition again, with a new generation id: what it was
/// is some time ago. It is not started.
Result plan_revive(const View& view, const ReviveRequest& request, const ReviveFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
