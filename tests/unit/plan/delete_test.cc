// SPDX-License-Identifier: Apache-2.0
#include "plan/delete.h"

#include <gtest/gtest.h>

#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;
using test::steps_of;

constexpr char kClone[] = "clone-2026-04-04T12:00:00Z";

/// golden with one clone, web; both shut off.
struct Delete {
  Host host;
  DeleteRequest request;
  DeleteFacts facts;

  explicit Delete(std::vector<std::string> machines, const test::MachineOptions& options = {}) {
    host.machine("golden", {.labels = options.labels, .tpm = options.tpm});
    host.clone("golden", kClone, "web", options);
    request.machines = std::move(machines);
    look();
  }
  void look() {
    facts = {};
    facts.snapshots = host.snapshots("golden", kClone, 200, "clone", {"web"});
    facts.origins = host.view.datasets;
    for (const auto& name : request.machines) {
      if (const auto machine = find_machine(host.view, name); machine && machine->domain)
        facts.definitions[name] = test::definition(host, name);
    }
  }
  Result result() const { return plan_delete(host.view, request, facts, fresh()); }
  std::string text() const { return test::to_text(result()); }
  std::string kind() const {
    const auto answer = result();
    return refused(answer) ? std::get<Refusal>(answer).kind : "a plan";
  }
  Plan plan() const {
    const auto answer = result();
    if (refused(answer)) throw std::runtime_error(test::to_text(answer));
    return std::get<Plan>(answer);
  }
};

std::vector<std::string> destroyed(const Plan& plan) {
  std::vector<std::string> names;
  for (const auto& step : steps_of<DestroyDatasets>(plan)) {
    for (const auto& doomed : step.datasets) names.push_back(doomed.name);
  }
  return names;
}

TEST(PlanDelete, AClone) { expect_golden("plan/delete-clone.txt", Delete({"web"}).text()); }

TEST(PlanDelete, ARunningOneWithASavedImage) {
  Delete one({"web"}, {.state = virt::State::running, .labels = {"data"}});
  one.host.domain_of("web").autostart = true;
  one.host.domain_of("web").has_managed_save = true;
  one.request.force = true;
  one.request.discard_saved = true;
  one.look();
  expect_golden("plan/delete-forced.txt", one.text());
}

TEST(PlanDelete, AnOriginWithItsClonesIsRefused) {
  Delete one({"golden"});
  one.host.clone("golden", kClone, "web-2");
  one.look();
  expect_golden("plan/delete-refused.txt", one.text());
}

TEST(PlanDelete, ClonesGoBeforeTheirOrigins) {
  for (const auto& order : {std::vector<std::string>{"golden", "web"}, std::vector<std::string>{"web", "golden"}}) {
    const auto names = destroyed(Delete(order).plan());
    const auto at = [&](const std::string& name) { return std::find(names.begin(), names.end(), name); };
    EXPECT_EQ(names.size(), 6U);
    EXPECT_LT(at("rpool/vms/web"), at("rpool/vms/golden"));
    EXPECT_LT(at("rpool/vms/.state/web"), at("rpool/vms/.state/golden"));
    EXPECT_LT(at("rpool/vms/.state/web/tpm"), at("rpool/vms/.state/web"));
    EXPECT_LT(at("rpool/vms/.state/web/tpm"), at("rpool/vms/.state/golden/tpm"));
  }
}

TEST(PlanDelete, RefusesWhatItMust) {
  const auto kind = [](const std::function<void(Delete&)>& change, const test::MachineOptions& options = {}) {
    Delete one({"web"}, options);
    change(one);
    return one.kind();
  };
  EXPECT_EQ(kind([](auto& d) { d.request.machines = {"wbe"}; }), "no-such-machine");
  EXPECT_EQ(kind([](auto& d) {
              d.host.add(test::domain("stranger"));
              d.request.machines = {"stranger"};
            }),
            "not-adopted");
  EXPECT_EQ(kind([](auto&) {}, {.state = virt::State::running}), "running");
  EXPECT_EQ(kind([](auto&) {}, {.state = virt::State::paused}), "running");
  EXPECT_EQ(kind([](auto& d) { d.request.force = true; }, {.state = virt::State::running}), "a plan");
  EXPECT_EQ(kind(
                [](auto& d) {
                  d.request.force = true;
                  d.facts.holders["web"] = {"dd (pid 7) has rpool/vms/web open"};
                },
                {.state = virt::State::running}),
            "in-use");
  EXPECT_EQ(kind([](auto& d) {
              auto child = d.host.dataset("rpool/vms/.state/web");
              child.name += "/theirs";
              child.user.clear();
              d.host.view.datasets.push_back(child);
            }),
            "foreign-dataset");
  EXPECT_EQ(kind([](auto& d) { d.host.domain_of("web").has_managed_save = true; }), "managed-save");
  EXPECT_EQ(kind([](auto& d) { d.host.domain_of("web").has_snapshots = true; }), "libvirt-snapshots");
  EXPECT_EQ(kind([](auto& d) { d.facts.block_jobs["web"] = {"vda: copy"}; }), "block-job");
  EXPECT_EQ(
      kind([](auto& d) { d.host.add(test::domain("other", virt::State::shut_off, {"/dev/zvol/rpool/vms/web"})); }),
      "shared-disk");
  EXPECT_EQ(kind([](auto& d) { d.host.add(test::domain("other", virt::State::shut_off, {"volume:zvols/web"})); }),
            "shared-disk")
      << "libvirt cannot tell";
  EXPECT_EQ(kind([](auto& d) { d.host.add(test::domain("other", virt::State::shut_off, {"volume:zvols/mail"})); }),
            "a plan");
  EXPECT_EQ(kind([](auto& d) { d.facts.definitions["web"] = test::definition("web", {"/srv/web.raw"}, false); }),
            "another-domain");
  EXPECT_EQ(kind([](auto& d) {
              d.facts.definitions["web"] = test::definition("web", {"/srv/web.raw", "/dev/zvol/rpool/vms/web"}, false);
            }),
            "a plan");
  EXPECT_EQ(kind([](auto& d) {
              auto own = d.host.snapshots("web", "s", 300);
              own.at(0).holds = 1;
              d.facts.snapshots.insert(d.facts.snapshots.end(), own.begin(), own.end());
            }),
            "held");
}

TEST(PlanDelete, StateThatADomainNeedsWhichStaysIsKept) {
  const auto kind = [](const std::function<void(Delete&)>& change, const std::string& other = "www") {
    Delete one({"web"});
    auto domain = test::domain(other, virt::State::shut_off, {"/dev/zvol/tank/www"});
    // The machine itself under another name: libvirt keeps its UUID.
    domain.uuid = one.host.domain_of("web").uuid;
    std::erase_if(one.host.view.domains, [](const auto& d) { return d.name == "web"; });
    one.host.add(domain);
    one.facts.definitions.clear();
    change(one);
    return one.kind();
  };
  const auto without_tpm = [](Delete& d) {
    std::erase_if(d.host.view.datasets, [](const auto& one) { return one.name == "rpool/vms/.state/web/tpm"; });
  };
  EXPECT_EQ(kind([](auto&) {}), "needed-state") << "by its TPM alone";
  EXPECT_EQ(kind([](auto&) {}, "web"), "needed-state") << "its own name, its disk elsewhere";
  EXPECT_EQ(kind([](auto& d) { d.host.domain_of("www").uuid = test::uuid_of("mail"); }), "a plan");
  EXPECT_EQ(kind(without_tpm), "a plan");
  EXPECT_EQ(kind([&](auto& d) {
              without_tpm(d);
              d.facts.nvrams["www"] = "/var/lib/kldload/state/web/uefi_VARS.fd";
            }),
            "needed-state");
  EXPECT_EQ(kind([&](auto& d) {
              without_tpm(d);
              d.facts.nvrams["www"] = "/var/lib/kldload/state/web-2/uefi_VARS.fd";
            }),
            "a plan");
  EXPECT_EQ(kind([&](auto& d) {
              without_tpm(d);
              d.host.domain_of("www").block_paths = {"/var/lib/kldload/state/web/seed.iso"};
            }),
            "needed-state");
  // A copy below another root, while the machine itself is here with its own state.
  EXPECT_EQ(kind([](auto& d) {
              d.facts.mounts = {{state_directory("web"), "tank/vms/.state/web"},
                                {tpm_directory(d.host.domain_of("www").uuid), "tank/vms/.state/web/tpm"}};
              d.facts.nvrams["www"] = "/var/lib/kldload/state/web/uefi_VARS.fd";
            }),
            "a plan");
  EXPECT_EQ(kind([](auto& d) {
              d.facts.mounts = {{state_directory("web"), "rpool/vms/.state/web"}};
              d.facts.nvrams["www"] = "/var/lib/kldload/state/web/uefi_VARS.fd";
            }),
            "needed-state");
}

TEST(PlanDelete, AMachineThatLibvirtLostGoes) {
  Delete one({"web"}, {.defined = false});
  const auto plan = one.plan();
  EXPECT_TRUE(steps_of<UndefineDomains>(plan).empty());
  EXPECT_EQ(destroyed(plan).size(), 3U);
}

TEST(PlanDelete, AMachineNamedTwiceGoesOnce) { EXPECT_EQ(destroyed(Delete({"web", "web"}).plan()).size(), 3U); }

TEST(PlanDelete, AForeignCloneAnywhereInThePoolStopsIt) {
  Delete one({"web"});
  auto foreign = test::volume("rpool/elsewhere/x");
  foreign.origin = "rpool/vms/web@s";
  one.facts.origins.push_back(foreign);
  const auto result = one.result();
  ASSERT_TRUE(refused(result));
  EXPECT_EQ(std::get<Refusal>(result).kind, "dependent-clones");
  EXPECT_NE(test::to_text(result).find("rpool/elsewhere/x"), std::string::npos);
}

// The snapshot that a clone was made from goes with its last user, if it is ours by name and mark.
TEST(PlanDelete, TakesTheCloneSnapshotOnlyWithItsLastUserAndIfOurs) {
  const auto taken = [](const std::function<void(Delete&)>& change) {
    Delete one({"web"});
    change(one);
    const auto steps = steps_of<DestroySnapshots>(one.plan());
    std::size_t count = 0;
    for (const auto& step : steps) {
      EXPECT_TRUE(step.if_unused);
      count += step.snapshots.size();
    }
    return count;
  };
  EXPECT_EQ(taken([](auto&) {}), 3U);
  EXPECT_EQ(taken([](auto& d) {
              d.host.clone("golden", kClone, "web-2");
              d.facts.snapshots = d.host.snapshots("golden", kClone, 200, "clone", {"web", "web-2"});
            }),
            0U);
  EXPECT_EQ(taken([](auto& d) {
              for (auto& snapshot : d.facts.snapshots) snapshot.user[zfs::property::by] = "hand";
            }),
            0U);
  EXPECT_EQ(taken([](auto& d) {
              for (auto& snapshot : d.facts.snapshots) snapshot.name = snapshot.dataset() + "@clone-mine";
            }),
            0U);
  EXPECT_EQ(taken([](auto& d) { d.facts.snapshots.at(0).holds = 1; }), 0U) << "whole or not at all";
  EXPECT_EQ(taken([](auto& d) { d.facts.snapshots.at(2).clones.clear(); }), 3U) << "one part was not cloned";
}

TEST(PlanDelete, UndefinesLastButOneAndDestroysLast) {
  const auto plan = Delete({"web"}).plan();
  ASSERT_LT(plan.commit, plan.steps.size());
  for (std::size_t i = 0; i < plan.commit; ++i) EXPECT_FALSE(is_destructive(plan.steps[i]));
  EXPECT_TRUE(std::holds_alternative<UndefineDomains>(plan.steps[plan.commit - 1]));
  EXPECT_TRUE(std::holds_alternative<DestroyDatasets>(plan.steps[plan.commit]));
}

TEST(DescribeDeletion, SaysWhatGoesAndHowMuch) {
  Delete one({"web"});
  const auto doom = describe_deletion(one.host.view, one.request, one.facts);
  EXPECT_EQ(doom.used, MiB + 2 * 128 * KiB);
  const auto clone_of = [](const std::string& dataset) {
    return "  rpool/vms/" + dataset + "@clone-2026-04-04T12:00:00Z (nothing else was cloned from it)";
  };
  EXPECT_EQ(doom.lines, (std::vector<std::string>{"machine 'web' (shut off)", "  rpool/vms/web (1.00M, 0 snapshots)",
                                                  "  rpool/vms/.state/web (128K, 0 snapshots)",
                                                  "  rpool/vms/.state/web/tpm (128K, 0 snapshots)", clone_of("golden"),
                                                  clone_of(".state/golden"), clone_of(".state/golden/tpm")}));
}

}  // namespace
}  // namespace kld::plan
