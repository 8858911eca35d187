// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plan/adopt_disks.h"
#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

struct AdoptRequest {
  std::string machine;  ///< name of the domain, or of a machine that libvirt lost
};

/// What the planner cannot see in the view.
struct AdoptFacts {
  std::string inactive;  ///< the domain's definition; empty without a domain
  std::string saved_at;  ///< when the saved definition was written, in UTC; empty: not known
  bool saved_exists = false;
  std::string saved;                 ///< contents of domain.xml in the state filesystem
  Volumes volumes;                   ///< for the devices of all domains
  std::set<std::string> partitions;  ///< its disks that are partitions of volumes
  bool nvram_exists = false;         ///< the file of its UEFI variables, named or not
  /// The domain's TPM directory holds files and is not a mount point. An empty one is not in the way.
  bool tpm_state_exists = false;
  std::vector<std::string> block_jobs;
};

/// Takes a libvirt domain on volumes below the root into the layout without copying disk data; or, for a machine that
/// libvirt no longer knows, defines it from its saved definition. A machine that lacks nothing is refused as
/// "already-adopted". Whatever fails, everything is undone.
Result plan_adopt(const View& view, const AdoptRequest& request, const AdoptFacts& facts, const Fresh& fresh);

/// Files and directories that the plan copies and leaves where they are.
std::vector<std::string> originals(const Plan& plan);

/// Names that `--all` takes, sorted: domains whose disks are all volumes below the root and which are not machines
/// yet, and machines with a state filesystem that libvirt lost. `definitions`: inactive XML by name of those domains
/// that are no machines; `volumes` as in AdoptFacts.
std::vector<std::string> adoptable(const View& view, const std::map<std::string, std::string>& definitions,
                                   const Volumes& volumes);

}  // namespace kld::plan
