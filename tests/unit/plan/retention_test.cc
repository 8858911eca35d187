// SPDX-License-Identifier: Apache-2.0
#include "plan/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::kDay;
using test::kHour;
using test::kNow;  // 2026-04-04T14:35:00Z, a Saturday
using testing::ElementsAre;
using testing::HasSubstr;

RetentionRule rule_of(const std::string& text) {
  const auto parsed = parse_retention(text);
  if (const auto* problem = std::get_if<std::string>(&parsed)) throw std::runtime_error(*problem);
  return std::get<RetentionRule>(parsed);
}

std::string problem_of(const std::string& text) {
  const auto parsed = parse_retention(text);
  const auto* problem = std::get_if<std::string>(&parsed);
  return problem == nullptr ? "a rule" : *problem;
}

MachineSnapshot snapshot_at(UnixTime creation, std::uint64_t txg, const std::string& name = "",
                            const std::string& by = "auto") {
  MachineSnapshot whole;
  whole.name = name.empty() ? "auto-" + format_utc(creation) : name;
  whole.creation = creation;
  whole.createtxg = txg;
  whole.by = by;
  for (const auto& dataset : {"rpool/vms/web", "rpool/vms/.state/web"}) {
    auto part = test::snapshot(std::string(dataset) + "@" + whole.name, txg, by);
    part.creation = creation;
    whole.parts.push_back(part);
  }
  return whole;
}

/// One every hour, the newest so long before now; oldest first.
std::vector<MachineSnapshot> every_hour(int count, UnixTime newest = 0, UnixTime now = kNow) {
  std::vector<MachineSnapshot> all;
  for (int i = 0; i < count; ++i)
    all.push_back(snapshot_at(now - newest - (count - 1 - i) * kHour, 100 + static_cast<std::uint64_t>(i)));
  return all;
}

std::vector<std::string> those_that_go(const std::vector<Verdict>& verdicts) {
  std::vector<std::string> names;
  for (const auto& one : verdicts) {
    if (one.goes) names.push_back(one.snapshot.name);
  }
  return names;
}

std::vector<Verdict> judged(const std::vector<MachineSnapshot>& all, const std::string& rule, UnixTime now = kNow) {
  static const test::Host host;
  return judge(host.view, all, rule_of(rule), now);
}

std::size_t gone(const std::vector<MachineSnapshot>& all, const std::string& rule, UnixTime now = kNow) {
  return those_that_go(judged(all, rule, now)).size();
}

std::string reason(const std::vector<Verdict>& verdicts, const std::string& name) {
  for (const auto& one : verdicts) {
    if (one.snapshot.name == name) return one.reason;
  }
  return "there is no " + name;
}

TEST(RetentionRule, IsReadAsWritten) {
  RetentionRule all;
  all.hourly = 48;
  all.daily = 7;
  all.weekly = 4;
  all.monthly = 1;
  all.last = 10;
  EXPECT_EQ(rule_of("hourly=48,daily=7,weekly=4,monthly=1,last=10"), all);
  EXPECT_EQ(rule_of(" last = 10 , monthly=1,weekly=4,daily=7,hourly=48 "), all);
  EXPECT_TRUE(rule_of("none").none);
  EXPECT_EQ(rule_of(kDefaultRetention).hourly, 48U);
}

TEST(RetentionRule, SaysWhatIsWrong) {
  EXPECT_THAT(problem_of(""), HasSubstr("is none of hourly, daily"));
  EXPECT_THAT(problem_of("yearly=1"), HasSubstr("'yearly' is none of"));
  EXPECT_THAT(problem_of("hourly=48,"), HasSubstr("'' is none of"));
  EXPECT_EQ(problem_of("hourly=48,none"), "'none' stands alone");
  EXPECT_THAT(problem_of("daily=7,daily=8"), HasSubstr("'daily' stands twice"));
  for (const char* text : {"daily", "daily=", "daily=0", "daily=-1", "daily=7x", "daily=100001", "daily=7=8",
                           "daily=99999999999999999999", "daily=7 8"}) {
    EXPECT_EQ(problem_of(text), "'daily' wants a number from 1 to 100000") << text;
  }
}

TEST(Retention, HourlyKeepsByAge) {
  const auto verdicts = judged(every_hour(60), "hourly=48");
  EXPECT_EQ(those_that_go(verdicts).size(), 12U);
  EXPECT_EQ(reason(verdicts, "auto-2026-04-04T11:35:00Z"), "hourly: 3 h old, kept until 48 h");
  EXPECT_EQ(reason(verdicts, "auto-2026-04-04T14:35:00Z"), "hourly: 0 s old, kept until 48 h; newest 2");
  // Exactly as old as the rule says: it goes.
  EXPECT_EQ(reason(verdicts, "auto-2026-04-02T14:35:00Z"), "older than every rule");
  EXPECT_EQ(reason(verdicts, "auto-2026-04-02T15:35:00Z"), "hourly: 47 h old, kept until 48 h");
  EXPECT_EQ(verdicts.front().snapshot.name, "auto-2026-04-02T03:35:00Z");
  EXPECT_TRUE(verdicts.front().goes);
}

TEST(Retention, DailyKeepsTheOldestOfEachDay) {
  const auto verdicts = judged(every_hour(24 * 10), "daily=3");
  std::vector<std::string> kept;
  for (const auto& one : verdicts) {
    if (!one.goes) kept.push_back(one.snapshot.name + " " + one.reason);
  }
  EXPECT_THAT(kept, ElementsAre("auto-2026-04-02T00:35:00Z daily: oldest of 2026-04-02",
                                "auto-2026-04-03T00:35:00Z daily: oldest of 2026-04-03",
                                "auto-2026-04-04T00:35:00Z daily: oldest of 2026-04-04",
                                "auto-2026-04-04T13:35:00Z newest 2", "auto-2026-04-04T14:35:00Z newest 2"));
}

TEST(Retention, DaysWithoutOneDoNotCount) {
  std::vector<MachineSnapshot> all;
  for (const UnixTime days : {30, 20, 10, 1, 0}) all.push_back(snapshot_at(kNow - days * kDay, 100));
  EXPECT_EQ(gone(all, "daily=4"), 1U);
  EXPECT_THAT(those_that_go(judged(all, "daily=3")),
              ElementsAre("auto-2026-03-05T14:35:00Z", "auto-2026-03-15T14:35:00Z"));
}

TEST(Retention, WeeksAreThoseOfIso8601) {
  std::vector<MachineSnapshot> all;
  std::uint64_t txg = 0;
  for (const char* time : {"2025-12-28T23:00:00Z", "2025-12-29T01:00:00Z", "2026-01-04T23:59:59Z",
                           "2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-12T01:00:00Z"}) {
    all.push_back(snapshot_at(*parse_utc(time), ++txg));
  }
  const auto verdicts = judged(all, "weekly=10");
  EXPECT_EQ(reason(verdicts, "auto-2025-12-28T23:00:00Z"), "weekly: oldest of 2025-W52");
  EXPECT_EQ(reason(verdicts, "auto-2025-12-29T01:00:00Z"), "weekly: oldest of 2026-W01");
  EXPECT_EQ(reason(verdicts, "auto-2026-01-04T23:59:59Z"), "older than every rule");
  EXPECT_EQ(reason(verdicts, "auto-2026-01-05T00:00:00Z"), "weekly: oldest of 2026-W02");
  EXPECT_EQ(reason(verdicts, "auto-2026-01-12T00:00:00Z"), "weekly: oldest of 2026-W03; newest 2");
}

TEST(Retention, MonthsHaveTwentyEightToThirtyOneDays) {
  std::vector<MachineSnapshot> all;
  std::uint64_t txg = 0;
  for (const char* time :
       {"2024-02-28T00:00:00Z", "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z", "2026-01-31T23:00:00Z",
        "2026-02-01T00:00:00Z", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z", "2026-03-31T23:59:59Z",
        "2026-04-01T00:00:00Z", "2026-04-04T00:00:00Z"}) {
    all.push_back(snapshot_at(*parse_utc(time), ++txg));
  }
  EXPECT_THAT(those_that_go(judged(all, "monthly=3")),
              ElementsAre("auto-2024-02-28T00:00:00Z", "auto-2024-02-29T23:59:59Z", "auto-2024-03-01T00:00:00Z",
                          "auto-2026-01-31T23:00:00Z", "auto-2026-02-28T23:00:00Z", "auto-2026-03-31T23:59:59Z"));
  const auto verdicts = judged(all, "monthly=12");
  EXPECT_EQ(reason(verdicts, "auto-2024-02-28T00:00:00Z"), "monthly: oldest of 2024-02");
  EXPECT_EQ(reason(verdicts, "auto-2024-03-01T00:00:00Z"), "monthly: oldest of 2024-03");
  EXPECT_EQ(reason(verdicts, "auto-2026-04-01T00:00:00Z"), "monthly: oldest of 2026-04; newest 2");
}

TEST(Retention, LastKeepsByCount) {
  EXPECT_EQ(gone(every_hour(60), "last=10"), 50U);
  EXPECT_EQ(reason(judged(every_hour(60), "last=10"), "auto-2026-04-04T05:35:00Z"), "last: one of the newest 10");
}

TEST(Retention, AnyRuleKeeps) {
  const auto verdicts = judged(every_hour(24 * 40), "hourly=24,daily=7,weekly=4,monthly=2");
  const auto gone_names = those_that_go(verdicts);
  // 24 by age; days 04-03 back to 03-29 beside today's (which is younger); weeks of 03-30 (a day's, too), 03-23, 03-16,
  // 03-09; months of 04-01 (a day's, too) and 03-01.
  EXPECT_EQ(verdicts.size() - gone_names.size(), 24U + 6U + 3U + 1U);
  EXPECT_EQ(reason(verdicts, "auto-2026-03-30T00:35:00Z"), "daily: oldest of 2026-03-30; weekly: oldest of 2026-W14");
}

TEST(Retention, TheNewestTwoStay) {
  EXPECT_EQ(gone(every_hour(10, 100 * kDay), "hourly=1"), 8U);
  EXPECT_EQ(gone(every_hour(2, 100 * kDay), "hourly=1"), 0U);
  EXPECT_EQ(gone(every_hour(1, 100 * kDay), "hourly=1"), 0U);
}

TEST(Retention, OnlyOursGoes) {
  auto all = every_hour(6, 100 * kDay);
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 1, "by-hand", "hand"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 2, "auto-2025-01-01T00:00:00Z", "hand"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 3, "auto-2025-01-02T00:00:00Z", ""));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 4, "renamed", "auto"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 5, "auto-2025-01-03T00:00:00Z-x", "auto"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 6, "auto-2025-01-04T00:00:00Z", "repl"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 7, "clone-2025-01-04T00:00:00Z", "clone"));
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 8, "autosnap_2025-01-04_00:00:00_hourly", ""));
  // One part is somebody else's.
  all.insert(all.begin(), snapshot_at(kNow - 200 * kDay, 9, "auto-2025-01-05T00:00:00Z", "auto"));
  all.front().parts.back().user.clear();
  const auto verdicts = judged(all, "hourly=1");
  EXPECT_EQ(those_that_go(verdicts).size(), 4U);
  for (const auto& one : verdicts) EXPECT_EQ(one.automatic, one.snapshot.creation > kNow - 150 * kDay);
  EXPECT_EQ(reason(verdicts, "by-hand"), "by hand");
  EXPECT_EQ(reason(verdicts, "auto-2025-01-04T00:00:00Z"), "base of a replication");
  EXPECT_EQ(reason(verdicts, "clone-2025-01-04T00:00:00Z"), "not by the clock: clone");
  EXPECT_EQ(reason(verdicts, "autosnap_2025-01-04_00:00:00_hourly"), "not ours");
}

TEST(Retention, WhatIsHeldOrClonedStays) {
  test::Host host;
  host.machine("web");
  host.clone("web", "s", "web-2");
  auto all = every_hour(6, 100 * kDay);
  // One part is enough.
  all[0].holds = 1;
  all[1].clones = {"rpool/vms/.state/web-2"};
  const auto verdicts = judge(host.view, all, rule_of("hourly=1"), kNow);
  EXPECT_EQ(verdicts[0].reason, "held");
  EXPECT_EQ(verdicts[1].reason, "cloned by web-2");
  EXPECT_THAT(those_that_go(verdicts), ElementsAre(all[2].name, all[3].name));
}

TEST(Retention, ASecondNameInASecondIsOneOfOurs) {
  auto all = every_hour(4, 100 * kDay);
  all.insert(all.begin() + 1, snapshot_at(all[0].creation, 101, all[0].name + ".2"));
  EXPECT_THAT(those_that_go(judged(all, "hourly=1")), ElementsAre(all[0].name, all[1].name, all[2].name));
  // Of two in one second, the first is the oldest.
  EXPECT_EQ(judged(all, "daily=9")[0].reason, "daily: oldest of " + all[0].name.substr(5, 10));
  EXPECT_TRUE(judged(all, "daily=9")[1].goes);
}

TEST(Retention, OrderIsByTransactionGroup) {
  // The clock went back an hour: two snapshots carry the same hour, the later one an earlier time.
  auto all = every_hour(5, kDay);
  all.push_back(snapshot_at(all[3].creation + 60, 200));
  all.push_back(snapshot_at(all[4].creation + 60, 201));
  const auto verdicts = judged(all, "hourly=1");
  EXPECT_EQ(verdicts[5].reason, "newest 2");
  EXPECT_EQ(verdicts[6].reason, "newest 2");
  EXPECT_EQ(those_that_go(verdicts).size(), 5U);
}

TEST(Retention, TheClockBackAnHourRemovesNothing) {
  const auto all = every_hour(50);
  const auto before = those_that_go(judged(all, "hourly=48,daily=7"));
  const auto after = judged(all, "hourly=48,daily=7", kNow - kHour);
  EXPECT_LE(those_that_go(after).size(), before.size());
  EXPECT_THAT(after.back().reason, HasSubstr("its time is still to come"));
  EXPECT_FALSE(clock_jumped(all, kNow - kHour));
}

TEST(Retention, WhatLiesAheadTakesNoPlaceOfRealOnes) {
  auto all = every_hour(24 * 5);
  for (int day = 1; day <= 9; ++day)
    all.push_back(snapshot_at(kNow + day * kDay, 1000 + static_cast<std::uint64_t>(day)));
  const auto verdicts = judged(all, "daily=3");
  EXPECT_EQ(reason(verdicts, "auto-2026-04-02T00:35:00Z"), "daily: oldest of 2026-04-02");
  EXPECT_EQ(reason(verdicts, "auto-2026-04-05T14:35:00Z"), "its time is still to come");
}

TEST(Retention, NoneRemovesNothing) { EXPECT_EQ(gone(every_hour(100, 900 * kDay), "none"), 0U); }

TEST(Retention, EarlyTakesWhatTheHourlyRuleAloneKeeps) {
  const test::Host host;
  const auto verdicts = judge(host.view, every_hour(30), rule_of("hourly=48,daily=2"), kNow, true);
  EXPECT_EQ(verdicts.size() - those_that_go(verdicts).size(), 4U);
  EXPECT_EQ(verdicts.front().reason, "daily: oldest of 2026-04-03");
  EXPECT_EQ(verdicts[1].reason, "kept by the hourly rule alone");
}

TEST(ClockJump, IsMoreThanADayEitherWay) {
  EXPECT_FALSE(clock_jumped(every_hour(5, kHour), kNow));
  EXPECT_FALSE(clock_jumped(every_hour(5, kDay), kNow));
  EXPECT_TRUE(clock_jumped(every_hour(5, kDay + 1), kNow));
  EXPECT_FALSE(clock_jumped(every_hour(5, -kDay), kNow));
  EXPECT_TRUE(clock_jumped(every_hour(5, -kDay - 1), kNow));
  EXPECT_TRUE(clock_jumped({}, kNow));
  // What others made says nothing of our last run.
  auto all = every_hour(5, 3 * kDay);
  all.push_back(snapshot_at(kNow, 999, "by-hand", "hand"));
  EXPECT_TRUE(clock_jumped(all, kNow));
}

TEST(ClockJump, AMissedDayRemovesLittleAndAMonthMost) {
  EXPECT_FALSE(removes_most(judged(every_hour(48, 23 * kHour), "hourly=48")));
  EXPECT_TRUE(removes_most(judged(every_hour(48, 30 * kDay), "hourly=48")));
  EXPECT_FALSE(removes_most(judged(every_hour(4, 30 * kDay), "hourly=48"))) << "two of four are half";
  EXPECT_TRUE(removes_most(judged(every_hour(5, 30 * kDay), "hourly=48"))) << "three of five are more";
  // By hand made ones do not count.
  auto all = every_hour(5, 30 * kDay);
  for (int i = 0; i < 20; ++i) all.push_back(snapshot_at(kNow, 900, fmt::format("hand-{}", i), "hand"));
  EXPECT_TRUE(removes_most(judged(all, "hourly=48")));
}

}  // namespace
}  // namespace kld::plan
