// SPDX-License-Identifier: Apache-2.0
#include "plan/rollback.h"

#include <gtest/gtest.h>

#include "plan/delete.h"
#include "plan/drop.h"
#include "unit/golden.h"
#include "unit/plan/rollback_scenes.h"

namespace kld::plan {
namespace {

using test::Back;
using test::fresh;
using test::kind_of;
using test::steps_of;
using test::Undo;

/// Kind of the refusal after `change`, with its evidence and hint in `words`.
std::string kind_with(const std::function<void(Back&)>& change, std::string* words = nullptr) {
  Back one;
  change(one);
  const auto result = one.result();
  if (words != nullptr) *words = test::to_text(result);
  return kind_of(result);
}

TEST(PlanRollback, OfAMachineAtRest) { expect_golden("plan/rollback.txt", Back().text()); }

TEST(PlanRollback, OfOneThatRunsAndStartsWithTheHost) {
  Back one({.state = virt::State::running});
  one.host.domain_of("web").autostart = true;
  EXPECT_EQ(kind_of(one.result()), "running");
  one.request.stop = true;
  expect_golden("plan/rollback-running.txt", one.text());
}

TEST(PlanRollback, OfItsDisksAlone) {
  Back one;
  one.request.only_disks = true;
  one.facts.past_definition.clear();
  expect_golden("plan/rollback-only-disks.txt", one.text());
}

TEST(PlanRollback, ToTheNewestWholeSnapshotWhenNoneIsNamed) {
  Back one;
  one.request.snapshot.reset();
  one.drop_snapshot("rpool/vms/web-data@later");
  EXPECT_EQ(steps_of<CloneDatasets>(one.plan()).front().clones.front().snapshot,
            "rpool/vms/.kept/web-2026-04-04T14:35:00Z/web@then");
  one.facts.snapshots.clear();
  EXPECT_EQ(kind_of(one.result()), "no-snapshot");
}

TEST(PlanRollback, ADiskThatTheSnapshotDoesNotKnowGoesAside) {
  Back one;
  for (const auto& name : {"old", "then"}) one.drop_snapshot(std::string("rpool/vms/web-data@") + name);
  one.facts.past_definition = test::definition("web", {"/dev/zvol/rpool/vms/web"});
  const auto plan = one.plan();
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_NE(plan.warnings[0].find("rpool/vms/web-data is not in '@then'"), std::string::npos);
  EXPECT_EQ(steps_of<RenameDataset>(plan).size(), 3U) << "both disks and the state with its TPM";
  EXPECT_EQ(steps_of<CloneDatasets>(plan).front().clones.size(), 2U);
  EXPECT_EQ(steps_of<AwaitDevices>(plan).front().volumes, std::vector<std::string>{"rpool/vms/web"});
}

TEST(PlanRollback, ADiskOfTheSnapshotThatIsGoneIsNamed) {
  std::string words;
  EXPECT_EQ(kind_with([](auto& b) { b.drop_snapshot("rpool/vms/web-data@then"); }, &words), "disk-gone");
  EXPECT_NE(words.find("vdb: rpool/vms/web-data has no snapshot '@then'"), std::string::npos) << words;
  EXPECT_EQ(kind_with(
                [](auto& b) {
                  b.facts.past_definition = test::definition(
                      "web",
                      {"/dev/zvol/rpool/vms/web", "/dev/zvol/rpool/vms/web-data", "/dev/zvol/rpool/vms/web-log"});
                },
                &words),
            "disk-gone");
  EXPECT_NE(words.find("vdc: /dev/zvol/rpool/vms/web-log is no zvol of this machine any more"), std::string::npos);
}

TEST(PlanRollback, WhatIsNotWholeIsRefusedUnlessTheDisksAreEnough) {
  EXPECT_EQ(kind_with([](auto& b) { b.facts.past_definition.clear(); }), "not-whole");
  EXPECT_EQ(kind_with([](auto& b) { b.drop_snapshot("rpool/vms/.state/web/tpm@then"); }), "not-whole");
  EXPECT_EQ(kind_with([](auto& b) {
              b.drop_snapshot("rpool/vms/.state/web/tpm@then");
              b.request.only_disks = true;
            }),
            "a plan");
}

TEST(PlanRollback, ADefinitionThatCouldNotStartHereIsRefused) {
  std::string words;
  EXPECT_EQ(kind_with([](auto& b) { b.facts.host.interfaces.clear(); }, &words), "not-startable");
  EXPECT_NE(words.find("this host has no bridge 'br0'"), std::string::npos);
  EXPECT_EQ(kind_with([](auto& b) { b.facts.host.missing_files = {"/isos/debian.iso"}; }, &words), "not-startable");
  EXPECT_NE(words.find("/isos/debian.iso is not there"), std::string::npos);
  EXPECT_EQ(kind_with([](auto& b) { b.facts.host.unsupported = {"no machine type 'pc-q35-99'"}; }, &words),
            "not-startable");
  EXPECT_NE(words.find("pc-q35-99"), std::string::npos);
}

TEST(PlanRollback, ASendOfWhatMovesIsRefusedAndOneOfWhatStaysIsNot) {
  std::string words;
  const auto sends = [](const std::string& snapshot) {
    return [=](Back& b) { b.facts.sends = {{snapshot, "zfs send of it (pid 7)"}}; };
  };
  EXPECT_EQ(kind_with(sends("rpool/vms/web@then"), &words), "sending");
  EXPECT_NE(words.find("pid 7"), std::string::npos);
  EXPECT_EQ(kind_with(sends("rpool/vms/.state/web@old")), "sending");
  EXPECT_EQ(kind_with(sends("rpool/vms/web@later")), "a plan");
}

TEST(PlanRollback, WhatHoldsTheMachineIsRefused) {
  EXPECT_EQ(kind_with([](auto& b) { b.facts.holders = {"dd (pid 7) has rpool/vms/web open"}; }), "in-use");
  EXPECT_EQ(kind_with([](auto& b) { b.host.domain_of("web").has_managed_save = true; }), "managed-save");
  EXPECT_EQ(kind_with([](auto& b) { b.facts.block_jobs = {"vda: commit"}; }), "block-job");
  EXPECT_EQ(kind_with([](auto& b) { b.host.domain_of("mail").block_paths.push_back("/dev/zvol/rpool/vms/web"); }),
            "shared-disk");
  EXPECT_EQ(kind_with([](auto& b) { b.host.add(test::filesystem("rpool/vms/.state/web/notes")); }), "foreign-dataset");
  EXPECT_EQ(kind_with([](auto& b) { b.host.view.domains.clear(); }), "no-domain");
  EXPECT_EQ(kind_with([](auto& b) { b.request.machine = "wev"; }), "no-such-machine");
  EXPECT_EQ(kind_with([](auto& b) { b.request.snapshot = "thn"; }), "no-such-snapshot");
  EXPECT_EQ(kind_with([](auto& b) { b.host.dataset("rpool/vms/.state/web").mounted = false; }), "not-mounted");
  EXPECT_EQ(kind_with([](auto& b) { b.host.dataset("rpool/vms/web").refreservation = 900 * GiB; }), "no-room")
      << "its past version reserves as much";
}

// ZFS fills a reservation up again that a snapshot has taken from.
TEST(PlanRollback, WhatThickVolumesReserveMustBeThere) {
  const auto with = [](std::uint64_t refreservation, std::uint64_t written, const char* reservation) {
    return kind_with([&](auto& b) {
      auto& disk = b.host.dataset("rpool/vms/web");
      disk.refreservation = refreservation;
      disk.written = written;
      b.facts.properties[disk.name]["reservation"] = reservation;
    });
  };
  EXPECT_EQ(with(500 * GiB, 200 * GiB, "0"), "a plan");
  EXPECT_EQ(with(500 * GiB, 400 * GiB, "0"), "no-room");
  EXPECT_EQ(with(500 * GiB, 200 * GiB, "214748364800"), "no-room");
  EXPECT_EQ(with(0, 900 * GiB, "0"), "a plan");
}

TEST(PlanRollback, WhatHasAnotherKeyThanTheRootIsRefused) {
  std::string words;
  const auto with = [&](const std::string& dataset, const std::string& key) {
    return kind_with([&](auto& b) { b.host.dataset(dataset).encryption_root = key; }, &words);
  };
  EXPECT_EQ(with("rpool/vms/web", "rpool/vms/web"), "own-key");
  EXPECT_NE(words.find("rpool/vms/web has a key of its own"), std::string::npos) << words;
  EXPECT_EQ(with("rpool/vms/web", "rpool/vms/golden"), "own-key");
  EXPECT_NE(words.find("rpool/vms/web takes its key from rpool/vms/golden"), std::string::npos) << words;
  Back all;
  for (auto& dataset : all.host.view.datasets) dataset.encryption_root = "rpool";
  EXPECT_EQ(kind_of(all.result()), "a plan");
  Back classic;
  classic.request.destroy_newer = true;
  classic.host.dataset("rpool/vms/web").encryption_root = "rpool/vms/web";
  EXPECT_EQ(kind_of(classic.result()), "a plan") << "where nothing is promoted";
  Undo undo;
  undo.host.dataset("rpool/vms/web-data").encryption_root = "rpool/vms/web-data";
  EXPECT_EQ(kind_of(undo.result()), "own-key");
}

TEST(PlanRollback, AllThatIsSetOnThePresentIsSetOnThePast) {
  Back one;
  auto& own = one.facts.properties["rpool/vms/web"];
  own["com.example:backup"] = "nightly";
  own["compression"] = "zstd-3";
  own["volsize"] = "21474836480";
  own["volblocksize"] = "65536";
  own["sync"] = "always";
  const auto plan = one.plan();
  const auto clone = steps_of<CloneDatasets>(plan).front().clones.front();
  EXPECT_EQ(clone.name, "rpool/vms/web");
  EXPECT_EQ(clone.properties.at("com.example:backup"), "nightly");
  EXPECT_EQ(clone.properties.at("sync"), "always");
  EXPECT_EQ(clone.properties.at(zfs::property::op), test::kOp);
  EXPECT_FALSE(clone.properties.contains("volsize") || clone.properties.contains("volblocksize"));
  const auto later = steps_of<SetProperties>(plan);
  const auto set = std::find_if(later.begin(), later.end(), [](const auto& s) { return s.dataset == "rpool/vms/web"; });
  ASSERT_NE(set, later.end());
  EXPECT_EQ(set->properties, (zfs::Properties{{"compression", "zstd-3"}}));
  EXPECT_EQ(set->previous, zfs::Properties{}) << "should it be taken back where the present is";
}

TEST(PlanUndo, BringsThePresentBack) { expect_golden("plan/undo.txt", test::to_text(Undo().result())); }

TEST(PlanUndo, TakesTheOneThatIsNamed) {
  Undo one;
  for (const auto& given : {"web-2026-04-04T14:35:00Z", "2026-04-04T14:35:00Z"}) {
    one.request.kept = given;
    EXPECT_EQ(kind_of(one.result()), "a plan") << given;
  }
  one.request.kept = "monday";
  EXPECT_EQ(kind_of(one.result()), "no-such-kept");
  Undo nothing;
  std::erase_if(nothing.host.view.datasets, [](const auto& d) { return d.name.find(".kept/") != d.name.npos; });
  EXPECT_EQ(kind_of(nothing.result()), "nothing-kept");
}

// What a second rollback to before the first one's snapshot set aside has that snapshot.
TEST(PlanUndo, WhatHangsOnALaterOneWaitsForThat) {
  Undo one;
  one.add("rpool/vms/.kept/web-2026-04-04T15:00:00Z", "old");
  one.host.dataset(std::string(Undo::kAside) + "/web").origin = "rpool/vms/.kept/web-2026-04-04T15:00:00Z/web@then";
  one.request.kept = "2026-04-04T14:35:00Z";
  const auto result = one.result();
  ASSERT_EQ(kind_of(result), "kept-later");
  EXPECT_NE(test::to_text(result).find("kvm-snap web undo web-2026-04-04T15:00:00Z"), std::string::npos);
}

// OpenZFS 2.1 panics at a bookmark that is there twice.
TEST(PlanUndo, EqualNamesAreRefusedBeforeAnythingIsDone) {
  Undo one;
  one.facts.bookmarks = {{"rpool/vms/web#backup", 1}, {std::string(Undo::kAside) + "/web#other", 1}};
  EXPECT_EQ(kind_of(one.result()), "a plan");
  one.facts.bookmarks.push_back({std::string(Undo::kAside) + "/web#backup", 2});
  EXPECT_EQ(kind_of(one.result()), "named-twice");
  Undo two;
  two.facts.snapshots.push_back(test::snapshot(std::string(Undo::kAside) + "/web@old", 500));
  const auto result = two.result();
  ASSERT_EQ(kind_of(result), "named-twice");
  EXPECT_NE(test::to_text(result).find("rpool/vms/web@old"), std::string::npos);
}

TEST(PlanUndo, AVersionWithWhatIsNotItsOwnIsRefused) {
  Undo one;
  one.host.add(test::volume(std::string(Undo::kAside) + "/notes"));
  EXPECT_EQ(kind_of(one.result()), "foreign-dataset");
  one.host.view.datasets.back() = test::filesystem(std::string(Undo::kAside) + "/.state/notes");
  EXPECT_EQ(kind_of(one.result()), "foreign-dataset");
}

TEST(PlanUndo, AVersionThatLostADiskIsRefused) {
  Undo one;
  std::erase_if(one.host.view.datasets,
                [](const auto& d) { return d.name == std::string(Undo::kAside) + "/web-data"; });
  EXPECT_EQ(kind_of(one.result()), "disk-gone");
}

TEST(PlanUndo, AVersionThatSomebodyLooksIntoIsRefused) {
  Undo one;
  const auto part = [](const std::string& name) { return std::string(Undo::kAside) + name; };
  one.facts.kept_holders = {"sleep (pid 7) has it open"};
  EXPECT_EQ(kind_of(one.result()), "in-use");
  one.facts.kept_holders.clear();
  one.host.add(test::domain("rescue", virt::State::shut_off, {"/dev/zvol/" + part("/web-data")}));
  EXPECT_NE(test::to_text(one.result()).find("web-data is a disk of domain 'rescue'"), std::string::npos);
  one.host.view.domains.pop_back();
  one.host.dataset(part("/.state")).mounted = true;
  EXPECT_NE(test::to_text(one.result()).find(part("/.state is mounted")), std::string::npos);
}

TEST(PlanUndo, APlaceThatAnotherMachineHasTakenIsRefused) {
  Undo one;
  std::erase_if(one.host.view.datasets, [](const auto& d) { return d.name == "rpool/vms/web-data"; });
  one.host.machine("web-data");
  one.facts.definitions.current = one.facts.past_definition = test::definition("web", {"/dev/zvol/rpool/vms/web"});
  const auto result = one.result();
  ASSERT_EQ(kind_of(result), "name-taken");
  EXPECT_NE(test::to_text(result).find("rpool/vms/web-data, of machine 'web-data'"), std::string::npos);
}

TEST(PlanUndo, WhatTheVersionLiesInMustBeFreeToGo) {
  Undo one;
  auto snapshot = test::snapshot("rpool/vms/.kept/web-2026-04-04T14:35:00Z@backup", 900);
  one.facts.snapshots.push_back(snapshot);
  EXPECT_EQ(kind_of(one.result()), "a plan");
  one.facts.snapshots.back().holds = 1;
  EXPECT_EQ(kind_of(one.result()), "held");
  one.facts.snapshots.back().holds = 0;
  one.facts.snapshots.back().clones = {"rpool/else"};
  EXPECT_EQ(kind_of(one.result()), "held");
}

TEST(PlanDrop, DestroysOneVersion) {
  Undo one;
  const DropRequest request{"web", "2026-04-04T14:35:00Z"};
  DropFacts facts{one.facts.snapshots, one.host.view.datasets, {}};
  expect_golden("plan/drop.txt", test::to_text(plan_drop(one.host.view, request, facts, fresh())));
  facts.snapshots.back().holds = 1;
  EXPECT_EQ(kind_of(plan_drop(one.host.view, request, facts, fresh())), "held");
  facts.snapshots.back().holds = 0;
  facts.holders = {"dd (pid 7) has it open"};
  EXPECT_EQ(kind_of(plan_drop(one.host.view, request, facts, fresh())), "in-use");
  facts.holders.clear();
  facts.origins.push_back(test::volume("rpool/vms/late"));
  facts.origins.back().origin = std::string(Undo::kAside) + "/web@later";
  const auto result = plan_drop(one.host.view, request, facts, fresh());
  ASSERT_EQ(kind_of(result), "dependent-clones");
  EXPECT_NE(test::to_text(result).find("rpool/vms/late"), std::string::npos);
}

// They are the machine's property, and no clones that would keep it.
TEST(PlanDelete, TakesWhatIsSetAsideAlong) {
  Undo one;
  const DeleteRequest request{{"web"}, false, false};
  DeleteFacts facts;
  facts.snapshots = one.facts.snapshots;
  facts.origins = one.host.view.datasets;
  facts.definitions["web"] = one.facts.definitions.current;
  const auto result = plan_delete(one.host.view, request, facts, fresh());
  ASSERT_EQ(kind_of(result), "a plan") << test::to_text(result);
  std::vector<std::string> names;
  const auto destroy = steps_of<DestroyDatasets>(std::get<Plan>(result)).front();
  for (const auto& doomed : destroy.datasets) names.push_back(doomed.name);
  const auto at = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) - names.begin(); };
  EXPECT_EQ(names.size(), 9U);
  EXPECT_LT(at(std::string(Undo::kAside) + "/web"), at("rpool/vms/web"));
  EXPECT_LT(at(std::string(Undo::kAside) + "/.state"), at(Undo::kAside));
  std::string lines;
  for (const auto& line : describe_deletion(one.host.view, request, facts).lines) lines += line + "\n";
  EXPECT_NE(lines.find("web-2026-04-04T14:35:00Z, set aside by a rollback"), std::string::npos) << lines;
}

}  // namespace
}  // namespace kld::plan
