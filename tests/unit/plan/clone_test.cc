// SPDX-License-Identifier: Apache-2.0
#include "plan/clone.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;
using test::steps_of;

constexpr char kEarlier[] = "clone-2026-04-04T12:00:00Z";

struct Clone {
  Host host;
  CloneRequest request;
  CloneFacts facts;

  explicit Clone(const test::MachineOptions& options = {}) {
    host.machine("golden", options);
    const auto xml = options.defined ? test::definition(host, "golden") : std::string();
    facts.definitions = {xml, true, xml};
    facts.pool = zfs::Pool{"rpool", 1000 * GiB, 100 * GiB, 900 * GiB, "ONLINE", false};
    request.source = "golden";
    request.targets = {"web"};
  }
  /// A snapshot that an earlier clone made and nothing was written since.
  Clone& with_reusable() {
    facts.snapshots = host.snapshots("golden", kEarlier, 200, "clone");
    facts.written = 0;
    return *this;
  }
  Result result() const { return plan_clone(host.view, request, facts, fresh()); }
  std::string kind() const {
    const auto answer = result();
    return refused(answer) ? std::get<Refusal>(answer).kind : "a plan";
  }
  Plan plan() const {
    const auto answer = result();
    if (refused(answer)) throw std::runtime_error(test::to_text(answer));
    return std::get<Plan>(answer);
  }
  std::string text() const { return test::to_text(result()); }
};

bool reuses(const Clone& clone) { return steps_of<TakeSnapshots>(clone.plan()).empty(); }

TEST(PlanClone, TwoOfARunningMachine) {
  Clone clone({.state = virt::State::running, .labels = {"data"}});
  clone.request.targets = {"web-1", "web-2"};
  expect_golden("plan/clone-running.txt", clone.text());
}

TEST(PlanClone, OfAMachineThatDidNotChange) {
  Clone clone;
  expect_golden("plan/clone-reusing.txt", clone.with_reusable().text());
}

TEST(PlanClone, AFullCopyThatIsStarted) {
  Clone clone;
  clone.request.full = true;
  clone.request.start = true;
  expect_golden("plan/clone-full.txt", clone.text());
}

TEST(PlanClone, OfASnapshotWithoutStateOrDefinition) {
  Clone clone;
  clone.facts.snapshots = {test::snapshot("rpool/vms/golden@monday", 200)};
  clone.request.snapshot = "@monday";
  expect_golden("plan/clone-snapshot.txt", clone.text());
}

TEST(PlanClone, WithANewTpmAndASeed) {
  Clone clone;
  clone.request.new_tpm = true;
  clone.request.seed.hostname = "web.example";
  clone.request.memory = 4 * GiB;
  clone.request.vcpus = 8;
  expect_golden("plan/clone-new-tpm.txt", clone.text());
}

TEST(PlanClone, WarnsOfWhatEveryCloneWouldShare) {
  const auto warnings = [](const SeedDocuments& seed, bool attached, const std::function<void(Clone&)>& change) {
    Clone clone;
    auto definition = virt::Definition::parse(clone.facts.definitions.current);
    if (attached) definition.add_seed(seed_path("golden"));
    clone.facts.definitions = {definition.xml(), true, definition.xml()};
    clone.facts.seed = seed;
    change(clone);
    return fmt::format("{}", fmt::join(clone.plan().warnings, "\n"));
  };
  const auto as_it_is = [](Clone&) {};
  const SeedDocuments plain = {{"meta-data", "instance-id: i\n"}, {"user-data", "#cloud-config\n"}};
  EXPECT_EQ(warnings(plain, true, as_it_is), "");
  EXPECT_NE(warnings({}, false, as_it_is).find("no cloud-init seed"), std::string::npos);
  EXPECT_NE(warnings(plain, false, as_it_is).find("no cloud-init seed"), std::string::npos) << "it was detached";
  auto fixed = plain;
  fixed["network-config"] = "version: 2\n";
  EXPECT_NE(warnings(fixed, true, as_it_is).find("network-config of 'golden'"), std::string::npos);
  EXPECT_EQ(warnings(fixed, true, [](auto& c) { c.request.seed.network_config = "version: 2\n"; }), "");
  auto named = plain;
  named["user-data"] = "#cloud-config\nfqdn: golden.example\n";
  EXPECT_NE(warnings(named, true, as_it_is).find("sets a host name"), std::string::npos);
  EXPECT_EQ(warnings(named, true, [](auto& c) { c.request.seed.user_data = "#cloud-config\n"; }), "");
}

TEST(PlanClone, ItsSeedIsAppliedBeforeTheNetworkIsUp) {
  const auto meta_data = [](const std::string& user_data) {
    return seed_documents({}, {{"user-data", user_data}}, "web", "u").at("meta-data");
  };
  EXPECT_NE(meta_data("#cloud-config\n").find("dsmode: local\n"), std::string::npos);
  EXPECT_NE(meta_data("#!/bin/sh\n").find("dsmode: local\n"), std::string::npos);
  EXPECT_EQ(meta_data("#include\nhttp://example/\n").find("dsmode"), std::string::npos) << "it must be fetched";
  EXPECT_EQ(meta_data("Content-Type: multipart/mixed\n").find("dsmode"), std::string::npos);
}

TEST(PlanClone, RefusesWhatItMust) {
  const auto kind = [](const std::function<void(Clone&)>& change, const test::MachineOptions& options = {}) {
    Clone clone(options);
    change(clone);
    return clone.kind();
  };
  EXPECT_EQ(kind([](auto& c) { c.request.source = "gold"; }), "no-such-machine");
  EXPECT_EQ(kind([](auto&) {}, {.defined = false}), "no-domain");
  EXPECT_EQ(kind([](auto& c) { c.facts.block_jobs = {"vda: commit"}; }), "block-job");
  EXPECT_EQ(kind([](auto& c) { c.host.domain_of("golden").has_snapshots = true; }), "libvirt-snapshots");
  EXPECT_EQ(kind([](auto& c) { c.host.domain_of("golden").has_checkpoints = true; }), "libvirt-checkpoints");
  EXPECT_EQ(kind([](auto& c) { c.host.domain_of("golden").persistent = false; }), "transient-domain");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms/golden").key_missing = true; }), "key-missing");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms/.state/golden").mounted = false; }), "not-mounted");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms/.state/golden").covered_by = "tank/copy"; }), "covered");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms").available = MiB; }), "pool-full");
  EXPECT_EQ(kind([](auto& c) { c.request.targets = {"a", "b", "a"}; }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.request.targets = {"golden"}; }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.request.targets = {"../x"}; }), "bad-name");
  EXPECT_EQ(kind([](auto& c) { c.host.machine("web"); }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.request.targets = {"web", "web-data"}; }, {.labels = {"data"}}), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.facts.taken_paths = {state_directory("web")}; }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.request.snapshot = "never"; }), "no-such-snapshot");
  EXPECT_EQ(kind([](auto& c) { c.request.snapshot = "mail@s"; }), "other-machine");
  EXPECT_EQ(kind([](auto& c) { c.request.full = true, c.facts.pool->allocated = 799 * GiB; }), "pool-limit");
  EXPECT_EQ(
      kind([](auto& c) { c.request.full = true, c.request.over_limit = true, c.facts.pool->allocated = 799 * GiB; }),
      "a plan");
  EXPECT_EQ(kind([](auto& c) {
              c.request.full = true, c.host.dataset("rpool/vms/golden").encryption_root = "rpool/vms/golden";
            }),
            "encrypted");
}

TEST(PlanClone, ADiskOffZfsIsLeftOutOnlyWhenSaidSo) {
  Clone clone;
  auto definition = test::definition("golden", {"/dev/zvol/rpool/vms/golden", "/dev/sdb"});
  clone.facts.definitions = {definition, true, definition};
  EXPECT_EQ(clone.kind(), "not-clonable");
  clone.request.without = {"vdb"};
  ASSERT_EQ(clone.kind(), "a plan");
  const auto defined = steps_of<DefineDomains>(clone.plan()).at(0).domains.at(0).xml;
  EXPECT_EQ(defined.find("/dev/sdb"), std::string::npos);
  EXPECT_NE(defined.find("/dev/zvol/rpool/vms/web'"), std::string::npos) << defined;
}

TEST(PlanClone, LeavesOutADiskOfItsOwn) {
  for (const bool full : {false, true}) {
    Clone clone({.labels = {"data"}});
    clone.request.full = full;
    clone.request.without = {"vdb"};
    const auto text = clone.text();
    EXPECT_NE(text.find("rpool/vms/web"), std::string::npos);
    EXPECT_EQ(text.find("rpool/vms/web-data"), std::string::npos) << text;
    clone.request.without = {"vda", "vdb"};
    EXPECT_EQ(clone.kind(), "no-disk");
  }
}

TEST(PlanClone, SaysThatASavedImageStaysBehind) {
  const auto warned = [](const Clone& clone) {
    const auto warnings = clone.plan().warnings;
    return std::any_of(warnings.begin(), warnings.end(),
                       [](const auto& w) { return w.find("managed save image") != w.npos; });
  };
  Clone clone;
  EXPECT_FALSE(warned(clone));
  clone.host.domain_of("golden").has_managed_save = true;
  EXPECT_TRUE(warned(clone));
}

TEST(PlanClone, WhatTheHostItselfHasOpenIsNotOffline) {
  Clone clone;
  EXPECT_EQ(steps_of<TakeSnapshots>(clone.plan()).at(0).properties.at(zfs::property::consistency), "offline");
  clone.host.view.held["rpool/vms/golden"] = "a mounted file system has rpool/vms/golden open";
  const auto plan = clone.plan();
  EXPECT_EQ(steps_of<TakeSnapshots>(plan).at(0).properties.at(zfs::property::consistency), "crash");
  ASSERT_FALSE(plan.warnings.empty());
  EXPECT_EQ(plan.warnings.back(),
            "a mounted file system has rpool/vms/golden open: what is not on the disk yet will be missing");
}

// When a snapshot is used again: all of it must hold.
TEST(PlanClone, ReusesASnapshotOnlyOfThePresentState) {
  const auto reused = [](const std::function<void(Clone&)>& change) {
    Clone clone;
    clone.with_reusable();
    change(clone);
    return reuses(clone);
  };
  EXPECT_TRUE(reused([](auto&) {}));
  EXPECT_FALSE(reused([](auto& c) { c.host.domain_of("golden").state = virt::State::running; }));
  EXPECT_FALSE(reused([](auto& c) { c.host.domain_of("golden").has_managed_save = true; }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.going = {c.facts.snapshots.back().short_name()}; }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.definitions.saved = "<domain/>"; }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.definitions.saved_exists = false; }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.written = 512; }));
  EXPECT_FALSE(reused([](auto& c) { c.host.view.held["rpool/vms/golden"] = "a mounted file system has it open"; }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.written.reset(); })) << "ZFS could not tell";
  EXPECT_FALSE(reused([](auto& c) { c.facts.snapshots.pop_back(); })) << "not whole";
  EXPECT_FALSE(reused([](auto& c) {
    for (auto& snapshot : c.facts.snapshots) snapshot.user[zfs::property::by] = "hand";
  }));
  EXPECT_FALSE(reused([](auto& c) {
    for (auto& snapshot : c.facts.snapshots) snapshot.user[zfs::property::consistency] = "crash";
  }));
  EXPECT_FALSE(reused([](auto& c) { c.facts.snapshots.clear(); }));
  EXPECT_TRUE(reused([](auto& c) {
    const auto later = c.host.snapshots("golden", "by-hand", 300);
    c.facts.snapshots.insert(c.facts.snapshots.end(), later.begin(), later.end());
  }));
}

TEST(PlanClone, OnlyADefinitionThatLibvirtHasNotJustSaidIsHeldAgainstItsSchema) {
  Clone clone;
  EXPECT_FALSE(steps_of<DefineDomains>(clone.plan()).at(0).validate);
  clone.facts.snapshots = {test::snapshot("rpool/vms/golden@monday", 200),
                           test::snapshot("rpool/vms/.state/golden@monday", 200)};
  clone.request.snapshot = "@monday";
  clone.facts.snapshot_definition = clone.facts.definitions.current;
  EXPECT_TRUE(steps_of<DefineDomains>(clone.plan()).at(0).validate) << "perhaps another version's";
}

TEST(PlanClone, FewFilesystemsAreSyncedEachManyWithTheirPool) {
  Clone clone;
  clone.request.targets = numbered("w-", 4);
  EXPECT_EQ(steps_of<DefineDomains>(clone.plan()).at(0).sync,
            (std::vector<std::string>{state_directory("w-1"), state_directory("w-2"), state_directory("w-3"),
                                      state_directory("w-4")}));
  clone.request.targets = numbered("w-", 5);
  EXPECT_EQ(steps_of<DefineDomains>(clone.plan()).at(0).sync, std::vector<std::string>{"rpool"});
}

TEST(PlanClone, ClonesShareNothing) {
  Clone clone({.labels = {"data"}});
  clone.request.targets = numbered("w-", 3);
  const auto plan = clone.plan();
  std::set<std::string> uuids, macs, genids, nvrams;
  const auto defined = steps_of<DefineDomains>(plan).at(0);
  for (const auto& domain : defined.domains) {
    const auto definition = virt::Definition::parse(domain.xml);
    EXPECT_EQ(definition.name(), domain.name);
    EXPECT_EQ(definition.uuid(), domain.uuid);
    uuids.insert(domain.uuid);
    for (const auto& interface : definition.interfaces()) macs.insert(interface.mac);
    nvrams.insert(definition.nvram().value());
    const auto at = domain.xml.find("<genid>");
    genids.insert(domain.xml.substr(at, domain.xml.find("</genid>") - at));
    for (const auto& disk : definition.disks()) {
      EXPECT_NE(disk.source.find("/dev/zvol/rpool/vms/" + domain.name), std::string::npos) << disk.source;
    }
  }
  EXPECT_EQ(uuids.size(), 3U);
  EXPECT_EQ(macs.size(), 3U);
  EXPECT_EQ(genids.size(), 3U);
  EXPECT_EQ(nvrams.size(), 3U);
  EXPECT_FALSE(uuids.contains(test::uuid_of("golden")));
  EXPECT_EQ(plan.machines, (std::vector<std::string>{"golden", "w-1", "w-2", "w-3"}));
}

TEST(PlanClone, OneSnapshotAndOneStepOfEachKindServesMany) {
  Clone clone;
  const auto one = clone.plan();
  clone.request.targets = numbered("w-", 50);
  const auto many = clone.plan();
  EXPECT_EQ(one.steps.size(), many.steps.size());
  EXPECT_EQ(steps_of<TakeSnapshots>(many).size(), 1U);
}

TEST(PlanClone, SetsWhatAClonesOriginWouldNotHandOn) {
  Clone clone;
  for (const auto& step : steps_of<CloneDatasets>(clone.plan())) {
    for (const auto& made : step.clones) {
      EXPECT_EQ(made.properties.at(zfs::property::machine), "web");
      EXPECT_EQ(made.properties.at(zfs::property::op), test::kOp);
      if (made.name != "rpool/vms/web") continue;
      EXPECT_EQ(made.properties.at(zfs::property::disk), kFirstDisk);
      EXPECT_EQ(made.properties.at(zfs::property::clone_origin), "golden@clone-2026-04-04T14:35:00Z");
    }
  }
  clone.request.full = true;
  for (const auto& step : steps_of<CopyDataset>(clone.plan())) {
    EXPECT_FALSE(step.properties.contains(zfs::property::clone_origin)) << step.name;
  }
}

TEST(PlanClone, NamesItsSnapshotPastThoseThatAreTaken) {
  Clone clone;
  clone.facts.taken = {"clone-2026-04-04T14:35:00Z"};
  EXPECT_EQ(steps_of<TakeSnapshots>(clone.plan()).at(0).names.at(0), "rpool/vms/golden@clone-2026-04-04T14:35:00Z.2");
}

TEST(Numbered, CountsFromOne) {
  EXPECT_EQ(numbered("w-", 3), (std::vector<std::string>{"w-1", "w-2", "w-3"}));
  EXPECT_TRUE(numbered("w-", 0).empty());
}

}  // namespace
}  // namespace kld::plan
