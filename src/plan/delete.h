// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

struct DeleteRequest {
  std::vector<std::string> machines;
  bool force = false;          ///< stop those that run
  bool discard_saved = false;  ///< managed save images go, too
  bool ghost = false;          ///< set aside rather than destroyed, until nothing depends on it
  UnixTime keep_for = 0;       ///< set aside for so long at least; seconds, 0: not asked for

  bool is_set_aside() const { return ghost || keep_for > 0; }
};

struct DeleteFacts {
  std::vector<zfs::Snapshot> snapshots;  ///< of all datasets of the machines, and of the machines they were cloned from
  std::vector<zfs::Dataset> origins;     ///< name and origin of everything in the pool: clones may lie anywhere
  std::map<std::string, std::string> definitions;              ///< machine to inactive XML, for the undo
  std::map<std::string, std::vector<std::string>> block_jobs;  ///< by machine
  /// Of machines that run: who else has a disk of them open. By machine.
  std::map<std::string, std::vector<std::string>> holders = {};
  std::map<std::string, std::vector<std::string>> kept_holders = {};  ///< of what was set aside, by its name
  std::map<std::string, std::string> volumes = {};                    ///< that the definitions name by storage pools
  /// Where the definitions of the domains that stay have their firmware variables. By domain.
  std::map<std::string, std::string> nvrams = {};
  std::map<std::string, std::string> mounts = {};  ///< what is on top at each mount point
};

/// What goes, for the question before it.
struct Doom {
  std::vector<std::string> lines;
  std::uint64_t used = 0;  ///< bytes
};
Doom describe_deletion(const View& view, const DeleteRequest& request, const DeleteFacts& facts);

/// Checks, stops, undefines, destroys last. Refused with the list of clones that hang on the machines' snapshots.
Result plan_delete(const View& view, const DeleteRequest& request, const DeleteFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
