// SPDX-License-Identifier: Apache-2.0
#include "plan/start_guard.h"

#include <gtest/gtest.h>

#include "builders.h"

namespace kld::plan {
namespace {

using test::Host;

/// A machine with two disks and a TPM, everything in its place.
StartFacts facts_of(const std::string& name = "web") {
  Host host;
  host.machine(name, {.labels = {"data"}});
  StartFacts facts{
      test::uuid_of(name), name, {"rpool/vms/" + name, "rpool/vms/" + name + "-data"}, host.view, {}, {}, {}};
  facts.uuids = {{name, facts.uuid}};
  facts.mounts = {{state_directory(name), state_dataset(host.view.root, name)},
                  {tpm_directory(facts.uuid), tpm_dataset(host.view.root, name)}};
  return facts;
}

std::string kind_of(const StartFacts& facts) {
  const auto refusal = bar_start(facts);
  return refusal ? refusal->kind : "";
}

Plan plan_with(std::vector<Step> steps) { return {"rollback", test::kOp, {"web"}, std::move(steps), 0, {}}; }

const DomainName kWeb{"web", test::uuid_of("web")};

TEST(StartGuard, LetsAWholeMachineStart) { EXPECT_EQ(kind_of(facts_of()), ""); }

TEST(StartGuard, LetsWhatIsNotOursStart) {
  auto facts = facts_of();
  facts.view.datasets.clear();
  facts.mounts.clear();
  facts.operations = {{plan_with({StopDomain{kWeb, 0}}), 0, {}, false}};
  EXPECT_EQ(kind_of(facts), "");
  facts.volumes.clear();
  EXPECT_EQ(kind_of(facts), "");
}

TEST(StartGuard, AGoldenImageIsForCloning) {
  auto facts = facts_of();
  for (auto& dataset : facts.view.datasets) {
    if (dataset.name == "rpool/vms/web") dataset.user[zfs::property::golden] = "true";
  }
  EXPECT_EQ(kind_of(facts), "golden");
}

TEST(StartGuard, StateMustBeMountedWhereItBelongs) {
  auto facts = facts_of();
  facts.mounts.erase(state_directory("web"));
  ASSERT_EQ(kind_of(facts), "not-mounted");
  EXPECT_EQ(bar_start(facts)->hint, "zfs mount rpool/vms/.state/web");
  facts = facts_of();
  facts.mounts.erase(tpm_directory(facts.uuid));
  EXPECT_EQ(kind_of(facts), "not-mounted");
  facts = facts_of();
  facts.mounts[state_directory("web")] = "rpool/vms/.kept/web-2026-04-04T14:35:00Z/.state";
  EXPECT_EQ(kind_of(facts), "not-mounted");
}

TEST(StartGuard, AnotherDomainWithItsDiskNeedsNoTpmOfIt) {
  auto facts = facts_of();
  facts.uuid = test::uuid_of("rescue");
  facts.domain = "rescue";
  EXPECT_EQ(kind_of(facts), "");
  facts.uuids = {};
  EXPECT_EQ(kind_of(facts), "") << "nothing is saved, its name tells";
  facts.mounts.erase(state_directory("web"));
  EXPECT_EQ(kind_of(facts), "not-mounted") << "whose it is cannot be seen";
  facts = facts_of();
  facts.uuid = test::uuid_of("defined anew");
  EXPECT_EQ(kind_of(facts), "not-mounted") << "under another UUID it would get a blank one";
  facts = facts_of();
  facts.domain = "renamed";
  facts.mounts.erase(tpm_directory(facts.uuid));
  EXPECT_EQ(kind_of(facts), "not-mounted") << "the machine itself under another name";
}

TEST(StartGuard, WhatIsSetAsideDoesNotStart) {
  auto facts = facts_of();
  facts.volumes = {"rpool/vms/.kept/web-2026-04-04T14:35:00Z/web"};
  EXPECT_EQ(kind_of(facts), "set-aside");
}

TEST(StartGuard, AnOperationThatWasCutOffComesFirst) {
  auto facts = facts_of();
  facts.operations = {{plan_with({StopDomain{kWeb, 0}, StartDomain{kWeb}}), 1, {}, false}};
  EXPECT_EQ(kind_of(facts), "unfinished");
  facts.operations[0].plan.machines = {"mail"};
  EXPECT_EQ(kind_of(facts), "");
}

TEST(StartGuard, AnotherRootHasMachinesOfItsOwn) {
  auto facts = facts_of();
  facts.operations = {{plan_with({StopDomain{kWeb, 0}}), 0, {}, false}};
  facts.operations[0].plan.root = "tank/vms";
  EXPECT_EQ(kind_of(facts), "");
  facts.operations[0].plan.root = facts.view.root;
  EXPECT_EQ(kind_of(facts), "unfinished");
}

TEST(StartGuard, AnEntryThatCannotBeReadBarsItsMachine) {
  auto facts = facts_of();
  facts.operations = {{plan_with({}), std::nullopt, {}, false}};
  EXPECT_EQ(kind_of(facts), "unfinished");
}

TEST(StartGuard, OneThatIsAtWorkStartsItItself) {
  auto facts = facts_of();
  facts.operations = {{plan_with({StopDomain{kWeb, 0}, RenameDataset{"a", "b", 1}, StartDomain{kWeb}}), 1, {}, true}};
  EXPECT_EQ(kind_of(facts), "locked") << "by hand, in the middle of it";
  facts.operations[0].begun = 2;
  EXPECT_EQ(kind_of(facts), "") << "its own last step";
  facts.operations[0].begun = 1;
  facts.operations[0].undone = {1};
  EXPECT_EQ(kind_of(facts), "") << "its own way back";
}

TEST(StartGuard, WhatOnlyReadsIsNoObstacle) {
  auto facts = facts_of();
  facts.operations = {{plan_with({TakeSnapshots{{"rpool/vms/web@s"}, {}}}), 0, {}, false}};
  EXPECT_EQ(kind_of(facts), "");
  const std::string aside = "rpool/vms/.kept/web-2026-04-04T14:35:00Z";
  facts.operations = {
      {plan_with({DestroySnapshots{{{aside + "/web@s", 1}}}, DestroyDatasets{{{aside, 2, ""}}}}), 1, {}, false}};
  EXPECT_EQ(kind_of(facts), "") << "a version that is dropped";
  facts.operations = {{plan_with({DestroyDatasets{{{"rpool/vms/web", 2, ""}}}}), 0, {}, false}};
  EXPECT_EQ(kind_of(facts), "unfinished");
  facts.operations = {
      {plan_with({SetProperties{"rpool/vms/web", {{zfs::property::op, "x"}}, {{zfs::property::op, ""}}}}),
       0,
       {},
       true}};
  EXPECT_EQ(kind_of(facts), "") << "a mark of ours";
  auto clone = plan_with({TakeSnapshots{{"rpool/vms/web@s"}, {}}, CloneDatasets{}});
  clone.operation = "clone";
  clone.machines = {"web", "copy"};
  facts.operations = {{clone, 1, {}, true}};
  EXPECT_EQ(kind_of(facts), "");
}

}  // namespace
}  // namespace kld::plan
