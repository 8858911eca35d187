// SPDX-License-Identifier: Apache-2.0
#include "plan/ghost.h"

#include <gtest/gtest.h>

#include "plan/drop.h"
#include "plan/list.h"
#include "plan/revive.h"
#include "plan/rollback.h"
#include "plan/snapshot.h"
#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;
using test::kind_of;
using test::steps_of;

constexpr char kCloneOfGolden[] = "clone-2026-04-04T12:00:00Z";

/// golden with two disks, and web, cloned from it.
struct GoldenAside {
  Host host;
  DeleteRequest request{{"golden"}, false, false, true};
  DeleteFacts facts;
  GhostFacts more;

  explicit GoldenAside(const test::MachineOptions& options = {.labels = {"data"}}) {
    host.machine("golden", options);
    host.clone("golden", kCloneOfGolden, "web");
    look();
  }
  void look() {
    facts.origins = host.view.datasets;
    facts.snapshots = host.snapshots("golden", kCloneOfGolden, 200, "clone", {"web"});
    for (const auto& name : {"golden", "web"}) {
      const auto xml = test::definition(host, name);
      facts.definitions[name] = xml;
      more.definitions[name] = {xml, true, xml};
    }
  }
  Result result() const { return plan_ghost(host.view, request, facts, more, fresh()); }
  std::string text() const { return test::to_text(result()); }
};

TEST(PlanGhost, OfOneThatOthersWereClonedFrom) { expect_golden("plan/ghost.txt", GoldenAside().text()); }

TEST(PlanGhost, OfTwoOneOfWhichRunsAndOneIsSaved) {
  GoldenAside one({.state = virt::State::running, .tpm = false});
  one.request = {{"golden", "web"}, true, true, true, 86400};
  one.host.domain_of("golden").autostart = true;
  one.host.domain_of("web").has_managed_save = true;
  one.look();
  one.more.definitions["golden"].saved = "<old/>";
  expect_golden("plan/ghost-forced.txt", one.text());
}

TEST(PlanGhost, ExpiresAtOnceOrWhenItWasAskedFor) {
  EXPECT_EQ(expires_at({{"web"}, false, false, true}, 1000), 1000);
  EXPECT_EQ(expires_at({{"web"}, false, false, false, 60}, 1000), 1060);
  EXPECT_EQ(expires_at({{"web"}, false, false, true, 60}, 1000), 1060);
  EXPECT_FALSE((DeleteRequest{{"web"}}.is_set_aside()));
}

/// Kind of the refusal after `change`.
std::string kind(const std::function<void(GoldenAside&)>& change) {
  GoldenAside one;
  change(one);
  return kind_of(one.result());
}

TEST(PlanGhost, WhatCannotBeMovedIsRefused) {
  EXPECT_EQ(kind([](auto& g) { g.host.domain_of("golden").state = virt::State::running; }), "running");
  EXPECT_EQ(kind([](auto& g) { g.host.domain_of("golden").has_managed_save = true; }), "managed-save");
  EXPECT_EQ(kind([](auto& g) { g.host.domain_of("golden").has_snapshots = true; }), "libvirt-snapshots");
  EXPECT_EQ(kind([](auto& g) { g.host.domain_of("golden").persistent = false; }), "transient-domain");
  EXPECT_EQ(kind([](auto& g) { g.facts.block_jobs["golden"] = {"vda: commit"}; }), "block-job");
  EXPECT_EQ(kind([](auto& g) { g.facts.holders["golden"] = {"dd (pid 7)"}; }), "in-use");
  EXPECT_EQ(kind([](auto& g) { g.more.sends["golden"] = {"zfs send (pid 7)"}; }), "sending");
  EXPECT_EQ(kind([](auto& g) { g.host.domain_of("web").block_paths.push_back("/dev/zvol/rpool/vms/golden"); }),
            "shared-disk");
  EXPECT_EQ(kind([](auto& g) { g.host.add(test::filesystem("rpool/vms/.state/golden/notes")); }), "foreign-dataset");
  EXPECT_EQ(kind([](auto& g) { g.facts.nvrams["web"] = state_directory("golden") + "/uefi_VARS.fd"; }), "needed-state");
  EXPECT_EQ(kind([](auto& g) { g.host.dataset("rpool/vms").available = 0; }), "pool-full");
  EXPECT_EQ(kind([](auto& g) { g.request.machines = {"goldne"}; }), "no-such-machine");
}

// Undefined, it would have no definition anywhere.
TEST(PlanGhost, WhatCouldNotComeBackIsRefused) {
  EXPECT_EQ(kind([](auto& g) { g.host.dataset("rpool/vms/.state/golden").mounted = false; }), "not-mounted");
  EXPECT_EQ(kind([](auto& g) {
              std::erase_if(g.host.view.datasets,
                            [](const auto& d) { return d.name.find(".state/golden") != d.name.npos; });
            }),
            "not-whole");
}

TEST(PlanGhost, ClonesAndHoldsAreNoHindrance) {
  EXPECT_EQ(kind([](auto& g) { g.facts.snapshots.front().holds = 1; }), "a plan");
  EXPECT_EQ(kind([](auto& g) {
              g.request = {{"golden"}};
              g.request.keep_for = 60;
            }),
            "a plan");
}

TEST(PlanGhost, SaysUntilWhenItIsKept) {
  GoldenAside one;
  const auto said = [&] {
    std::string text;
    for (const auto& line : describe_ghosts(one.host.view, one.request, one.facts, test::kNow)) text += line + "\n";
    return text;
  };
  EXPECT_NE(said().find("  kept until its clones are gone: web"), std::string::npos) << said();
  one.request.keep_for = 60;
  EXPECT_NE(said().find("  kept until 2026-04-04T14:36:00Z, and until its clones are gone: web"), std::string::npos)
      << said();
  one.request = {{"golden", "web"}, false, false, true};
  EXPECT_NE(said().find("kept until the timer runs next"), std::string::npos) << said();
}

// What a plain deletion refuses, it offers to do so.
TEST(PlanGhost, IsOfferedWhereClonesAreInTheWay) {
  GoldenAside one;
  const auto result = plan_delete(one.host.view, {{"golden"}}, one.facts, fresh());
  ASSERT_EQ(kind_of(result), "dependent-clones");
  EXPECT_NE(std::get<Refusal>(result).hint.find("--ghost"), std::string::npos);
}

/// golden, deleted and set aside, and web, cloned from it.
struct Revival {
  Host host;
  ReviveRequest request{"golden", {}};
  ReviveFacts facts;
  static constexpr char kAside[] = "rpool/vms/.kept/golden-2026-04-04T14:35:00Z";

  Revival() {
    host.machine("golden", {.labels = {"data"}});
    host.clone("golden", kCloneOfGolden, "web");
    facts.definition = test::definition(host, "golden");
    facts.others["web"] = test::definition(host, "web");
    facts.host.interfaces = {"br0"};
    std::erase_if(host.view.datasets, [](const auto& d) { return d.name.find("/golden") != d.name.npos; });
    std::erase_if(host.view.domains, [](const auto& d) { return d.name == "golden"; });
    auto root = test::filesystem("rpool/vms/.kept", "none");
    root.mounted = false;
    host.add(root);
    set_aside("golden-2026-04-04T14:35:00Z", kGhost, 500);
    for (auto& dataset : host.view.datasets) {
      if (dataset.origin.starts_with("rpool/vms/golden")) dataset.origin.replace(0, 9, std::string(kAside));
      if (dataset.origin.starts_with("rpool/vms/.state/golden"))
        dataset.origin.replace(0, 23, std::string(kAside) + "/.state");
    }
  }
  void set_aside(const std::string& name, const std::string& reason, std::uint64_t createtxg) {
    const auto container = "rpool/vms/.kept/" + name;
    auto aside = test::filesystem(container, "none");
    aside.mounted = false;
    aside.user = {{zfs::property::machine, "golden"}, {zfs::property::kept, reason}};
    aside.createtxg = createtxg;
    host.add(aside);
    for (const auto& [disk, label] : {std::pair("golden", kFirstDisk), std::pair("golden-data", "data")}) {
      auto volume = test::volume(container + "/" + disk);
      volume.user = {{zfs::property::machine, "golden"}, {zfs::property::disk, label}, {zfs::property::kept, reason}};
      host.add(volume);
    }
    for (const auto& part : {"/.state", "/.state/tpm"}) {
      auto state = test::filesystem(container + part, "none");
      state.mounted = false;
      state.user = {{zfs::property::machine, "golden"}, {zfs::property::kept, reason}};
      host.add(state);
    }
  }
  Result result() const { return plan_revive(host.view, request, facts, test::fresh_again()); }
};

TEST(PlanRevive, BringsTheMachineBack) {
  Revival one;
  one.facts.autostart = true;
  expect_golden("plan/revive.txt", test::to_text(one.result()));
  const auto plan = std::get<Plan>(one.result());
  const auto now = virt::Definition::parse(steps_of<DefineDomains>(plan).front().domains.front().xml);
  auto before = virt::Definition::parse(one.facts.definition);
  EXPECT_NE(now.genid(), before.genid()) << "time has gone on without it";
  before.set_genid(*now.genid());
  EXPECT_TRUE(now.same_as(before));
}

std::string kind(const std::function<void(Revival&)>& change, std::string* words) {
  Revival one;
  change(one);
  const auto result = one.result();
  if (words != nullptr) *words = test::to_text(result);
  return kind_of(result);
}

TEST(PlanRevive, ANameThatIsTakenMeanwhileIsRefused) {
  std::string words;
  EXPECT_EQ(kind([](auto& r) { r.host.add(test::domain("golden")); }, &words), "name-taken");
  EXPECT_NE(words.find("domain 'golden'"), std::string::npos) << words;
  EXPECT_EQ(kind([](auto& r) { r.host.add(test::volume("rpool/vms/golden-data")); }, &words), "name-taken");
  EXPECT_NE(words.find("rpool/vms/golden-data"), std::string::npos) << words;
  EXPECT_EQ(kind([](auto& r) { r.host.domain_of("web").block_paths = {"/dev/zvol/rpool/vms/golden"}; }, &words),
            "name-taken");
  EXPECT_EQ(kind([](auto& r) { r.facts.taken_paths = {state_directory("golden")}; }, &words), "name-taken");
}

TEST(PlanRevive, WhoHasItsUuidOrItsAddressIsNamed) {
  std::string words;
  EXPECT_EQ(kind([](auto& r) { r.facts.others["other"] = r.facts.definition; }, &words), "known-already");
  EXPECT_NE(words.find("domain 'other' has its UUID"), std::string::npos) << words;
  EXPECT_NE(words.find("domain 'other' has its MAC address, " + test::mac_of("golden")), std::string::npos) << words;
}

// What versions a deleted machine had is told by their order.
TEST(PlanRevive, ALaterMachineOfTheNameComesFirst) {
  EXPECT_EQ(kind(
                [](auto& r) {
                  r.set_aside("golden-2026-04-04T15:00:00Z", kGhost, 600);
                  r.request.kept = "golden-2026-04-04T14:35:00Z";
                },
                nullptr),
            "deleted-since");
}

TEST(PlanRevive, WhatIsNotWholeOrCouldNotStartIsRefused) {
  EXPECT_EQ(kind([](auto& r) { r.facts.definition.clear(); }, nullptr), "not-whole");
  EXPECT_EQ(kind([](auto& r) { r.facts.host.interfaces.clear(); }, nullptr), "not-startable");
  EXPECT_EQ(kind([](auto& r) { r.host.add(test::volume(std::string(Revival::kAside) + "/notes")); }, nullptr),
            "foreign-dataset");
  EXPECT_EQ(kind(
                [](auto& r) {
                  std::erase_if(r.host.view.datasets, [](const auto& d) { return d.name.ends_with("/golden-data"); });
                },
                nullptr),
            "disk-gone");
  EXPECT_EQ(kind([](auto& r) { r.request.machine = "goldne"; }, nullptr), "no-such-machine");
  EXPECT_EQ(kind([](auto& r) { r.request.kept = "monday"; }, nullptr), "no-such-kept");
}

// A disk that was never the machine's own may lie anywhere: that it is there is enough.
TEST(PlanRevive, AForeignDiskStaysWhereItIs) {
  std::string words;
  EXPECT_EQ(kind(
                [](auto& r) {
                  r.facts.definition = test::definition("golden", {"/dev/zvol/rpool/vms/golden", "/dev/sdx"});
                },
                &words),
            "a plan")
      << words;
}

// A machine that has its name by now, and a rollback of the one that was deleted.
struct SameName : Revival {
  SameName() {
    host.machine("golden", {.tpm = false});
    set_aside("golden-2026-04-04T13:00:00Z", kRolledBack, 400);
    set_aside("golden-2026-04-04T16:00:00Z", kRolledBack, 600);
  }
};

TEST(Kept, WhatADeletedMachineHadIsNotThePresentOnes) {
  const SameName one;
  const auto names = [](const std::vector<Kept>& all) {
    std::vector<std::string> list;
    for (const auto& kept : all) list.push_back(kept.name);
    return list;
  };
  EXPECT_EQ(names(kept_of(one.host.view, "golden")), std::vector<std::string>{"golden-2026-04-04T16:00:00Z"});
  EXPECT_EQ(names(all_kept_of(one.host.view, "golden")).size(), 3U);
  const auto ghost = all_kept_of(one.host.view, "golden")[1];
  ASSERT_TRUE(ghost.is_ghost());
  EXPECT_EQ(names(kept_before(one.host.view, ghost)), std::vector<std::string>{"golden-2026-04-04T13:00:00Z"});
  const auto newest = named_kept(one.host.view, "golden", {});
  EXPECT_EQ(std::get<Kept>(newest).name, "golden-2026-04-04T16:00:00Z");
}

TEST(Kept, AnotherMachinesVersionDoesNotTakeThePresentsPlace) {
  const SameName one;
  RollbackFacts facts;
  for (const auto& kept : {"golden-2026-04-04T13:00:00Z", "golden-2026-04-04T14:35:00Z"}) {
    const auto result = plan_undo(one.host.view, {{"golden"}, kept}, facts, fresh());
    EXPECT_EQ(kind_of(result), "name-taken") << test::to_text(result);
  }
}

// The deletion of the new machine must not take the old one along.
TEST(Kept, APlainDeletionLeavesTheGhostOfAnother) {
  SameName one;
  DeleteFacts facts;
  facts.origins = one.host.view.datasets;
  const auto result = plan_delete(one.host.view, {{"golden"}}, facts, fresh());
  ASSERT_EQ(kind_of(result), "a plan") << test::to_text(result);
  const auto destroy = steps_of<DestroyDatasets>(std::get<Plan>(result)).front();
  for (const auto& doomed : destroy.datasets) {
    EXPECT_EQ(doomed.name.find("T13:00"), std::string::npos) << doomed.name;
    EXPECT_EQ(doomed.name.find("T14:35"), std::string::npos) << doomed.name;
  }
}

TEST(Kept, ItsMachineIsInItsName) {
  EXPECT_EQ(machine_of_kept("web-2026-04-04T14:35:00Z"), "web");
  EXPECT_EQ(machine_of_kept("web-1-data-2026-04-04T14:35:00Z.2"), "web-1-data");
  EXPECT_EQ(machine_of_kept("web-2026-04-04"), "");
}

TEST(PlanDrop, OfADeletedMachineWaitsForItsOlderVersions) {
  SameName one;
  std::erase_if(one.host.view.domains, [](const auto& d) { return d.name == "golden"; });
  const DropFacts facts{{}, one.host.view.datasets, {}};
  const auto drop = [&](const std::string& kept) { return plan_drop(one.host.view, {"golden", kept}, facts, fresh()); };
  auto result = drop("golden-2026-04-04T14:35:00Z");
  ASSERT_EQ(kind_of(result), "kept-earlier") << test::to_text(result);
  EXPECT_NE(test::to_text(result).find("kvm-snap golden drop golden-2026-04-04T13:00:00Z"), std::string::npos);
  EXPECT_EQ(kind_of(drop("golden-2026-04-04T13:00:00Z")), "a plan");
  std::erase_if(one.host.view.datasets, [](const auto& d) { return d.name.find("T13:00") != d.name.npos; });
  result = drop("golden-2026-04-04T14:35:00Z");
  ASSERT_EQ(kind_of(result), "dependent-clones");
  EXPECT_NE(test::to_text(result).find("machine 'web'"), std::string::npos);
}

TEST(NoSuchMachine, SaysThatItIsSetAside) {
  const Revival one;
  const auto refusal = no_such_machine(one.host.view, "golden");
  EXPECT_EQ(refusal.kind, "set-aside");
  EXPECT_NE(refusal.hint.find("kvm-snap golden undo"), std::string::npos) << refusal.hint;
}

TEST(ListTree, ShowsADeletedMachineAboveItsClones) {
  Revival one;
  one.host.clone("web", "s", "copy");
  ListRequest request;
  request.tree = true;
  const auto listing = [&] { return std::get<std::vector<Row>>(list_machines(one.host.view, request)); };
  expect_golden("plan/list-ghost.txt", list_table(listing(), false));
  EXPECT_EQ(listing().front().kept, "golden-2026-04-04T14:35:00Z");
  request.tree = false;
  EXPECT_EQ(listing().size(), 2U) << "in the tree alone";
  request.tree = true;
  one.host.dataset("rpool/vms/web").origin = "";
  EXPECT_EQ(listing().size(), 2U) << "nobody was cloned from it any more";
  request.names = {"golden"};
  EXPECT_EQ(listing().size(), 1U) << "asked for by its name";
}

TEST(PlanSnapshotDelete, NamesWhatIsSetAsideAndHangsOnIt) {
  Host host;
  host.machine("web", {.tpm = false});
  auto snapshots = host.snapshots("web", "s", 200);
  snapshots.front().clones = {"rpool/vms/.kept/other-2026-04-04T14:35:00Z/other"};
  const auto result = plan_snapshot_delete(host.view, "web", "s", snapshots, fresh());
  ASSERT_EQ(kind_of(result), "dependent-clones");
  EXPECT_EQ(std::get<Refusal>(result).hint,
            "remove what is set aside first: kvm-snap other drop other-2026-04-04T14:35:00Z");
}

}  // namespace
}  // namespace kld::plan
