// SPDX-License-Identifier: Apache-2.0
#include "plan/auto_snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/prune.h"
#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::Host;
using test::kNow;
using test::kOp;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<AutoMachine> machines_of(const Host& host, const AutoRequest& request = {{}, "hourly=48", {}}) {
  auto found = auto_machines(host.view, request);
  if (const auto* refusal = std::get_if<Refusal>(&found)) throw std::runtime_error(refusal->message);
  return std::get<std::vector<AutoMachine>>(found);
}

AutoFacts facts_of(const Host& host) {
  AutoFacts facts;
  for (const auto& [name, machine] : machines(host.view)) {
    const auto xml = test::definition(host, name);
    if (machine.domain) facts.definitions[name] = {xml, true, xml};
  }
  return facts;
}

AutoRun grouped(const Host& host, const AutoFacts& facts) {
  return group_auto_snapshots(host.view, machines_of(host), facts, kNow);
}

std::vector<std::string> words_of(const AutoRun& run) {
  std::vector<std::string> lines;
  for (const auto& group : run.groups) {
    std::string line = group.consistency + (group.freezes.empty() ? ":" : " frozen:");
    for (const auto& part : group.parts) line += " " + part.machine;
    lines.push_back(line);
  }
  for (const auto& one : run.left_out) lines.push_back("left out: " + one.machine + " " + one.why.kind);
  return lines;
}

TEST(AutoMachines, TakeTheNearestRule) {
  Host host;
  host.machine("web").machine("db").machine("bad").machine("off");
  host.dataset("rpool/vms/db").user["com.kldload:keep"] = "daily=7";
  host.dataset("rpool/vms/bad").user["com.kldload:keep"] = "forever";
  host.dataset("rpool/vms/off").user["com.kldload:keep"] = "none";
  host.dataset("rpool/vms/web").user["com.kldload:held-back"] = "2026-04-01T00:00:00Z";
  const auto all = machines_of(host);
  ASSERT_EQ(all.size(), 4U);
  EXPECT_THAT(all[0].problem, HasSubstr("com.kldload:keep 'forever' of 'bad': 'forever' is none of"));
  EXPECT_EQ(all[0].out, "") << "it is snapshotted all the same";
  EXPECT_EQ(all[1].rule_text, "daily=7");
  EXPECT_EQ(all[1].rule.daily, 7U);
  EXPECT_FALSE(all[1].rule.hourly);
  EXPECT_EQ(all[2].out, "keep=none");
  EXPECT_EQ(all[3].rule.hourly, 48U);
  EXPECT_TRUE(all[3].held_back);
  EXPECT_FALSE(all[1].held_back);
  EXPECT_THAT(machines_of(host, {{"web"}, "sometimes", {}})[0].problem, HasSubstr("'keep' in the configuration"));
}

TEST(AutoMachines, GoldenImagesAreOutUnlessTheyAsk) {
  Host host;
  host.machine("golden", {.golden = true}).machine("seal", {.golden = true}).machine("web");
  // Inherited from the root, a rule is not one of their own.
  for (const auto& name : {"golden", "seal", "web"})
    host.dataset(fmt::format("rpool/vms/{}", name)).user["com.kldload:keep"] = "hourly=2";
  const auto all = machines_of(host, {{}, "hourly=48", {"seal"}});
  EXPECT_EQ(all[0].out, "golden image");
  EXPECT_EQ(all[1].out, "");
  EXPECT_EQ(all[1].rule.hourly, 2U);
  EXPECT_EQ(all[2].out, "");
}

TEST(AutoMachines, AreThoseThatAreNamed) {
  Host host;
  host.machine("web").machine("db").machine("mail");
  const auto some = machines_of(host, {{"web", "db"}, "hourly=48", {}});
  EXPECT_EQ(some.size(), 2U);
  const auto none = auto_machines(host.view, {{"wbe"}, "hourly=48", {}});
  EXPECT_EQ(std::get<Refusal>(none).kind, "no-such-machine");
}

TEST(AutoGroups, AreByConsistency) {
  Host host;
  host.machine("a", {.state = virt::State::running}).machine("b").machine("c", {.state = virt::State::paused});
  host.machine("d").machine("e").machine("f", {.defined = false});
  host.domain_of("d").has_managed_save = true;
  host.view.held["rpool/vms/e"] = "a mounted file system has rpool/vms/e open";
  const auto run = grouped(host, facts_of(host));
  EXPECT_THAT(words_of(run), ElementsAre("crash: a c e", "offline: b f", "saved: d"));
  EXPECT_THAT(run.groups[0].parts[2].warnings, ElementsAre(HasSubstr("will be missing")));
}

TEST(AutoGroups, WhoAsksToBeFrozenComesFirstAndAlone) {
  Host host;
  for (const auto& name : {"a", "b", "c", "d"}) host.machine(name, {.state = virt::State::running});
  for (const auto& name : {"b", "d"})
    host.dataset(fmt::format("rpool/vms/{}", name)).user["com.kldload:freeze"] = "try";
  // There is nobody to freeze.
  host.machine("off");
  host.dataset("rpool/vms/off").user["com.kldload:freeze"] = "try";
  EXPECT_THAT(words_of(grouped(host, facts_of(host))),
              ElementsAre("application frozen: b", "application frozen: d", "crash: a c", "offline: off"));
  auto facts = facts_of(host);
  facts.freeze_problems["d"] = "its agent does not answer: not connected";
  const auto run = grouped(host, facts);
  EXPECT_THAT(words_of(run), ElementsAre("application frozen: b", "crash: a c d", "offline: off"));
  EXPECT_THAT(run.groups[1].parts[2].warnings,
              ElementsAre("machine 'd' is not frozen: its agent does not answer: not connected"));
  const auto plan = plan_group(run.groups[0], test::kOp);
  const auto& take = std::get<TakeSnapshots>(plan.steps.back());
  EXPECT_EQ(take.freezes, (std::vector<Freeze>{{{"b", test::uuid_of("b")}, kAgentSeconds, false}}));
  EXPECT_EQ(take.properties.at(zfs::property::consistency), "application");
}

TEST(AutoGroups, LeaveOutWhatWouldBeNoWholeMachine) {
  Host host;
  for (const auto& name :
       {"covered", "snapshots", "transient", "foreign", "live", "unmounted", "locked", "fine", "job"})
    host.machine(name, {.state = virt::State::running});
  host.dataset("rpool/vms/.state/covered").covered_by = "tank/other";
  host.domain_of("snapshots").has_snapshots = true;
  host.domain_of("transient").persistent = false;
  host.dataset("rpool/vms/.state/unmounted").mounted = false;
  host.dataset("rpool/vms/locked").key_missing = true;
  auto facts = facts_of(host);
  facts.definitions["foreign"].current = test::definition("foreign", {"/dev/zvol/tank/elsewhere"});
  facts.definitions["live"].live = test::definition("live", {"/dev/zvol/rpool/vms/live", "/dev/zvol/tank/elsewhere"});
  EXPECT_THAT(
      words_of(grouped(host, facts)),
      ElementsAre("crash: fine job", "left out: covered covered", "left out: foreign not-whole",
                  "left out: live not-whole", "left out: locked key-missing", "left out: snapshots libvirt-snapshots",
                  "left out: transient transient-domain", "left out: unmounted not-mounted"));
}

TEST(AutoGroups, GiveASecondNameToWhomHasTheFirst) {
  Host host;
  host.machine("web").machine("db");
  auto facts = facts_of(host);
  facts.taken["web"] = {"auto-2026-04-04T14:35:00Z", "auto-2026-04-04T14:35:00Z.2"};
  const auto run = grouped(host, facts);
  EXPECT_EQ(run.groups[0].parts[0].snapshot, "auto-2026-04-04T14:35:00Z");
  EXPECT_EQ(run.groups[0].parts[1].snapshot, "auto-2026-04-04T14:35:00Z.3");
}

TEST(PlanGroup, IsOneCallWithItsLabelAndTheDefinitionsThatChanged) {
  Host host;
  host.machine("web", {.labels = {"data"}}).machine("db", {.tpm = false});
  auto facts = facts_of(host);
  facts.definitions["db"].saved = "<old/>";
  const auto run = grouped(host, facts);
  ASSERT_EQ(run.groups.size(), 1U);
  const auto plan = plan_group(run.groups[0], kOp);
  EXPECT_EQ(plan.operation, "auto-snapshot");
  EXPECT_THAT(plan.machines, ElementsAre("db", "web"));
  EXPECT_EQ(plan.commit, 1U);
  const std::string at = "@auto-2026-04-04T14:35:00Z";
  const TakeSnapshots call{
      {"rpool/vms/db" + at, "rpool/vms/.state/db" + at, "rpool/vms/web" + at, "rpool/vms/web-data" + at,
       "rpool/vms/.state/web" + at, "rpool/vms/.state/web/tpm" + at},
      {{zfs::property::by, "auto"}, {zfs::property::consistency, "offline"}, {zfs::property::op, kOp}}};
  const WriteFiles definition{{{definition_path("db"), test::definition(host, "db"), true, "<old/>"}}};
  EXPECT_EQ(plan.steps, (std::vector<Step>{definition, call}));
}

TEST(Blamed, IsTheMachineOfWhatTheCallNames) {
  Host host;
  host.machine("web").machine("db").machine("mail");
  const auto run = grouped(host, facts_of(host));
  const auto& group = run.groups[0];
  const auto who = blamed(
      group,
      {{"rpool/vms/.state/web@auto-2026-04-04T14:35:00Z", "it exists already"}, {"rpool/vms/db", "a quota is reached"}},
      "cannot take snapshots", false);
  EXPECT_EQ(who, (std::map<std::string, std::string>{
                     {"db", "'rpool/vms/db@auto-2026-04-04T14:35:00Z': a quota is reached"},
                     {"web", "'rpool/vms/.state/web@auto-2026-04-04T14:35:00Z': it exists already"}}));
  const auto rest = without(group, who);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->parts.size(), 1U);
  EXPECT_EQ(rest->parts[0].machine, "mail");
  EXPECT_FALSE(without(*rest, {{"mail", ""}}));
}

TEST(Blamed, AreAllWhenNobodyIsNamedOrItWasTheLastAttempt) {
  Host host;
  host.machine("web").machine("db");
  const auto run = grouped(host, facts_of(host));
  const auto& group = run.groups[0];
  EXPECT_EQ(blamed(group, {}, "out of space", false),
            (std::map<std::string, std::string>{{"db", "out of space"}, {"web", "out of space"}}));
  EXPECT_EQ(blamed(group, {{"rpool/vms/db", "a quota is reached"}}, "cannot take snapshots", true),
            (std::map<std::string, std::string>{{"db", "'rpool/vms/db@auto-2026-04-04T14:35:00Z': a quota is reached"},
                                                {"web", "cannot take snapshots"}}));
}

TEST(SetApart, AreThoseThatWriteADefinition) {
  AutoGroup group{"crash",
                  {{"db", "s", {"p/db@s"}, {}, {}}, {"web", "s", {"p/web@s"}, {File{"/x", "new", false, ""}}, {}}}};
  const auto apart = set_apart(group);
  ASSERT_EQ(apart.size(), 1U);
  EXPECT_EQ(apart[0].parts.at(0).machine, "web");
  EXPECT_EQ(apart[0].consistency, "crash");
  EXPECT_EQ(group.parts.size(), 1U);
  AutoGroup alone{"crash", {{"web", "s", {"p/web@s"}, {File{"/x", "new", false, ""}}, {}}}};
  EXPECT_TRUE(set_apart(alone).empty());
  EXPECT_EQ(alone.parts.size(), 1U);
}

TEST(Late, IsTheNewestAutomaticOneAfterTwoHours) {
  MachineSnapshot one;
  one.name = "auto-2026-04-04T12:00:00Z";
  one.by = "auto";
  one.creation = kNow - 7200;
  EXPECT_FALSE(automatic_is_late({one}, kNow));
  one.creation -= 1;
  EXPECT_TRUE(automatic_is_late({one}, kNow));
  one.by = "hand";
  EXPECT_FALSE(automatic_is_late({one}, kNow));
  EXPECT_FALSE(automatic_is_late({}, kNow));
}

TEST(AsTaken, IsANewestOneThatStays) {
  const auto taken =
      as_taken({"rpool/vms/web@auto-2026-04-04T14:35:00Z", "rpool/vms/.state/web@auto-2026-04-04T14:35:00Z"}, kNow);
  EXPECT_EQ(taken.name, "auto-2026-04-04T14:35:00Z");
  EXPECT_TRUE(is_automatic(taken));
  EXPECT_EQ(judge(Host().view, {taken}, {}, kNow)[0].reason, "newest 2");
}

Condemned condemned(const std::string& machine, const std::string& name, std::size_t parts) {
  Condemned one{machine, {}};
  one.snapshot.name = name;
  for (std::size_t i = 0; i < parts; ++i)
    one.snapshot.parts.push_back(test::snapshot(fmt::format("rpool/vms/{}-{}@{}", machine, i, name), 100, "auto"));
  return one;
}

TEST(Batches, AreWholeSnapshotsUpToAHundredNames) {
  std::vector<Condemned> queue;
  for (int i = 0; i < 60; ++i) queue.push_back(condemned(i < 30 ? "a" : "b", fmt::format("s{}", i), 3));
  EXPECT_EQ(take_batch(queue, Pace::kMost).size(), 33U);
  EXPECT_EQ(queue.size(), 27U);
  EXPECT_EQ(take_batch(queue, 5).size(), 1U);
  EXPECT_EQ(take_batch(queue, 6).size(), 2U);
  EXPECT_EQ(take_batch(queue, 1).size(), 1U) << "one is never parted";
  EXPECT_EQ(take_batch(queue, Pace::kMost).size(), 23U);
  EXPECT_TRUE(queue.empty());
}

TEST(Pace, HalvesAfterASlowCallAndRecovers) {
  Pace pace;
  EXPECT_EQ(pace.limit(), 100U);
  pace.took(1.0);
  EXPECT_EQ(pace.limit(), 100U);
  pace.took(1.1);
  EXPECT_EQ(pace.limit(), 50U);
  for (int i = 0; i < 10; ++i) pace.took(9);
  EXPECT_EQ(pace.limit(), 1U);
  for (int i = 0; i < 10; ++i) pace.took(0.1);
  EXPECT_EQ(pace.limit(), 100U);
}

TEST(PlanPrune, IsOneCall) {
  const auto plan = plan_prune({condemned("a", "s", 2), condemned("a", "t", 1), condemned("b", "s", 1)}, kOp);
  EXPECT_THAT(plan.machines, ElementsAre("a", "b"));
  EXPECT_EQ(plan.commit, 0U);
  ASSERT_EQ(plan.steps.size(), 1U);
  const auto& destroy = std::get<DestroySnapshots>(plan.steps[0]);
  EXPECT_EQ(destroy.snapshots.size(), 4U);
  EXPECT_EQ(destroy.snapshots[0], (DoomedSnapshot{"rpool/vms/a-0@s", test::guid_of("rpool/vms/a-0@s")}));
  EXPECT_FALSE(destroy.if_unused) << "what was cloned or held since is to be heard of";
}

TEST(Ranges, AreNeighboursOfOneDataset) {
  std::vector<Verdict> verdicts;
  for (const bool goes : {true, true, false, true}) {
    verdicts.push_back({condemned("a", fmt::format("s{}", verdicts.size()), 2).snapshot, true, goes, ""});
  }
  EXPECT_THAT(ranges_that_go(verdicts), ElementsAre(SnapshotRange{"rpool/vms/a-0@s0", "rpool/vms/a-0@s1"},
                                                    SnapshotRange{"rpool/vms/a-0@s3", "rpool/vms/a-0@s3"},
                                                    SnapshotRange{"rpool/vms/a-1@s0", "rpool/vms/a-1@s1"},
                                                    SnapshotRange{"rpool/vms/a-1@s3", "rpool/vms/a-1@s3"}));
}

TEST(HoldBack, IsAMarkThatIsTakenBack) {
  Host host;
  host.machine("web");
  const auto hold = plan_hold_back(host.require("web"), kNow, kOp);
  ASSERT_EQ(hold.steps.size(), 1U);
  const auto guid = test::guid_of("rpool/vms/web");
  EXPECT_EQ(hold.steps[0], Step(SetProperties{"rpool/vms/web",
                                              {{"com.kldload:held-back", "2026-04-04T14:35:00Z"}},
                                              {{"com.kldload:held-back", ""}},
                                              guid}));
  host.dataset("rpool/vms/web").user["com.kldload:held-back"] = "2026-04-04T14:35:00Z";
  EXPECT_EQ(plan_release(host.require("web"), kOp).steps[0], *inverse(hold.steps[0]));
}

TEST(Sanoid, IsKnownByItsNames) {
  MachineSnapshot its;
  its.name = "autosnap_2026-04-04_14:00:00_hourly";
  MachineSnapshot ours;
  ours.name = "auto-2026-04-04T14:35:00Z";
  EXPECT_THAT(snapshotted_by_sanoid({{"web", {ours, its}}, {"db", {ours}}}), ElementsAre("web"));
}

}  // namespace
}  // namespace kld::plan
