// SPDX-License-Identifier: Apache-2.0
#include "plan/view.h"

#include <gtest/gtest.h>

#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::Host;

TEST(View, PathsAreTheLayouts) {
  EXPECT_EQ(disk_dataset("rpool/vms", "web", "root"), "rpool/vms/web");
  EXPECT_EQ(disk_dataset("rpool/vms", "web", "data"), "rpool/vms/web-data");
  EXPECT_EQ(state_dataset("rpool/vms", "web"), "rpool/vms/.state/web");
  EXPECT_EQ(tpm_dataset("rpool/vms", "web"), "rpool/vms/.state/web/tpm");
  EXPECT_EQ(nvram_path("web"), "/var/lib/kldload/state/web/uefi_VARS.fd");
  EXPECT_EQ(definition_path("web"), "/var/lib/kldload/state/web/domain.xml");
  EXPECT_EQ(seed_path("web"), "/var/lib/kldload/state/web/seed.iso");
  EXPECT_EQ(tpm_directory("some-uuid"), "/var/lib/libvirt/swtpm/some-uuid");
}

TEST(Machines, HaveTheirDatasetsFirstDiskFirst) {
  Host host;
  host.machine("web", {.labels = {"zeta", "alpha"}});
  const auto machine = host.require("web");
  EXPECT_EQ(names_of(machine.datasets()),
            (std::vector<std::string>{"rpool/vms/web", "rpool/vms/web-alpha", "rpool/vms/web-zeta",
                                      "rpool/vms/.state/web", "rpool/vms/.state/web/tpm"}));
  EXPECT_EQ(machine.disks[0].label, "root");
  EXPECT_EQ(machine.disks[1].label, "alpha");
  ASSERT_TRUE(machine.domain);
  EXPECT_EQ(machine.domain->uuid, test::uuid_of("web"));
}

TEST(Machines, AreOwnedByPropertyInTheirPlace) {
  Host host;
  host.machine("web");
  host.add(test::volume("rpool/vms/web-data"));  // named like a disk of web, and nobody's
  // Received with a copy of the machine, or handed down by a folder: the mark alone makes nobody its owner.
  for (const std::string name : {"rpool/vms/web-copy", "rpool/vms/group/extra"}) {
    auto elsewhere = test::volume(name);
    elsewhere.user = {{zfs::property::machine, "web"}, {zfs::property::disk, "root"}};
    host.add(elsewhere);
  }
  EXPECT_EQ(names_of(host.require("web").datasets()),
            (std::vector<std::string>{"rpool/vms/web", "rpool/vms/.state/web", "rpool/vms/.state/web/tpm"}));
  EXPECT_EQ(machines(host.view).size(), 1U);
}

TEST(Machines, HaveNoDomainWhoseVolumesLieElsewhere) {
  Host host;
  host.machine("web");
  host.domain_of("web").block_paths = {"/dev/zvol/backup/vms/web"};
  EXPECT_FALSE(host.require("web").domain);
  host.domain_of("web").block_paths = {"/dev/zd16"};
  host.view.volumes = {{"/dev/zd16", "backup/vms/web"}};
  EXPECT_FALSE(host.require("web").domain);
  host.view.volumes = {{"/dev/zd16", "rpool/vms/web"}};
  EXPECT_TRUE(host.require("web").domain);
  host.domain_of("web").block_paths = {"/dev/zvol/backup/vms/more", "/dev/zvol/rpool/vms/web"};
  EXPECT_TRUE(host.require("web").domain);
}

TEST(Machines, KeepTheirDomainWhateverItRunsFrom) {
  Host host;
  host.machine("web");
  for (const char* path : {"/srv/install.iso", "/var/lib/libvirt/images/web.overlay", "/dev/zvol/rpool/vms/restored"}) {
    host.domain_of("web").block_paths = {path};
    EXPECT_TRUE(host.require("web").domain) << path;
  }
}

TEST(Machines, MayLackEitherHalf) {
  Host host;
  host.machine("lost", {.defined = false});
  host.add(test::domain("stranger", virt::State::running, {"/dev/zvol/rpool/vms/x"}));
  const auto all = machines(host.view);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_FALSE(all.at("lost").domain);
  EXPECT_FALSE(all.at("lost").active());
  EXPECT_FALSE(find_machine(host.view, "stranger"));
}

TEST(Machines, LeaveOutWhatIsAside) {
  Host host;
  for (const auto& [name, property, value] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"rpool/vms/.kept/web-1", "com.kldload:x", "y"},
           {"rpool/vms/web-old", zfs::property::kept, "rollback"},
           {"rpool/vms/dr", zfs::property::replica_of, "h/web"}}) {
    auto volume = test::volume(name);
    volume.user = {{zfs::property::machine, "web"}, {property, value}};
    host.add(volume);
  }
  EXPECT_TRUE(machines(host.view).empty());
}

TEST(Machines, ARootThatCarriesThePropertyIsNoMachine) {
  Host host;
  host.dataset("rpool/vms").user = {{zfs::property::machine, "web"}};
  EXPECT_TRUE(machines(host.view).empty());
}

TEST(Machines, ActiveIsWhatHasAProcess) {
  for (const auto& [state, active] : std::vector<std::pair<virt::State, bool>>{{virt::State::running, true},
                                                                               {virt::State::paused, true},
                                                                               {virt::State::paused_no_space, true},
                                                                               {virt::State::shut_off, false}}) {
    Host host;
    host.machine("web", {.state = state});
    EXPECT_EQ(host.require("web").active(), active) << virt::to_string(state);
  }
}

TEST(ForeignState, NamesWhatLibvirtHoldsOfTheDisks) {
  Host host;
  host.machine("web");
  const auto kind = [&](auto&& change, bool saved_allowed = false, const std::vector<std::string>& jobs = {}) {
    auto machine = host.require("web");
    change(*machine.domain);
    const auto refusal = foreign_state(machine, jobs, saved_allowed);
    return refusal ? refusal->kind : "";
  };
  EXPECT_EQ(kind([](auto&) {}), "");
  EXPECT_EQ(kind([](auto& d) { d.persistent = false; }), "transient-domain");
  EXPECT_EQ(kind([](auto& d) { d.has_snapshots = true; }), "libvirt-snapshots");
  EXPECT_EQ(kind([](auto& d) { d.has_checkpoints = true; }), "libvirt-checkpoints");
  EXPECT_EQ(kind([](auto&) {}, false, {"vda: commit"}), "block-job");
  EXPECT_EQ(kind([](auto& d) { d.has_managed_save = true; }), "managed-save");
  EXPECT_EQ(kind([](auto& d) { d.has_managed_save = true; }, true), "");
  auto lost = host.require("web");
  lost.domain.reset();
  EXPECT_EQ(foreign_state(lost, {"vda: commit"}, false), std::nullopt);
}

TEST(ForeignState, GivesTheBlockJobsAsEvidence) {
  Host host;
  host.machine("web");
  const auto refusal = foreign_state(host.require("web"), {"vda: commit", "vdb: copy"}, false);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->evidence, (std::vector<std::string>{"vda: commit", "vdb: copy"}));
  EXPECT_EQ(refusal->hint, "wait for it, or end it: virsh blockjob web DISK --abort");
}

TEST(NoSuchMachine, HintsAtWhatWasMeant) {
  Host host;
  host.machine("database").add(test::domain("stranger"));
  EXPECT_EQ(no_such_machine(host.view, "databse"),
            (Refusal{"no-such-machine", "there is no machine 'databse' in rpool/vms", {}, "did you mean 'database'?"}));
  EXPECT_EQ(no_such_machine(host.view, "x").hint, "see the machines with 'kvm-list'");
  EXPECT_EQ(no_such_machine(host.view, "stranger"), (Refusal{"not-adopted",
                                                             "domain 'stranger' is not a machine of rpool/vms yet",
                                                             {},
                                                             "take it in with 'kvm-adopt stranger'"}));
}

TEST(Builders, ACloneHangsOnItsSource) {
  Host host;
  host.machine("golden", {.labels = {"data"}, .golden = true}).clone("golden", "s", "web");
  const auto web = host.require("web");
  ASSERT_EQ(web.disks.size(), 2U);
  EXPECT_EQ(web.disks[1].volume.origin, "rpool/vms/golden-data@s");
  EXPECT_EQ(web.state->origin, "rpool/vms/.state/golden@s");
  EXPECT_EQ(web.tpm->origin, "rpool/vms/.state/golden/tpm@s");
  const auto snapshots = host.snapshots("golden", "s", 200, "clone", {"web"});
  ASSERT_EQ(snapshots.size(), 4U);
  EXPECT_EQ(snapshots[0].clones, std::vector<std::string>{"rpool/vms/web"});
  EXPECT_EQ(snapshots[3].clones, std::vector<std::string>{"rpool/vms/.state/web/tpm"});
}

}  // namespace
}  // namespace kld::plan
