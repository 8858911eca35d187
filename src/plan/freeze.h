// SPDX-License-Identifier: Apache-2.0
// Whether a guest's file systems stand still while it is snapshotted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

enum class FreezeMode { never, attempt, always };

/// How long a guest's agent has to answer each time. Seconds.
inline constexpr std::uint64_t kAgentSeconds = 10;

/// What a snapshot is taken with: its freeze, or why there is none.
struct FreezePlan {
  std::vector<Freeze> freezes;
  std::vector<std::string> warnings;
};

/// `problem`: why the guest cannot be frozen, as its agent says. Without a guest that runs there is nothing to freeze.
/// A Refusal where it must be frozen and cannot.
std::variant<FreezePlan, Refusal> plan_freeze(const Machine& machine, FreezeMode mode,
                                              const std::optional<std::string>& problem);

}  // namespace kld::plan
