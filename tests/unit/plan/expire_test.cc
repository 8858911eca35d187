// SPDX-License-Identifier: Apache-2.0
#include "plan/expire.h"

#include <gtest/gtest.h>

#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::kDay;
using test::kNow;

/// Versions that are set aside; each of one zvol and its state.
struct Aside {
  View view{test::kRoot, {}, {}};
  ExpireFacts facts;
  std::uint64_t next = 1000;  ///< transaction group

  Aside() { facts.clock = zfs::TxgClock{1'000'000, 5}; }

  static std::string container(const std::string& name) { return std::string(test::kRoot) + "/.kept/" + name; }

  Aside& add(const std::string& machine, const std::string& name, const std::string& reason,
             const std::string& expires) {
    auto aside = test::filesystem(container(name), "none");
    aside.user = {{zfs::property::machine, machine}, {zfs::property::kept, reason}};
    aside.createtxg = next += 10;
    view.datasets.push_back(aside);
    auto state = test::filesystem(container(name) + "/.state", "none");
    state.mounted = false;
    state.user = aside.user;
    view.datasets.push_back(state);
    auto disk = test::volume(container(name) + "/" + machine);
    disk.user = {{zfs::property::machine, machine}, {zfs::property::disk, kFirstDisk}, {zfs::property::kept, reason}};
    view.datasets.push_back(disk);
    if (!expires.empty()) facts.expires[aside.name] = expires;
    facts.created[aside.name] = kNow - 8 * kDay;
    return *this;
  }
  void clone(const std::string& name, const std::string& snapshot) {
    auto dataset = test::volume(name);
    dataset.origin = snapshot;
    dataset.user = {{zfs::property::machine, zfs::last_component(name)}};
    view.datasets.push_back(dataset);
  }
  std::vector<Expiry> all() {
    facts.origins = view.datasets;
    return expired(view, facts, kNow);
  }
  std::vector<std::string> going() {
    std::vector<std::string> names;
    for (const auto& one : all()) {
      if (one.goes) names.push_back(one.kept.name);
    }
    return names;
  }
  std::string why() {
    const auto list = all();
    return list.size() == 1 && !list.front().goes ? list.front().why : "goes";
  }
};

Aside one(const std::string& reason, const std::string& expires) {
  return Aside().add("web", "web-1", reason, expires);
}

const std::string kPast = format_utc(kNow - kDay);

TEST(Expired, WhatHasNoTimeToGoStays) {
  EXPECT_EQ(one(kRolledBack, kPast).why(), "goes");
  EXPECT_EQ(one(kRolledBack, format_utc(kNow)).why(), "goes");
  EXPECT_EQ(one(kRolledBack, format_utc(kNow + 1)).why(), "until 2026-04-04T14:35:01Z");
  EXPECT_EQ(one(kGhost, "never").why(), "never expires");
  EXPECT_EQ(one(kRolledBack, "").why(), "never expires");
  EXPECT_EQ(one("diverged", kPast).why(), "set aside as 'diverged', which does not expire by itself");
  EXPECT_EQ(one("moved", kPast).why(), "set aside as 'moved', which does not expire by itself");
  EXPECT_EQ(one("", kPast).why(), "set aside as '', which does not expire by itself");
}

TEST(Expired, WhatIsNoTimeIsToldAndStays) {
  for (const auto& text : {"soon", "2026-02-31T00:00:00Z", "2026-04-01", "1775313300", "2026-04-01T00:00:00+02:00"}) {
    auto aside = one(kRolledBack, text);
    const auto list = aside.all();
    ASSERT_EQ(list.size(), 1U);
    EXPECT_FALSE(list.front().goes) << text;
    EXPECT_TRUE(list.front().unclear) << text;
    EXPECT_NE(list.front().why.find(text), std::string::npos);
  }
  EXPECT_FALSE(one(kRolledBack, "never").all().front().unclear);
}

TEST(Expired, WhatSomethingHangsOnStays) {
  auto cloned = one(kGhost, kPast);
  cloned.clone("rpool/vms/.state/late", Aside::container("web-1") + "/.state@s");
  cloned.clone("rpool/vms/late", Aside::container("web-1") + "/web@s");
  EXPECT_EQ(cloned.why(), "rpool/vms/late, machine 'late', was cloned from it");
  auto held = one(kGhost, kPast);
  held.facts.snapshots = {test::snapshot(Aside::container("web-1") + "/web@s", 100)};
  held.facts.snapshots.front().holds = 1;
  EXPECT_EQ(held.why(), Aside::container("web-1") + "/web@s is held");
  auto sent = one(kGhost, kPast);
  sent.facts.sends = {{Aside::container("web-1") + "/web@s", "zfs send of it (pid 7)"}};
  EXPECT_EQ(sent.why(), "zfs send of it (pid 7)");
  auto open = one(kGhost, kPast);
  open.facts.holders[Aside::container("web-1") + "/web"] = "dd (pid 7) has it open";
  EXPECT_EQ(open.why(), "dd (pid 7) has it open");
  auto looked_into = one(kGhost, kPast);
  for (auto& dataset : looked_into.view.datasets) dataset.mounted = dataset.name.ends_with("/.state");
  EXPECT_EQ(looked_into.why(), Aside::container("web-1") + "/.state is mounted");
}

// As when the battery of the clock was empty, or NTP found a wrong server.
TEST(Expired, AClockThatJumpedTakesNothing) {
  auto aside = one(kRolledBack, format_utc(kNow - kDay));
  const auto container = Aside::container("web-1");
  // Kept for seven days; its pool has seen an hour.
  aside.facts.clock->txg = 1010 + 720;
  EXPECT_NE(aside.why().find("its pool has been in use for about 60 min of 7 d since"), std::string::npos)
      << aside.why();
  aside.facts.clock->txg = 1010 + 7 * kDay / 5 / 2 - 1;
  EXPECT_NE(aside.why(), "goes");
  aside.facts.clock->txg += 1;
  EXPECT_EQ(aside.why(), "goes");
  aside.facts.clock->txg = 5;  // of another pool, or nonsense
  EXPECT_NE(aside.why(), "goes");
  aside.facts.clock = {};
  EXPECT_NE(aside.why().find("cannot be told"), std::string::npos);
  const auto created = aside.facts.created;
  aside.facts.created.clear();
  EXPECT_EQ(aside.why(), "when it was set aside is not known");
  // What was to go at once, or was set to expire by hand, has no time to live through.
  aside.facts.created[container] = kNow - kDay;
  EXPECT_EQ(aside.why(), "goes");
}

// A rollback of golden, then its deletion; then that of web, which was cloned from it.
TEST(Expired, EachGoesBehindWhatHangsOnIt) {
  Aside aside;
  aside.add("golden", "golden-2", kGhost, kPast).add("web", "web-1", kGhost, kPast);
  aside.view.datasets.back().origin = Aside::container("golden-2") + "/golden@s";
  EXPECT_EQ(aside.going(), (std::vector<std::string>{"web-1", "golden-2"}));
  aside.facts.expires[Aside::container("web-1")] = "never";
  EXPECT_EQ(aside.going(), std::vector<std::string>());
}

TEST(Expired, AGhostGoesBehindTheOlderVersionsOfItsMachine) {
  Aside aside;
  aside.add("web", "web-1", kRolledBack, kPast)
      .add("web", "web-2", kGhost, kPast)
      .add("web", "web-3", kRolledBack, "never");
  EXPECT_EQ(aside.going(), (std::vector<std::string>{"web-1", "web-2"}));
  aside.facts.expires[Aside::container("web-1")] = format_utc(kNow + kDay);
  EXPECT_EQ(aside.going(), std::vector<std::string>());
  EXPECT_EQ(aside.all()[1].why, "its older version 'web-1' is set aside");
}

}  // namespace
}  // namespace kld::plan
