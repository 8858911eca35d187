// SPDX-License-Identifier: Apache-2.0
// Readers for what is set aside: how it goes there with a deletion, comes back, and expires.
#pragma once

#include "plan/expire.h"
#include "plan/ghost.h"
#include "plan/revive.h"
#include "run/host.h"

namespace kld::run {

plan::GhostFacts ghost_facts(const Host& host, const plan::DeleteRequest& request);

plan::ReviveFacts revive_facts(const Host& host, const plan::ReviveRequest& request);

/// Of all that is set aside in the host's view.
plan::ExpireFacts expire_facts(const Host& host);

}  // namespace kld::run
