// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/kept.h"

namespace kld::plan {

/// The refusal when somebody looks into what was set aside: a volume of it is open or in a domain's definition, a
/// filesystem of it mounted. `holders`: who has its volumes open, in words.
std::optional<Refusal> kept_in_use(const View& view, const Kept& kept, const std::vector<std::string>& holders);

/// The refusal when the version's container could not be destroyed in the end: somebody's recursive snapshot of it is
/// held, or was cloned. `snapshots`: its own among others.
std::optional<Refusal> container_held(const Kept& kept, const std::vector<zfs::Snapshot>& snapshots);

}  // namespace kld::plan
