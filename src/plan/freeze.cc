// SPDX-License-Identifier: Apache-2.0
#include "plan/freeze.h"

#include <fmt/format.h>

namespace kld::plan {

std::variant<FreezePlan, Refusal> plan_freeze(const Machine& machine, FreezeMode mode,
                                              const std::optional<std::string>& problem) {
  if (mode == FreezeMode::never || !machine.active()) return FreezePlan{};
  std::string why;
  if (machine.domain->state != virt::State::running) {
    why = fmt::format("it is {}", virt::to_string(machine.domain->state));
  } else if (!machine.held.empty()) {
    why = fmt::format("{}, which no agent freezes", machine.held.front());
  } else if (problem) {
    why = *problem;
  } else {
    return FreezePlan{{{{machine.name, machine.domain->uuid}, kAgentSeconds, mode == FreezeMode::always}}, {}};
  }
  if (mode == FreezeMode::attempt) {
    return FreezePlan{{}, {fmt::format("machine '{}' is not frozen: {}", machine.name, why)}};
  }
  return Refusal{"cannot-freeze",
                 fmt::format("machine '{}' cannot be frozen: {}", machine.name, why),
                 {},
                 "qemu-guest-agent must run in it; --freeze=try takes the snapshot all the same, crash-consistent"};
}

}  // namespace kld::plan
