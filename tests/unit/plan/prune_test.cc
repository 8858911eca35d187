// SPDX-License-Identifier: Apache-2.0
#include "plan/prune.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::Host;
using test::kDay;
using test::kHour;
using test::kNow;
using testing::ElementsAre;
using testing::IsEmpty;

/// One snapshot every hour, oldest first, the newest so long before now.
std::vector<MachineSnapshot> every_hour(const std::string& machine, int count, UnixTime newest) {
  std::vector<MachineSnapshot> all;
  for (int i = 0; i < count; ++i) {
    MachineSnapshot whole;
    whole.creation = kNow - newest - (count - 1 - i) * kHour;
    whole.name = "auto-" + format_utc(whole.creation);
    whole.createtxg = 100 + static_cast<std::uint64_t>(i);
    whole.by = "auto";
    for (const auto& dataset : {"rpool/vms/" + machine, "rpool/vms/.state/" + machine}) {
      auto part = test::snapshot(dataset + "@" + whole.name, whole.createtxg, "auto");
      part.creation = whole.creation;
      whole.parts.push_back(part);
    }
    all.push_back(whole);
  }
  return all;
}

AutoMachine with_rule(const Host& host, const std::string& name, const std::string& rule) {
  const auto parsed = parse_retention(rule);
  return {*find_machine(host.view, name), std::get<RetentionRule>(parsed), rule, "", ""};
}

std::vector<std::string> names(const std::vector<Condemned>& all) {
  std::vector<std::string> words;
  words.reserve(all.size());
  for (const auto& one : all) words.push_back(one.machine + "@" + one.snapshot.name);
  return words;
}

class CautionTest : public testing::Test {
 protected:
  Host host;
  void SetUp() override { host.machine("web"); }
};

TEST_F(CautionTest, IsNoneWhenTheClockRuns) {
  const auto caution =
      plan::caution(host.view, with_rule(host, "web", "hourly=2"), every_hour("web", 100, 0), kNow, true);
  EXPECT_TRUE(caution.prunes);
  EXPECT_FALSE(caution.mark);
}

TEST_F(CautionTest, HoldsMostOfItBackAfterAJump) {
  const auto snapshots = every_hour("web", 10, 3 * kDay);
  auto one = with_rule(host, "web", "hourly=48");
  const auto taking = caution(host.view, one, snapshots, kNow, true);
  EXPECT_FALSE(taking.prunes);
  EXPECT_TRUE(taking.mark);
  EXPECT_EQ(taking.going, 9U) << "the new one and the newest of before stay";
  EXPECT_EQ(taking.automatic, 11U);
  const auto full = caution(host.view, one, snapshots, kNow, false);
  EXPECT_EQ(full.going, 8U);
  EXPECT_EQ(full.automatic, 10U);
  one.rule = std::get<RetentionRule>(parse_retention("hourly=1000"));
  EXPECT_TRUE(caution(host.view, one, snapshots, kNow, true).prunes) << "little goes";
}

TEST_F(CautionTest, LooksAtWhatEarlyDeletionWouldRemove) {
  const auto one = with_rule(host, "web", "hourly=1000,daily=1");
  const auto snapshots = every_hour("web", 48, 2 * kDay);
  EXPECT_TRUE(caution(host.view, one, snapshots, kNow, false).prunes);
  EXPECT_FALSE(caution(host.view, one, snapshots, kNow, false, true).prunes);
}

TEST_F(CautionTest, StaysOnceItIsNoted) {
  auto one = with_rule(host, "web", "hourly=2");
  one.held_back = true;
  const auto caution = plan::caution(host.view, one, every_hour("web", 100, 0), kNow, true);
  EXPECT_FALSE(caution.prunes);
  EXPECT_FALSE(caution.mark);
}

TEST_F(CautionTest, IsNotedForARuleThatCannotBeRead) {
  auto one = with_rule(host, "web", "hourly=2");
  one.problem = "'hourly=x' is no rule";
  const auto jumped = caution(host.view, one, every_hour("web", 10, 3 * kDay), kNow, true);
  EXPECT_FALSE(jumped.prunes);
  EXPECT_TRUE(jumped.mark);
  EXPECT_FALSE(caution(host.view, one, every_hour("web", 10, 0), kNow, true).mark);
  EXPECT_FALSE(caution(host.view, one, {}, kNow, true).mark) << "there is nothing to lose";
  auto by_hand = every_hour("web", 1, 3 * kDay);
  by_hand.front().by = "hand";
  EXPECT_FALSE(caution(host.view, one, by_hand, kNow, true).mark) << "nor is there of what people took";
  one.held_back = true;
  EXPECT_FALSE(caution(host.view, one, every_hour("web", 10, 3 * kDay), kNow, true).mark);
}

TEST(ChoosePrune, GoesByMachine) {
  Host host;
  host.machine("db").machine("web");
  const std::vector machines = {with_rule(host, "db", "last=2"), with_rule(host, "web", "hourly=48")};
  const std::map<std::string, std::vector<MachineSnapshot>> snapshots = {
      {"db", every_hour("db", 4, 0)}, {"web", every_hour("web", 4, 0)}, {"other", every_hour("other", 90, 0)}};
  const auto all = snapshots.at("db");
  const auto choice = choose_prune(host.view, machines, snapshots, kNow, false, false);
  EXPECT_THAT(names(choice.queue), ElementsAre("db@" + all[0].name, "db@" + all[1].name));
  EXPECT_EQ(choice.more, 0U);
  EXPECT_THAT(choice.early, IsEmpty());
}

TEST(ChoosePrune, ShowsEarlyDeletionAndDoesItWhereItIsOn) {
  Host host;
  host.machine("web");
  const std::vector machines = {with_rule(host, "web", "hourly=2")};
  const std::map<std::string, std::vector<MachineSnapshot>> snapshots = {{"web", every_hour("web", 5, 600)}};
  const auto& all = snapshots.at("web");
  const auto shown = choose_prune(host.view, machines, snapshots, kNow, true, false);
  const auto done = choose_prune(host.view, machines, snapshots, kNow, true, true);
  EXPECT_EQ(shown.more + names(shown.queue).size(), names(done.queue).size());
  EXPECT_EQ(shown.more, done.more);
  EXPECT_EQ(shown.early, done.early);
  EXPECT_THAT(names(done.queue), ElementsAre("web@" + all[0].name, "web@" + all[1].name, "web@" + all[2].name));
  EXPECT_THAT(shown.early,
              ElementsAre(SnapshotRange{"rpool/vms/.state/web@" + all[0].name, "rpool/vms/.state/web@" + all[2].name},
                          SnapshotRange{"rpool/vms/web@" + all[0].name, "rpool/vms/web@" + all[2].name}));
}

class SparedTest : public testing::Test {
 protected:
  std::vector<Condemned> batch;
  void SetUp() override {
    for (const auto& one : every_hour("web", 3, 0)) batch.push_back({"web", one});
  }
};

TEST_F(SparedTest, IsWhatTheCallNames) {
  const auto name = batch[1].snapshot.parts[1].name;
  const auto spared = take_spared(batch, {{name, "dataset is busy"}}, "cannot destroy", false);
  ASSERT_EQ(spared.size(), 1U);
  EXPECT_EQ(spared[0].reason, "'" + name + "': dataset is busy");
  EXPECT_EQ(spared[0].one.snapshot.parts[1].name, name);
  EXPECT_EQ(batch.size(), 2U) << "the rest is tried once more";
}

TEST_F(SparedTest, IsAllWhenNothingOfItIsNamedOrItWasTheLastAttempt) {
  auto again = batch;
  EXPECT_EQ(take_spared(batch, {}, "cannot destroy", false).size(), 3U);
  EXPECT_THAT(batch, IsEmpty());
  batch = again;
  EXPECT_EQ(take_spared(batch, {{"rpool/other@x", "busy"}}, "cannot destroy", false).size(), 3U);
  const auto name = again[0].snapshot.parts[0].name;
  const auto spared = take_spared(again, {{name, "busy"}}, "cannot destroy", true);
  ASSERT_EQ(spared.size(), 3U);
  EXPECT_EQ(spared[0].reason, "'" + name + "': busy");
  EXPECT_EQ(spared[2].reason, "cannot destroy");
  EXPECT_THAT(again, IsEmpty());
}

}  // namespace
}  // namespace kld::plan
