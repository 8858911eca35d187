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

}  // namespace kld::plan
