// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "plan/start_guard.h"
#include "run/journal.h"

namespace kld::run {

/// What decides whether a domain of this definition may start: read from ZFS, the mounts and the journal. libvirt,
/// which waits for the answer, is not asked. Throws Error when the definition cannot be read.
plan::StartFacts start_facts(const std::string& definition, const std::string& journal = kJournalDirectory);

}  // namespace kld::run
