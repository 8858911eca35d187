// SPDX-License-Identifier: Apache-2.0
#include "plan/snapshot.h"

#include <gtest/gtest.h>

#include "unit/plan/builders.h"
#include "virt/definition.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;
using test::kind_of;
using test::kNow;
using test::kOp;
using test::plan_of;

const Definitions kSaved = {"<domain/>", true, "<domain/>"};

TEST(SnapshotNames, AreTheTimeKindFirst) {
  EXPECT_EQ(fresh_snapshot_name("", kNow, {}), "2026-04-04T14:35:00Z");
  EXPECT_EQ(fresh_snapshot_name("clone", kNow, {}), "clone-2026-04-04T14:35:00Z");
  EXPECT_EQ(fresh_snapshot_name("clone", kNow, {"2026-04-04T14:35:00Z"}), "clone-2026-04-04T14:35:00Z");
  EXPECT_EQ(fresh_snapshot_name("clone", kNow, {"clone-2026-04-04T14:35:00Z"}), "clone-2026-04-04T14:35:00Z.2");
  EXPECT_EQ(fresh_snapshot_name("", kNow, {"2026-04-04T14:35:00Z", "2026-04-04T14:35:00Z.2"}),
            "2026-04-04T14:35:00Z.3");
}

TEST(SnapshotNames, AreKnownExactly) {
  for (const char* name : {"auto-2026-04-04T14:00:00Z", "autosnap_2026-04-04_14:00:00_hourly", "zfs-auto-snap_hourly-x",
                           "zrepl_20260404_140000_000", "syncoid_host_2026"}) {
    EXPECT_TRUE(is_by_the_clock(name)) << name;
  }
  for (const char* name : {"rescue", "auto", "auto-mine", "2026-04-04T14:35:00Z", "repl-2026-04-04T14:35:00Z"}) {
    EXPECT_FALSE(is_by_the_clock(name)) << name;
  }
  EXPECT_TRUE(is_named("clone-2026-04-04T14:35:00Z", "clone"));
  EXPECT_TRUE(is_named("clone-2026-04-04T14:35:00Z.2", "clone"));
  EXPECT_TRUE(is_named("clone-2026-04-04T14:35:00Z.12", "clone"));
  EXPECT_TRUE(is_named("2026-04-04T14:35:00Z", ""));
  for (const char* name :
       {"clone", "clone-", "clone-x", "2026-04-04T14:35:00Z", "auto-2026-04-04T14:35:00Z", "clone-2026-04-04T14:35:00",
        "clone-2026-04-31T14:35:00Z", "clone-2026-04-04T14:35:00Zx", "clone-2026-04-04T14:35:00Z.",
        "clone-2026-04-04T14:35:00Z.1", "clone-2026-04-04T14:35:00Z.02", "clone-2026-04-04T14:35:00Z.2x",
        "clone-before-2026-04-04T14:35:00Z", ""}) {
    EXPECT_FALSE(is_named(name, "clone")) << name;
  }
}

TEST(Consistency, SaysWhatTheDisksWouldHold) {
  const auto of = [](virt::State state, bool saved = false) {
    Host host;
    host.machine("web", {.state = state});
    host.domain_of("web").has_managed_save = saved;
    return consistency(host.require("web"));
  };
  EXPECT_EQ(of(virt::State::running), "crash");
  EXPECT_EQ(of(virt::State::paused), "crash");
  EXPECT_EQ(of(virt::State::shut_off), "offline");
  EXPECT_EQ(of(virt::State::shut_off, true), "saved");
  Host lost;
  lost.machine("web", {.defined = false});
  EXPECT_EQ(consistency(lost.require("web")), "offline");
}

TEST(PlanSnapshot, TakesAllDatasetsInOneCall) {
  Host host;
  host.machine("web", {.state = virt::State::running, .labels = {"data"}}).machine("mail");
  const auto plan = plan_of(plan_snapshot(host.view, {"web", ""}, kSaved, {}, {}, fresh()));
  const std::string at = "@2026-04-04T14:35:00Z";
  const TakeSnapshots expected{
      {"rpool/vms/web" + at, "rpool/vms/web-data" + at, "rpool/vms/.state/web" + at, "rpool/vms/.state/web/tpm" + at},
      {{zfs::property::by, "hand"}, {zfs::property::consistency, "crash"}, {zfs::property::op, kOp}}};
  EXPECT_EQ(plan.steps, std::vector<Step>{expected});
  EXPECT_EQ(plan.operation, "snapshot");
  EXPECT_EQ(plan.op, kOp);
  EXPECT_EQ(plan.machines, std::vector<std::string>{"web"});
  EXPECT_EQ(plan.commit, 0U);
}

TEST(PlanSnapshot, SavesADefinitionThatChangedFirst) {
  Host host;
  host.machine("web");
  const auto now = test::definition(host, "web");
  const auto plan = plan_of(plan_snapshot(host.view, {"web", "before"}, {now, true, "<old/>"}, {}, {}, fresh()));
  ASSERT_EQ(plan.steps.size(), 2U);
  EXPECT_EQ(plan.steps[0], Step(WriteFiles{{{definition_path("web"), now, true, "<old/>"}}}));
  EXPECT_EQ(std::get<TakeSnapshots>(plan.steps[1]).names[0], "rpool/vms/web@before");
  EXPECT_EQ(plan.commit, 1U);
  const auto first = plan_of(plan_snapshot(host.view, {"web", "s"}, {now, false, ""}, {}, {}, fresh()));
  EXPECT_EQ(first.steps[0], Step(WriteFiles{{{definition_path("web"), now, false, ""}}}));
}

TEST(PlanSnapshot, RefusesWhatItWouldNotHold) {
  Host host;
  host.machine("web");
  auto definition = virt::Definition::parse(test::definition(host, "web"));
  definition.set_disk_source("vda", "/srv/web.raw");
  const auto result = plan_snapshot(host.view, {"web", "s"}, {definition.xml(), false, ""}, {}, {}, fresh());
  ASSERT_TRUE(refused(result));
  EXPECT_EQ(std::get<Refusal>(result).kind, "not-whole");
  EXPECT_EQ(std::get<Refusal>(result).evidence,
            std::vector<std::string>{"vda: /srv/web.raw is not a zvol of this machine"});
}

TEST(PlanSnapshot, RefusesADiskThatOnlyTheRunningMachineHas) {
  Host host;
  host.machine("web", {.state = virt::State::running});
  const auto inactive = test::definition(host, "web");
  auto live = virt::Definition::parse(inactive);
  EXPECT_FALSE(refused(plan_snapshot(host.view, {"web", "s"}, {inactive, false, "", live.xml()}, {}, {}, fresh())));
  live.set_disk_source("vda", "/dev/zvol/rpool/elsewhere");
  const auto result = plan_snapshot(host.view, {"web", "s"}, {inactive, false, "", live.xml()}, {}, {}, fresh());
  ASSERT_TRUE(refused(result));
  EXPECT_EQ(std::get<Refusal>(result).evidence,
            std::vector<std::string>{"vda: /dev/zvol/rpool/elsewhere is not a zvol of this machine"});
}

TEST(PlanSnapshot, RefusesATpmThatIsAnotherDomains) {
  Host host;
  host.machine("web", {.tpm = true});
  auto& view = host.view;
  const auto definition = test::definition(host, "web");
  EXPECT_FALSE(refused(plan_snapshot(view, {"web", "s"}, {definition, false, ""}, {}, {}, fresh())));
  for (auto& dataset : view.datasets) {
    if (dataset.name.ends_with("/tpm")) dataset.mountpoint = "/var/lib/libvirt/swtpm/another";
  }
  EXPECT_EQ(kind_of(plan_snapshot(view, {"web", "s"}, {definition, false, ""}, {}, {}, fresh())), "not-whole");
}

TEST(PlanSnapshot, ReadOnlyImagesStayOutsideAsTheyDoWhenItIsTakenIn) {
  Host host;
  host.machine("web");
  auto definition = virt::Definition::parse(test::definition(host, "web"));
  definition.add_seed("/var/lib/seeds/web.img");
  EXPECT_FALSE(refused(plan_snapshot(host.view, {"web", "s"}, {definition.xml(), false, ""}, {}, {}, fresh())));
}

TEST(PlanSnapshot, KeepsTheSavedDefinitionOfALostMachine) {
  Host host;
  host.machine("web", {.defined = false});
  EXPECT_EQ(plan_of(plan_snapshot(host.view, {"web", "s"}, {"", true, "<old/>"}, {}, {}, fresh())).steps.size(), 1U);
}

TEST(PlanSnapshot, RefusesWhatItMust) {
  Host host;
  host.machine("web").add(test::domain("stranger"));
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"wbe", ""}, kSaved, {}, {}, fresh())), "no-such-machine");
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"stranger", ""}, kSaved, {}, {}, fresh())), "not-adopted");
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"web", "s"}, kSaved, {"s"}, {}, fresh())), "snapshot-exists");
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"web", ""}, kSaved, {}, {"vda: commit"}, fresh())), "block-job");
  host.dataset("rpool/vms/.state/web").mounted = false;
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"web", ""}, kSaved, {}, {}, fresh())), "not-mounted");
  host.dataset("rpool/vms/.state/web").key_missing = true;
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"web", ""}, kSaved, {}, {}, fresh())), "key-missing");
  host.domain_of("web").has_snapshots = true;
  EXPECT_EQ(kind_of(plan_snapshot(host.view, {"web", ""}, kSaved, {}, {}, fresh())), "libvirt-snapshots");
}

TEST(PlanSnapshot, TakesASavedMachineAsSaved) {
  Host host;
  host.machine("web");
  host.domain_of("web").has_managed_save = true;
  const auto plan = plan_of(plan_snapshot(host.view, {"web", "s"}, kSaved, {}, {}, fresh()));
  EXPECT_EQ(std::get<TakeSnapshots>(plan.steps[0]).properties.at(zfs::property::consistency), "saved");
}

TEST(MachineSnapshots, JoinWhatBelongsTogether) {
  Host host;
  host.machine("web", {.labels = {"data"}, .tpm = false}).machine("mail");
  auto all = host.snapshots("web", "late", 300);
  const auto early = host.snapshots("web", "early", 200, "clone");
  all.insert(all.end(), early.begin(), early.end());
  const auto other = host.snapshots("mail", "early", 100);
  all.insert(all.end(), other.begin(), other.end());
  all[0].holds = 2;
  all.push_back(test::snapshot("rpool/vms/web@partial", 250, ""));
  const auto snapshots = machine_snapshots(host.require("web"), all);
  ASSERT_EQ(snapshots.size(), 3U);
  EXPECT_EQ(snapshots[0].name, "early");
  EXPECT_EQ(snapshots[0].by, "clone");
  EXPECT_EQ(snapshots[0].consistency, "offline");
  EXPECT_EQ(snapshots[0].parts.size(), 3U);
  EXPECT_EQ(snapshots[0].used, 3 * MiB);
  EXPECT_EQ(snapshots[0].written, 6 * MiB);
  EXPECT_TRUE(snapshots[0].missing.empty());
  EXPECT_EQ(snapshots[1].name, "partial");
  EXPECT_EQ(snapshots[1].missing, (std::vector<std::string>{"rpool/vms/web-data", "rpool/vms/.state/web"}));
  EXPECT_TRUE(snapshots[0].one_moment);
  EXPECT_EQ(snapshots[2].name, "late");
  EXPECT_EQ(snapshots[2].holds, 2U);
}

TEST(MachineSnapshots, OfDifferentMomentsAreToldApart) {
  Host host;
  host.machine("web", {.labels = {"data"}, .tpm = false});
  auto torn = host.snapshots("web", "hourly", 300);
  torn[1].createtxg = 301;
  EXPECT_FALSE(machine_snapshots(host.require("web"), torn).front().one_moment);
}

TEST(SnapshotArgument, TakesEveryFormOfItsOwn) {
  Host host;
  host.machine("web").machine("mail");
  const auto machine = host.require("web");
  for (const char* given : {"s", "@s", "web@s", "rpool/vms/web@s", "rpool/vms/.state/web@s"}) {
    EXPECT_EQ(snapshot_argument(machine, given), (std::variant<std::string, Refusal>("s"))) << given;
  }
  for (const char* given : {"mail@s", "rpool/vms/mail@s", "rpool/vms@s"}) {
    const auto answer = snapshot_argument(machine, given);
    ASSERT_TRUE(std::holds_alternative<Refusal>(answer)) << given;
    EXPECT_EQ(std::get<Refusal>(answer).kind, "other-machine");
  }
  for (const char* given : {"", "@", "a/b", "web@", "web@a@b", "web@a b,"}) {
    const auto answer = snapshot_argument(machine, given);
    ASSERT_TRUE(std::holds_alternative<Refusal>(answer)) << given;
    EXPECT_EQ(std::get<Refusal>(answer).kind, "bad-name");
  }
}

TEST(PlanSnapshotDelete, DestroysEveryPartByGuid) {
  Host host;
  host.machine("web", {.tpm = false});
  const auto snapshots = host.snapshots("web", "s", 200);
  const auto plan = plan_of(plan_snapshot_delete(host.view, "web", "web@s", snapshots, fresh()));
  const DestroySnapshots expected{{{"rpool/vms/web@s", test::guid_of("rpool/vms/web@s")},
                                   {"rpool/vms/.state/web@s", test::guid_of("rpool/vms/.state/web@s")}}};
  EXPECT_EQ(plan.steps, std::vector<Step>{expected});
  EXPECT_EQ(plan.commit, 0U);
}

TEST(PlanSnapshotDelete, RefusesClonesHoldsAndStrangers) {
  Host host;
  host.machine("golden").clone("golden", "s", "web");
  auto snapshots = host.snapshots("golden", "s", 200, "clone", {"web"});
  const auto result = plan_snapshot_delete(host.view, "golden", "s", snapshots, fresh());
  EXPECT_EQ(kind_of(result), "dependent-clones");
  EXPECT_EQ(std::get<Refusal>(result).evidence,
            (std::vector<std::string>{"rpool/vms/web, machine 'web', was cloned from it",
                                      "rpool/vms/.state/web, machine 'web', was cloned from it",
                                      "rpool/vms/.state/web/tpm, machine 'web', was cloned from it"}));
  snapshots = host.snapshots("golden", "s", 200);
  snapshots[1].holds = 1;
  EXPECT_EQ(kind_of(plan_snapshot_delete(host.view, "golden", "s", snapshots, fresh())), "held");
  EXPECT_EQ(kind_of(plan_snapshot_delete(host.view, "golden", "other", snapshots, fresh())), "no-such-snapshot");
  EXPECT_EQ(kind_of(plan_snapshot_delete(host.view, "golden", "web@s", snapshots, fresh())), "other-machine");
  EXPECT_EQ(kind_of(plan_snapshot_delete(host.view, "gold", "s", snapshots, fresh())), "no-such-machine");
}

TEST(OwnersOfClones, AreMachinesEachOnce) {
  test::Host host;
  host.machine("golden");
  host.clone("golden", "clone-2026-01-01T00:00:00Z", "web");
  EXPECT_EQ(owners_of_clones(host.view, {"rpool/vms/web", "rpool/vms/.state/web", "rpool/vms/.state/web/tpm",
                                         "rpool/vms/.state/unseen/tpm", "rpool/elsewhere"}),
            (std::vector<std::string>{"web", "unseen", "rpool/elsewhere"}));
}

}  // namespace
}  // namespace kld::plan
