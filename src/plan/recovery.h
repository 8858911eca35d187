// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/plan.h"

/// What becomes of a plan that was cut off: how far it can be undone, from where it is finished, and which notes of its
/// progress must be on disk before it goes on.
namespace kld::plan {

/// How far a plan came, as its journal tells.
struct Progress {
  std::optional<std::size_t> begun;  ///< the last step that is noted as begun
  bool other_boot = false;           ///< the host has started anew since: what was not on disk is gone
};

/// Of each step: whether the note that it begins must be on disk before it does.
std::vector<bool> synced_notes(const Plan& plan);

/// The first step that cannot be undone; steps.size() when all can.
std::size_t no_return(const Plan& plan);

/// True when a failure of this step of a running plan is undone, with all before it.
bool is_undone_when_it_fails(const Plan& plan, std::size_t step);

/// The step that a plan behind its commit point goes on with: the last that began, or an earlier one whose work went
/// with the power.
std::size_t first_to_finish(const Plan& plan, const Progress& progress);

/// What the rest of a plan destroys for good.
struct AtStake {
  std::vector<std::string> datasets;
  std::vector<std::string> undefined;  ///< UUIDs of the domains that it undefines first
};
AtStake at_stake(const Plan& plan, std::size_t from);

/// Names of the machines' datasets that it makes; not of their common parent, which stays.
std::vector<std::string> made_by(const Plan& plan);

/// True for a machine that the operation only takes from, as others may at the same time: what is cloned.
bool only_takes_from(const Plan& plan, const std::string& machine);

/// True when the operation works on the machine as it is now, so that it must neither start nor be snapshotted
/// meanwhile; false of one that only reads it, takes from it, or removes what is set aside.
bool works_on(const Plan& plan, const std::string& machine);

/// A domain that a plan starts.
struct Started {
  DomainName domain;
  bool defined = false;  ///< by the plan, too: an undo takes it away
};

/// Domains that it had started when the step `last` was the last to begin, but for steps that were undone since.
std::vector<Started> started_by(const Plan& plan, std::size_t last, const std::set<std::size_t>& undone = {});

/// True when a domain that is defined by `present` has what this step gives it: the places of its disks and firmware
/// variables, and the generation id if that is new. All else may have been edited since, and stays.
bool is_done(const RedefineDomain& step, const std::string& present);

/// The last step that may have run before the commit point; none: nothing was done.
std::optional<std::size_t> last_to_undo(const Plan& plan, const Progress& progress);

/// True when a step behind the commit point that fails in recovery can be undone with all before it: it could not do
/// anything, or libvirt knows of nothing yet. After a power cut what is noted tells too little for the latter.
bool can_go_back(const Plan& plan, std::size_t failed, const Progress& progress);

/// True when a start that fails in recovery has all undone, as in a living run: the machine ran before, the version
/// that ran is there, and the other one was never started.
bool takes_all_back(const Plan& plan, std::size_t failed, const Progress& progress);

/// What a finished plan can do without: the machine is whole, and may have been used since.
bool is_optional(const Step& step);

/// What is left of the plan is optional: it can be called done without it.
bool is_whole_without(const Plan& plan, std::size_t step);

/// On a host that has started anew, what runs and what is mounted is its own affair. Not the start of a machine that
/// starts with the host, where the plan, `steps`, had turned that off meanwhile.
bool is_left_to_the_host(const std::vector<Step>& steps, const Step& step);

}  // namespace kld::plan
