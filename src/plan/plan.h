// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "plan/step.h"

namespace kld::plan {

/// What will be done, in order. Reversible steps come first, destruction last.
struct Plan {
  std::string operation;              ///< "clone"
  std::string op;                     ///< UUID; on everything that the plan makes
  std::vector<std::string> machines;  ///< recovery locks them before it touches anything
  std::vector<Step> steps;
  /// Index of the first step that is finished rather than undone once it has begun; steps.size(): all are undone.
  std::size_t commit = 0;
  std::vector<std::string> warnings;
  /// The VM root dataset it works on: while that is not there (pool not imported), nothing can be recovered.
  std::string root = {};
  /// The libvirt connection it works on.
  std::string uri = {};

  bool operator==(const Plan&) const = default;
};

/// A plan, or why not. The only two answers a planner has.
using Result = std::variant<Plan, Refusal>;

inline bool refused(const Result& result) { return std::holds_alternative<Refusal>(result); }

}  // namespace kld::plan
