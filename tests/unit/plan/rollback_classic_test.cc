// SPDX-License-Identifier: Apache-2.0
#include "plan/rollback_classic.h"

#include <gtest/gtest.h>

#include "unit/golden.h"
#include "unit/plan/rollback_scenes.h"

namespace kld::plan {
namespace {

using test::Back;
using test::kind_of;
using test::steps_of;

struct Classic : Back {
  explicit Classic(const test::MachineOptions& options = {.labels = {"data"}}) : Back(options) {
    request.destroy_newer = true;
    facts.bookmarks = {{"rpool/vms/web#old", 200}, {"rpool/vms/web#later", 400}, {"rpool/vms/mail#later", 400}};
    facts.written = {{"rpool/vms/web", 12 * MiB}, {"rpool/vms/web-data", 0}};
  }
  zfs::Snapshot& snapshot(const std::string& name) {
    return *std::find_if(facts.snapshots.begin(), facts.snapshots.end(), [&](const auto& s) { return s.name == name; });
  }
  std::string lost() const {
    std::string text;
    for (const auto& line : lost_with(host.view, request, facts, test::kNow)) text += line + "\n";
    return text;
  }
};

TEST(PlanClassicRollback, OfAMachineAtRest) { expect_golden("plan/rollback-classic.txt", Classic().text()); }

TEST(PlanClassicRollback, OfOneThatRunsAndStartsWithTheHost) {
  Classic one({.state = virt::State::running});
  one.host.domain_of("web").autostart = true;
  EXPECT_EQ(kind_of(one.result()), "running");
  one.request.stop = true;
  expect_golden("plan/rollback-classic-running.txt", one.text());
}

TEST(PlanClassicRollback, NamesAllThatGoes) {
  Classic one;
  expect_golden("plan/rollback-classic-lost.txt", one.lost());
  one.request.snapshot.reset();
  const auto lost = one.lost();
  EXPECT_EQ(lost.find("@old"), std::string::npos);
  EXPECT_NE(lost.find("what was written to rpool/vms/web since '@later': 12.0M"), std::string::npos) << lost;
  EXPECT_NE(lost.find("what was written to rpool/vms/.state/web since '@later'\n"), std::string::npos) << lost;
  EXPECT_TRUE(steps_of<DestroySnapshots>(one.plan()).empty());
  EXPECT_EQ(steps_of<RollbackDatasets>(one.plan()).front().datasets.front().snapshot, "rpool/vms/web@later");
}

TEST(PlanClassicRollback, OfItsDisksAloneLosesNothingElse) {
  Classic one;
  one.request.only_disks = true;
  const auto plan = one.plan();
  const auto destroyed = steps_of<DestroySnapshots>(plan).front();
  for (const auto& snapshot : destroyed.snapshots) {
    EXPECT_EQ(snapshot.name.find(".state"), std::string::npos) << snapshot.name;
  }
  EXPECT_EQ(steps_of<RollbackDatasets>(plan).front().datasets.size(), 2U);
  EXPECT_TRUE(steps_of<MountFilesystems>(plan).empty());
  EXPECT_EQ(one.lost().find(".state"), std::string::npos);
}

TEST(PlanClassicRollback, WhatCannotGoIsRefusedByName) {
  Classic one;
  auto& later = one.snapshot("rpool/vms/web-data@later");
  later.clones = {"rpool/vms/mail", "rpool/vms/.kept/web-2026-04-04T12:00:00Z/web"};
  auto text = one.text();
  EXPECT_EQ(kind_of(one.result()), "dependent-clones");
  EXPECT_NE(text.find("rpool/vms/mail, machine 'mail', (from rpool/vms/web-data@later)"), std::string::npos) << text;
  EXPECT_NE(text.find("set aside as 'web-2026-04-04T12:00:00Z'"), std::string::npos) << text;
  later.clones.clear();
  later.holds = 1;
  EXPECT_EQ(kind_of(one.result()), "held");
  EXPECT_NE(one.text().find("rpool/vms/web-data@later"), std::string::npos);
  later.holds = 0;
  one.facts.sends = {{later.name, "zfs send of it (pid 7)"}};
  EXPECT_EQ(kind_of(one.result()), "sending");
  // What stays may be cloned, held and sent.
  one.facts.sends = {{"rpool/vms/web@old", "zfs send of it (pid 7)"}};
  for (const auto& name : {"rpool/vms/web@old", "rpool/vms/web@then"}) {
    one.snapshot(name).clones = {"rpool/vms/mail"};
    one.snapshot(name).holds = 2;
  }
  EXPECT_EQ(kind_of(one.result()), "a plan");
}

TEST(PlanClassicRollback, WhatItReservesAnewMustBeThere) {
  Classic one;
  const auto find = [&](const std::string& name) -> zfs::Dataset& {
    auto& all = one.host.view.datasets;
    return *std::find_if(all.begin(), all.end(), [&](const auto& dataset) { return dataset.name == name; });
  };
  find(test::kRoot).available = 30 * MiB;
  find("rpool/vms/web").refreservation = 20 * GiB;
  one.facts.written["rpool/vms/web"] = 40 * MiB;
  EXPECT_EQ(kind_of(one.result()), "no-room");
  EXPECT_EQ(one.text().find("--over-limit"), std::string::npos) << "it has no such flag";
  one.facts.written["rpool/vms/web"] = 20 * MiB;
  EXPECT_EQ(kind_of(one.result()), "a plan");
  one.facts.written.erase("rpool/vms/web");
  EXPECT_EQ(kind_of(one.result()), "no-room") << "not known: as much as can be";
  find("rpool/vms/web").refreservation = 0;
  EXPECT_EQ(kind_of(one.result()), "a plan");
}

TEST(PlanClassicRollback, ADiskThatTheSnapshotDoesNotKnowIsNotDestroyed) {
  Classic one;
  for (const auto& name : {"old", "then"}) one.drop_snapshot(std::string("rpool/vms/web-data@") + name);
  one.facts.past_definition = test::definition("web", {"/dev/zvol/rpool/vms/web"});
  EXPECT_EQ(kind_of(one.result()), "not-in-snapshot");
  EXPECT_NE(one.text().find("rpool/vms/web-data"), std::string::npos);
  one.request.destroy_newer = false;
  EXPECT_EQ(kind_of(one.result()), "a plan");
}

TEST(PlanClassicRollback, HasTheChecksOfEveryRollback) {
  const auto kind = [](const std::function<void(Classic&)>& change) {
    Classic one;
    change(one);
    return kind_of(one.result());
  };
  EXPECT_EQ(kind([](auto& c) { c.request.snapshot = "thn"; }), "no-such-snapshot");
  EXPECT_EQ(kind([](auto& c) { c.facts.holders = {"dd (pid 7)"}; }), "in-use");
  EXPECT_EQ(kind([](auto& c) { c.host.domain_of("web").has_managed_save = true; }), "managed-save");
  EXPECT_EQ(kind([](auto& c) { c.facts.host.interfaces.clear(); }), "not-startable");
  EXPECT_EQ(kind([](auto& c) { c.facts.past_definition.clear(); }), "not-whole");
}

}  // namespace
}  // namespace kld::plan
