// SPDX-License-Identifier: Apache-2.0
#include "plan/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using testing::ElementsAre;

const Step kVolume = CreateVolume{"rpool/vms/web", 1, {}};
const Step kMount = MountFilesystems{{{"rpool/vms/.state/web", "/s/web"}}};
const Step kFiles = WriteFiles{{{"/s/web/domain.xml", "<domain/>", false, ""}}};
const Step kSyncedFiles = WriteFiles{{{"/s/web/domain.xml", "<domain/>", false, ""}}, true};
const Step kSeeds = WriteSeeds{};
const Step kSnapshots = TakeSnapshots{{"rpool/vms/web@s"}, {}};
const Step kDefine = DefineDomains{{{"web", "u", "<domain/>"}}};
const Step kDefineAndSync = DefineDomains{{{"web", "u", "<domain/>"}}, true, {"/s/web"}};
const Step kAutostart = SetAutostart{{"web", "u"}, false};
const Step kStart = StartDomain{{"web", "u"}};
const Step kUndefine = UndefineDomains{{{"web", "u", "<domain/>"}}};
const Step kDestroy = DestroyDatasets{};
const Step kDestroySnapshots = DestroySnapshots{{{"rpool/vms/web@s", 1}}};

Plan plan(std::vector<Step> steps, std::size_t commit) {
  Plan made;
  made.steps = std::move(steps);
  made.commit = commit;
  return made;
}

Progress here(std::optional<std::size_t> begun) { return {begun, false}; }
Progress other_boot(std::optional<std::size_t> begun) { return {begun, true}; }

TEST(Recovery, NotesThatMustBeOnDiskAreTheCommitPointsAndThoseOfWhatIsNotRepeated) {
  EXPECT_THAT(synced_notes(plan({kVolume, kMount, kDefine, kStart}, 2)), ElementsAre(false, false, true, false));
  // What follows a step that must not run twice says that this one is done.
  EXPECT_THAT(synced_notes(plan({kUndefine, kDestroy, kDestroySnapshots}, 1)), ElementsAre(false, true, true));
  // A machine whose autostart was turned off is known before the host may start anew.
  EXPECT_THAT(synced_notes(plan({kAutostart, kVolume, kDefine}, 2)), ElementsAre(false, true, true));
  EXPECT_TRUE(synced_notes(plan({}, 0)).empty());
}

TEST(Recovery, NothingReturnsFromTheFirstDestruction) {
  EXPECT_EQ(no_return(plan({kVolume, kDefine, kStart}, 1)), 3);
  EXPECT_EQ(no_return(plan({kUndefine, kDestroy}, 1)), 1);
  EXPECT_EQ(no_return(plan({kUndefine, kMount, kDestroy}, 1)), 2);
}

TEST(Recovery, AFailingStepIsUndoneBeforeThePointOfNoReturn) {
  const Plan create = plan({kVolume, kDefine, kStart}, 1);
  for (const std::size_t step : {0U, 1U, 2U}) EXPECT_TRUE(is_undone_when_it_fails(create, step));
  EXPECT_FALSE(is_undone_when_it_fails(plan({kUndefine, kDestroy}, 1), 1));
  // All or none of them: a refused hold leaves every snapshot.
  EXPECT_TRUE(is_undone_when_it_fails(plan({kDestroySnapshots, kDestroy}, 0), 0));
  EXPECT_FALSE(is_undone_when_it_fails(plan({kDestroySnapshots, kDestroySnapshots}, 0), 1));
}

TEST(Recovery, KnowsWhatTheRestOfAPlanDestroysAndWhoseDomainItStillUndefines) {
  const Plan remove = plan({kUndefine, kDestroySnapshots, DestroyDatasets{{{"rpool/vms/web", 1, ""}}}}, 1);
  EXPECT_THAT(at_stake(remove, 0).datasets, ElementsAre("rpool/vms/web"));
  EXPECT_THAT(at_stake(remove, 0).undefined, ElementsAre("u"));
  EXPECT_THAT(at_stake(remove, 2).datasets, ElementsAre("rpool/vms/web"));
  EXPECT_TRUE(at_stake(remove, 1).undefined.empty());
  EXPECT_TRUE(at_stake(plan({kVolume, kDefine}, 1), 0).datasets.empty());
}

TEST(Recovery, ItGoesOnWithTheStepThatHadBegun) {
  EXPECT_EQ(first_to_finish(plan({kVolume, kFiles, kDefine}, 1), here(2)), 2);
}

TEST(Recovery, AfterAPowerCutItRepeatsWhatWasNotOnDisk) {
  const Plan clone = plan({kVolume, kMount, kFiles, kSeeds, kDefine, kStart}, 1);
  EXPECT_EQ(first_to_finish(clone, other_boot(4)), 1);
  EXPECT_EQ(first_to_finish(clone, here(4)), 4);
  // Not before its commit point.
  EXPECT_EQ(first_to_finish(plan({kMount, kFiles, kDefine}, 1), other_boot(2)), 1);
  // What was synced stays, and what a later step brought to disk.
  EXPECT_EQ(first_to_finish(plan({kVolume, kSyncedFiles, kDefine}, 1), other_boot(2)), 2);
  EXPECT_EQ(first_to_finish(plan({kVolume, kFiles, kDefineAndSync, kStart}, 1), other_boot(3)), 3);
  EXPECT_EQ(first_to_finish(plan({kVolume, kFiles, kSnapshots, kStart}, 1), other_boot(3)), 3);
  EXPECT_EQ(first_to_finish(plan({kVolume, kFiles, kDefine, kStart}, 1), other_boot(3)), 1);
  EXPECT_EQ(first_to_finish(plan({kVolume, kFiles, kDefineAndSync, SaveDefinition{}, kStart}, 1), other_boot(4)), 4);
}

TEST(Recovery, AfterAPowerCutAnyStepBeforeTheCommitPointMayHaveRun) {
  const Plan create = plan({kVolume, kMount, kFiles, kDefine}, 3);
  EXPECT_EQ(last_to_undo(create, here(1)), 1);
  EXPECT_EQ(last_to_undo(create, here(std::nullopt)), std::nullopt);
  EXPECT_EQ(last_to_undo(create, other_boot(0)), 2);
  EXPECT_EQ(last_to_undo(create, other_boot(std::nullopt)), 2);
  // Where all steps are undone there is a note for the last one at most.
  EXPECT_EQ(last_to_undo(plan({kVolume, kMount}, 2), other_boot(0)), 1);
  // With the commit point first, nothing runs unnoted.
  EXPECT_EQ(last_to_undo(plan({kUndefine, kDestroy}, 0), other_boot(std::nullopt)), std::nullopt);
  EXPECT_EQ(last_to_undo(plan({}, 0), other_boot(std::nullopt)), std::nullopt);
}

TEST(Recovery, ItGoesBackWhileLibvirtKnowsOfNothing) {
  const Plan clone = plan({kVolume, kMount, kFiles, kDefine, kStart}, 1);
  EXPECT_TRUE(can_go_back(clone, 1, here(1)));
  EXPECT_TRUE(can_go_back(clone, 2, here(2)));
  EXPECT_FALSE(can_go_back(clone, 3, here(3))) << "libvirt may know it";
  EXPECT_FALSE(can_go_back(clone, 2, here(3))) << "libvirt may have known it before this one was repeated";
  EXPECT_FALSE(can_go_back(clone, 1, other_boot(1))) << "what had begun may not have been noted";
  // All or nothing: it failed, so it did nothing.
  EXPECT_TRUE(can_go_back(plan({kVolume, kSnapshots, kDestroy}, 1), 1, other_boot(1)));
  EXPECT_FALSE(can_go_back(plan({kVolume, kDestroy}, 1), 1, here(1)));
}

TEST(Recovery, AFinishedPlanDoesWithoutAStart) {
  EXPECT_TRUE(is_optional(kStart));
  EXPECT_TRUE(is_optional(AwaitDevices{}));
  EXPECT_TRUE(is_optional(SaveDefinition{}));
  EXPECT_FALSE(is_optional(kDefine));
  EXPECT_FALSE(is_optional(kMount));
}

TEST(Recovery, KnowsWhatAPlanMadeAndStarted) {
  const Plan clone = plan(
      {CreateFilesystem{".state", {}}, CreateFilesystem{"a", {{zfs::property::machine, "m"}}}, CreateVolume{"b", 1, {}},
       CopyDataset{"s@x", "c", {}}, CloneDatasets{{{"s@x", "d", {}}, {"s@x", "e", {}}}}, kStart, kStart},
      5);
  EXPECT_EQ(made_by(clone), (std::vector<std::string>{"a", "b", "c", "d", "e"}));
  EXPECT_TRUE(started_by(clone, 4).empty());
  EXPECT_EQ(started_by(clone, 5).size(), 1U);
  EXPECT_EQ(started_by(clone, 9).size(), 2U);
}

TEST(Recovery, OthersMayTakeFromWhatIsCloned) {
  Plan clone = plan({kStart}, 0);
  clone.operation = "clone";
  clone.machines = {"golden", "web"};
  EXPECT_TRUE(only_takes_from(clone, "golden"));
  EXPECT_FALSE(only_takes_from(clone, "web"));
  for (const char* operation : {"auto-snapshot", "prune"}) {
    const Plan hourly{operation, "op", {"web"}, {}, 0, {}};
    EXPECT_TRUE(only_takes_from(hourly, "web")) << operation;
  }
  clone.operation = "delete";
  EXPECT_FALSE(only_takes_from(clone, "golden"));
}

TEST(Recovery, ARedefinitionIsDoneWhenDisksAndVariablesLieThere) {
  const auto xml = [](const std::vector<std::string>& disks) { return test::definition("web", disks); };
  const RedefineDomain step{{"web", "u", xml({"/dev/zvol/p/web"})}, {"web", "u", xml({"/dev/zvol/p/old"})}, true};
  EXPECT_TRUE(is_done(step, step.now.xml));
  EXPECT_FALSE(is_done(step, step.before.xml));
  EXPECT_TRUE(is_done(step, xml({"/dev/zvol/p/web", "/srv/more.raw"}))) << "edited since";
  auto elsewhere = virt::Definition::parse(step.now.xml);
  elsewhere.set_nvram("/elsewhere");
  EXPECT_FALSE(is_done(step, elsewhere.xml()));
}

TEST(Recovery, ARedefinitionIsKnownByTheGenerationIdAlsoWhereThereWasNone) {
  const auto without = test::definition("web", {"/dev/zvol/p/web"});
  auto with = virt::Definition::parse(without);
  with.set_genid(test::uuid_of("another moment"));
  const RedefineDomain back{{"web", "u", without}, {"web", "u", with.xml()}, true};
  EXPECT_FALSE(is_done(back, with.xml()));
  EXPECT_TRUE(is_done(back, without));
}

TEST(Recovery, AStartThatFailsTakesAllBackWhereTheMachineRanBefore) {
  const DomainName web{"web", "u"};
  const Progress alive{1, false};
  const auto swap = plan({StopDomain{web, 60}, RenameDataset{"a", "b", 1}, StartDomain{web}}, 2);
  EXPECT_TRUE(takes_all_back(swap, 2, alive));
  EXPECT_FALSE(takes_all_back(swap, 1, {0, false})) << "not the start";
  EXPECT_FALSE(takes_all_back(swap, 2, {2, false})) << "it may have started, and been used";
  EXPECT_FALSE(takes_all_back(swap, 2, {1, true})) << "another life of the host";
  EXPECT_FALSE(takes_all_back(plan({kMount, RenameDataset{"a", "b", 1}, StartDomain{web}}, 2), 2, alive))
      << "it was off";
  EXPECT_FALSE(takes_all_back(plan({StopDomain{web, 60}, kDestroy, StartDomain{web}}, 1), 2, alive)) << "too late";
}

TEST(Recovery, AHostThatStartedAnewRunsAndMountsWhatItWants) {
  EXPECT_TRUE(is_left_to_the_host({kStart}, kStart));
  EXPECT_TRUE(is_left_to_the_host({}, UnmountFilesystems{}));
  EXPECT_FALSE(is_left_to_the_host({}, kMount));
  EXPECT_FALSE(is_left_to_the_host({}, kUndefine));
  EXPECT_FALSE(is_left_to_the_host({}, kDestroy));
}

TEST(Recovery, WhatStartsWithTheHostStartsWhenTheHostCouldNot) {
  const StartDomain start{{"web", "u-web"}};
  EXPECT_FALSE(is_left_to_the_host({SetAutostart{start.domain, false}, StopDomain{start.domain, 60}}, start));
  EXPECT_TRUE(is_left_to_the_host({SetAutostart{start.domain, true}}, start)) << "it never ran";
  EXPECT_TRUE(is_left_to_the_host({SetAutostart{{"mail", "u-mail"}, false}}, start)) << "another's";
}

TEST(Recovery, APlanIsWholeWithoutTheOptionalStepsAtItsEnd) {
  const auto all = plan({kDestroy, AwaitDevices{}, kStart}, 0);
  EXPECT_FALSE(is_whole_without(all, 0));
  EXPECT_TRUE(is_whole_without(all, 1));
  EXPECT_TRUE(is_whole_without(all, 2));
  EXPECT_FALSE(is_whole_without(plan({kDestroy, kStart, kFiles}, 0), 1));
  EXPECT_FALSE(is_whole_without(plan({kDestroy, kStart}, 2), 1)) << "before the commit point";
}

}  // namespace
}  // namespace kld::plan
