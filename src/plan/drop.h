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
  std::vector<zfs::Snapshot> snapshots;   ///< of the version's datasets
  std::vector<zfs::Dataset> origins;      ///< name and origin of everything in the pool
  std::vector<std::string> holders = {};  ///< who has a disk of the version open
};

/// The datasets of a version that was set aside, in the order in which they can be destroyed; its container last.
std::vector<Doomed> doomed_with(const Kept& kept);

/// ", machine 'web'," or ", set aside as 'web-2026-04-04T14:35:00Z'," behind the name of a dataset; empty: nobody's.
std::string owner_in_words(const View& view, const std::string& dataset);

/// Destroys one version that was set aside, also of a machine that is there no more. Refused while something was cloned
/// from it, it is held or in use, or it is of a deleted machine of which older versions are set aside.
Result plan_drop(const View& view, const DropRequest& request, const DropFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
