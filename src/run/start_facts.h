// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "plan/start_guard.h"
#include "run/journal.h"

namespace kld::run {

/// What decides whether a domain of this definition may start, by the root below which its volumes lie: read from ZFS,
/// the mounts and the journal. libvirt, which waits for the answer, is not asked. `configured`: the root where a volume
/// lies that the definition names by a storage pool alone; empty: not known. Throws Error when the definition cannot be
/// read.
std::vector<plan::StartFacts> start_facts(const std::string& definition, const std::string& configured,
                                          const std::string& journal = kJournalDirectory);

}  // namespace kld::run
