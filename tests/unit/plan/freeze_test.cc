// SPDX-License-Identifier: Apache-2.0
#include "plan/freeze.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "builders.h"
#include "plan/snapshot.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;

std::variant<FreezePlan, Refusal> freeze(virt::State state, FreezeMode mode,
                                         const std::optional<std::string>& problem = std::nullopt) {
  Host host;
  host.machine("web", {.state = state});
  return plan_freeze(host.require("web"), mode, problem);
}

std::vector<Freeze> freezes(const std::variant<FreezePlan, Refusal>& result) {
  return std::get<FreezePlan>(result).freezes;
}

TEST(PlanFreeze, FreezesWhatRuns) {
  const Freeze must{{"web", test::uuid_of("web")}, kAgentSeconds, true};
  EXPECT_EQ(freezes(freeze(virt::State::running, FreezeMode::always)), std::vector<Freeze>{must});
  Freeze may = must;
  may.required = false;
  EXPECT_EQ(freezes(freeze(virt::State::running, FreezeMode::attempt)), std::vector<Freeze>{may});
}

TEST(PlanFreeze, NothingWhereNothingRunsOrNobodyAsks) {
  EXPECT_TRUE(freezes(freeze(virt::State::shut_off, FreezeMode::always)).empty());
  EXPECT_TRUE(freezes(freeze(virt::State::shut_off, FreezeMode::attempt, "no agent")).empty());
  EXPECT_TRUE(freezes(freeze(virt::State::running, FreezeMode::never, "no agent")).empty());
}

TEST(PlanFreeze, ARefusalNamesWhyItCannotBe) {
  const auto paused = freeze(virt::State::paused, FreezeMode::always);
  ASSERT_TRUE(std::holds_alternative<Refusal>(paused));
  EXPECT_EQ(std::get<Refusal>(paused).message, "machine 'web' cannot be frozen: it is paused");
  const auto silent = freeze(virt::State::running, FreezeMode::always, "its agent does not answer: not connected");
  ASSERT_TRUE(std::holds_alternative<Refusal>(silent));
  EXPECT_EQ(std::get<Refusal>(silent).message,
            "machine 'web' cannot be frozen: its agent does not answer: not connected");
}

TEST(PlanFreeze, WhatIsMountedOnTheHostNoAgentFreezes) {
  Host host;
  host.machine("web", {.state = virt::State::running});
  auto machine = host.require("web");
  machine.held = {"a mounted file system has rpool/vms/web open"};
  EXPECT_TRUE(std::holds_alternative<Refusal>(plan_freeze(machine, FreezeMode::always, std::nullopt)));
}

TEST(PlanFreeze, TryFallsBackAndSaysSo) {
  const auto result = freeze(virt::State::paused, FreezeMode::attempt);
  ASSERT_TRUE(std::holds_alternative<FreezePlan>(result));
  EXPECT_TRUE(freezes(result).empty());
  EXPECT_EQ(std::get<FreezePlan>(result).warnings,
            std::vector<std::string>{"machine 'web' is not frozen: it is paused"});
}

TEST(PlanFreeze, TheSnapshotSaysHowItWasTaken) {
  Host host;
  host.machine("web", {.state = virt::State::running});
  const Definitions saved{};
  const auto taken = [&](FreezeMode mode, const std::optional<std::string>& problem) {
    const auto result = plan_snapshot(host.view, {"web", "s", mode}, saved, {}, {}, fresh(), problem);
    return std::get<TakeSnapshots>(std::get<Plan>(result).steps.back());
  };
  const auto frozen = taken(FreezeMode::always, std::nullopt);
  EXPECT_EQ(frozen.properties.at(zfs::property::consistency), "application");
  EXPECT_EQ(describe(frozen),
            "Snapshotting rpool/vms/web@s, rpool/vms/.state/web@s, rpool/vms/.state/web/tpm@s, with web frozen");
  const auto lines = commands(frozen);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines.front(), (Argv{"virsh", "domfsfreeze", "web"}));
  EXPECT_EQ(lines.back(), (Argv{"virsh", "domfsthaw", "web"}));
  EXPECT_EQ(step_from_json(to_json(frozen)), Step(frozen));
  EXPECT_EQ(taken(FreezeMode::attempt, "no agent").properties.at(zfs::property::consistency), "crash");
}

}  // namespace
}  // namespace kld::plan
