// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plan/kept.h"
#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

struct DropRequest {
  std::string machine;
  std::string kept;  ///< its name or its time
};

struct DropFacts {
  std::vector<zfs::Snapshot> snapshots;  ///< of the version's datasets
  std::vector<zfs::Dataset> origins;     ///< name and origin of everything in the pool
};

/// The datasets of a version that was set aside, in the order in which they can be destroyed; its container last.
std::vector<Doomed> doomed_with(const Kept& kept);

/// Destroys one version that was set aside. Refused while something was cloned from it, or it is held.
Result plan_drop(const View& view, const DropRequest& request, const DropFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
