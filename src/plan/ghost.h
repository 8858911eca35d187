// SPDX-License-Identifier: Apache-2.0
// Deleting machines without destroying them: libvirt forgets them, and their datasets are set aside, from where they
// can be brought back whole.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plan/delete.h"
#include "plan/plan.h"
#include "plan/snapshot.h"
#include "plan/view.h"

namespace kld::plan {

/// What setting aside must know beyond the facts of a deletion.
struct GhostFacts {
  std::map<std::string, Definitions> definitions;  ///< by machine
  /// Sends that run of snapshots of a machine, in words. By machine.
  std::map<std::string, std::vector<std::string>> sends = {};
};

/// When what is set aside now expires.
UnixTime expires_at(const DeleteRequest& request, UnixTime now);

/// What is set aside and what becomes of it, for the question before it.
std::vector<std::string> describe_ghosts(const View& view, const DeleteRequest& request, const DeleteFacts& facts,
                                         UnixTime now);

/// Saves definitions, stops, sets the datasets aside with autostart noted, undefines last. Machines that others were
/// cloned from, held snapshots and older versions are no hindrance: they go along or stay where they are.
Result plan_ghost(const View& view, const DeleteRequest& request, const DeleteFacts& facts, const GhostFacts& more,
                  const Fresh& fresh);

}  // namespace kld::plan
