// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plan/rollback.h"
#include "run/host.h"

namespace kld::run {

/// Processes other than its own QEMU that have disks of the machine open.
std::vector<std::string> other_holders(const plan::Machine& machine);

/// Who has disks of a version that was set aside open.
std::vector<std::string> holders_of(const plan::Kept& kept);

/// What this host has of what a definition needs to start. `own`: the machine's state directory, which comes with it.
plan::HostParts host_parts(const virt::Connection& libvirt, const std::string& xml, const std::string& own);

/// Sends that run of snapshots of these datasets: the snapshot, or the dataset of which it may be any, and who sends
/// it where.
std::vector<std::pair<std::string, std::string>> sends_of(const std::vector<std::string>& datasets);

/// What a rollback or its undo must know beyond the view.
plan::RollbackFacts rollback_facts(const Host& host, const plan::RollbackRequest& request);
plan::RollbackFacts undo_facts(const Host& host, const plan::UndoRequest& request);

}  // namespace kld::run
