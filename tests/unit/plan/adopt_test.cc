// SPDX-License-Identifier: Apache-2.0
#include "plan/adopt.h"

#include <gtest/gtest.h>

#include "plan/layout.h"
#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;
using test::kOp;
using test::plan_of;
using test::steps_of;

constexpr char kForeignNvram[] = "/var/lib/libvirt/qemu/nvram/web_VARS.fd";

/// A domain that somebody made on zvols: `vms` names its devices, vda first.
struct Stranger {
  Host host;
  AdoptFacts facts;
  std::string name = "web";

  explicit Stranger(const std::vector<std::string>& volumes, bool with_state_root = true, bool tpm = true)
      : host(with_state_root) {
    std::vector<std::string> paths;
    for (const auto& volume : volumes) {
      host.add(test::volume(volume));
      paths.push_back(zfs::device_path(volume));
    }
    define(paths, tpm);
    facts.nvram_exists = true;
    facts.tpm_state_exists = tpm;
  }

  void define(const std::vector<std::string>& paths, bool tpm = true) {
    std::erase_if(host.view.domains, [&](const auto& domain) { return domain.name == name; });
    host.add(test::domain(name, virt::State::shut_off, paths));
    auto definition = virt::Definition::parse(test::definition(name, paths, tpm));
    definition.set_nvram(kForeignNvram);
    facts.inactive = definition.xml();
  }
  void edit(const std::function<void(virt::Definition&)>& change) {
    auto definition = virt::Definition::parse(facts.inactive);
    change(definition);
    facts.inactive = definition.xml();
  }
  Result plan() const { return plan_adopt(host.view, {name}, facts, fresh()); }
};

Refusal refusal_of(const Result& result) {
  return refused(result) ? std::get<Refusal>(result) : Refusal{"a plan", test::to_text(result), {}, {}};
}

/// The host after the plan, as far as a planner sees it.
Stranger carried_out(Stranger stranger) {
  const auto plan = plan_of(stranger.plan());
  auto& datasets = stranger.host.view.datasets;
  for (const auto& step : plan.steps) {
    if (const auto* create = std::get_if<CreateFilesystem>(&step)) {
      auto made = test::filesystem(create->name);
      for (const auto& [property, value] : create->properties) {
        if (property.starts_with("com.kldload:")) made.user[property] = value;
        if (property == "mountpoint") made.mountpoint = value;
        if (property == "canmount") made.can_mount = value != "off";
      }
      datasets.push_back(made);
    } else if (const auto* rename = std::get_if<RenameDataset>(&step)) {
      stranger.host.dataset(rename->from).name = rename->to;
    } else if (const auto* set = std::get_if<SetProperties>(&step)) {
      for (const auto& [property, value] : set->properties) stranger.host.dataset(set->dataset).user[property] = value;
    } else if (const auto* write = std::get_if<WriteFiles>(&step)) {
      stranger.facts.saved = write->files.at(0).content;
      stranger.facts.saved_exists = true;
    } else if (const auto* redefine = std::get_if<RedefineDomain>(&step)) {
      stranger.facts.inactive = redefine->now.xml;
    }
  }
  return stranger;
}

TEST(Adopt, AMachineOfSeveralDisksElsewhere) {
  Stranger stranger({"rpool/vms/group/disk0", "rpool/vms/web-data", "rpool/vms/spare"}, false);
  expect_golden("plan/adopt-disks.txt", test::to_text(stranger.plan()));
}

TEST(Adopt, ABiosMachineThatLiesRightAlready) {
  Stranger stranger({"rpool/vms/web"}, true, false);
  stranger.facts.inactive = test::definition("web", {"/dev/zvol/rpool/vms/web"}, false, false);
  expect_golden("plan/adopt-bios.txt", test::to_text(stranger.plan()));
}

TEST(Adopt, DefinesAgainWhatLibvirtLost) {
  Host host;
  host.machine("web", {.defined = false});
  AdoptFacts facts;
  facts.saved_exists = true;
  facts.saved = test::definition(host, "web");
  const auto plan = plan_of(plan_adopt(host.view, {"web"}, facts, fresh()));
  EXPECT_EQ(plan.steps, std::vector<Step>{DefineDomains({{{"web", test::uuid_of("web"), facts.saved}}})});
  EXPECT_EQ(plan.commit, 0U);
  EXPECT_EQ(plan.operation, "adopt");
  EXPECT_EQ(plan.warnings,
            std::vector<std::string>{"whether it started with the host is not known: virsh autostart web"});
}

TEST(Adopt, MountsTheStateOfALostMachineFirst) {
  Host host;
  host.machine("web", {.defined = false});
  host.dataset("rpool/vms/.state/web").mounted = false;
  host.dataset("rpool/vms/.state/web/tpm").mounted = false;
  AdoptFacts facts;
  facts.saved_exists = true;
  facts.saved = test::definition(host, "web");
  facts.tpm_state_exists = true;  // a blank TPM that was made meanwhile
  expect_golden("plan/adopt-lost.txt", test::to_text(plan_adopt(host.view, {"web"}, facts, fresh())));
}

TEST(Adopt, OwnsEveryDiskAndNothingElse) {
  Stranger stranger({"rpool/vms/group/disk0", "rpool/vms/web-data"});
  stranger.host.add(test::volume("rpool/vms/web-other"));
  const auto plan = plan_of(stranger.plan());
  const zfs::Properties nothing = {{zfs::property::machine, ""}, {zfs::property::disk, ""}};
  const std::vector<SetProperties> expected = {
      {"rpool/vms/group/disk0", {{zfs::property::machine, "web"}, {zfs::property::disk, "root"}}, nothing},
      {"rpool/vms/web-data", {{zfs::property::machine, "web"}, {zfs::property::disk, "data"}}, nothing}};
  EXPECT_EQ(steps_of<SetProperties>(plan), expected);
  const std::vector<RenameDataset> renames = {
      {"rpool/vms/group/disk0", "rpool/vms/web", test::guid_of("rpool/vms/group/disk0")}};
  EXPECT_EQ(steps_of<RenameDataset>(plan), renames);
}

TEST(Adopt, EverythingIsUndoneWhicheverStepFails) {
  const auto plan = plan_of(Stranger({"rpool/vms/x", "rpool/vms/y"}, false).plan());
  EXPECT_TRUE(std::holds_alternative<RedefineDomain>(plan.steps.at(plan.commit))) << "from there on it can be used";
  for (const auto& step : plan.steps) EXPECT_FALSE(is_destructive(step)) << describe(step);
  for (const auto& made : steps_of<CreateFilesystem>(plan)) {
    EXPECT_EQ(made.properties.at(zfs::property::op), kOp) << made.name;
  }
  const auto redefined = steps_of<RedefineDomain>(plan);
  ASSERT_EQ(redefined.size(), 1U);
  EXPECT_EQ(redefined[0].before.xml, Stranger({"rpool/vms/x", "rpool/vms/y"}, false).facts.inactive);
}

TEST(Adopt, TheNewDefinitionHasTheLayoutsPaths) {
  const auto plan = plan_of(Stranger({"rpool/vms/x", "rpool/vms/y"}).plan());
  const auto definition = virt::Definition::parse(steps_of<RedefineDomain>(plan).at(0).now.xml);
  EXPECT_EQ(definition.nvram(), nvram_path("web"));
  EXPECT_EQ(definition.uuid(), test::uuid_of("web"));
  const auto disks = definition.disks();
  ASSERT_EQ(disks.size(), 2U);
  EXPECT_EQ(disks[0].source, "/dev/zvol/rpool/vms/web");
  EXPECT_EQ(disks[1].source, "/dev/zvol/rpool/vms/web-vdb");
  EXPECT_EQ(steps_of<WriteFiles>(plan).at(0).files.at(0).content, steps_of<RedefineDomain>(plan).at(0).now.xml);
}

TEST(Adopt, KnowsADiskByItsDeviceNumberToo) {
  Stranger stranger({"rpool/vms/web"});
  stranger.define({"/dev/zd16"});
  EXPECT_EQ(refusal_of(stranger.plan()).evidence, std::vector<std::string>{"vda: /dev/zd16 is not a zvol"});
  stranger.facts.volumes = {{"/dev/zd16", "rpool/vms/web"}};
  const auto plan = plan_of(stranger.plan());
  EXPECT_TRUE(steps_of<RenameDataset>(plan).empty());
  EXPECT_EQ(virt::Definition::parse(steps_of<RedefineDomain>(plan).at(0).now.xml).disks()[0].source,
            "/dev/zvol/rpool/vms/web");
}

TEST(Adopt, GivesTheOwnerOfAPartitionNoWholeVolume) {
  Stranger stranger({"rpool/vms/web"});
  stranger.define({"/dev/zd16p1"});
  stranger.facts.volumes = {{"/dev/zd16p1", "rpool/vms/web"}};
  stranger.facts.partitions = {"/dev/zd16p1"};
  const auto refusal = refusal_of(stranger.plan());
  EXPECT_EQ(refusal.kind, "bad-disk");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"vda: /dev/zd16p1 is a partition, not a zvol"});
}

TEST(Adopt, ExchangesNamesThatStandInEachOthersWay) {
  // The second disk has the first one's name, and the first the name that frees.
  Stranger stranger({"rpool/vms/web-root", "rpool/vms/web"});
  const auto plan = plan_of(stranger.plan());
  const std::vector<RenameDataset> renames = {
      {"rpool/vms/web", "rpool/vms/web-vdb", test::guid_of("rpool/vms/web")},
      {"rpool/vms/web-root", "rpool/vms/web", test::guid_of("rpool/vms/web-root")}};
  EXPECT_EQ(steps_of<RenameDataset>(plan), renames);
}

TEST(Adopt, LabelsAreNeverTheFirstDisksNorTwice) {
  Stranger stranger({"rpool/vms/a", "rpool/vms/web-root", "rpool/vms/x/web-data", "rpool/vms/y/web-data"});
  std::vector<std::string> labels;
  for (const auto& set : steps_of<SetProperties>(plan_of(stranger.plan()))) {
    labels.push_back(set.properties.at(zfs::property::disk));
  }
  EXPECT_EQ(labels, (std::vector<std::string>{"root", "vdb", "data", "vdd"}));
}

TEST(Adopt, SeedsAndCdsStay) {
  Stranger stranger({"rpool/vms/web"});
  stranger.edit([](virt::Definition& definition) { definition.add_seed("/var/lib/seeds/web.img"); });
  const auto plan = plan_of(stranger.plan());
  const auto disks = virt::Definition::parse(steps_of<RedefineDomain>(plan).at(0).now.xml).disks();
  ASSERT_EQ(disks.size(), 2U);
  EXPECT_EQ(disks[1].source, "/var/lib/seeds/web.img");
  EXPECT_EQ(steps_of<SetProperties>(plan).size(), 1U);
}

/// As virt-install leaves it: libvirt chooses the firmware anew at each start, and takes variables it does not name.
std::string without_nvram(std::string xml) {
  const auto from = xml.find("<nvram");
  const auto to = xml.find("</nvram>", from);
  return from == xml.npos ? xml : xml.erase(from, to + 8 - from);
}

TEST(Adopt, TakesInVariablesThatTheDefinitionDoesNotName) {
  Stranger stranger({"rpool/vms/web"});
  stranger.facts.inactive = without_nvram(stranger.facts.inactive);
  ASSERT_EQ(virt::Definition::parse(stranger.facts.inactive).nvram(), std::nullopt);
  const auto plan = plan_of(stranger.plan());
  EXPECT_EQ(steps_of<CopyFiles>(plan).at(0), (CopyFiles{kForeignNvram, nvram_path("web")}));
  EXPECT_EQ(virt::Definition::parse(steps_of<RedefineDomain>(plan).at(0).now.xml).nvram(), nvram_path("web"));
  // It has never started: there is nothing to lose.
  stranger.facts.nvram_exists = false;
  const auto fresh_one = plan_of(stranger.plan());
  EXPECT_EQ(steps_of<CopyFiles>(fresh_one).size(), 1U) << "the TPM's alone";
  EXPECT_TRUE(fresh_one.warnings.empty());
}

TEST(Adopt, WarnsWhenTheVariablesAreNotThere) {
  Stranger stranger({"rpool/vms/web"});
  stranger.facts.nvram_exists = false;
  const auto plan = plan_of(stranger.plan());
  EXPECT_EQ(plan.warnings, std::vector<std::string>{std::string(kForeignNvram) +
                                                    " is not there: the first start makes new UEFI variables"});
  const std::string tpm = tpm_directory(test::uuid_of("web"));
  EXPECT_EQ(steps_of<CopyFiles>(plan), (std::vector<CopyFiles>{{tpm + ".before-" + plan.op, tpm}}));
}

TEST(Adopt, WarnsWhenAVolumeLeavesAFolder) {
  EXPECT_TRUE(plan_of(Stranger({"rpool/vms/other"}).plan()).warnings.empty());
  EXPECT_EQ(plan_of(Stranger({"rpool/vms/prod/web"}).plan()).warnings,
            std::vector<std::string>{
                "rpool/vms/prod/web leaves rpool/vms/prod: what it inherits from there comes from rpool/vms then"});
}

TEST(Adopt, ATpmThatNeverRanHasNothingToCopy) {
  Stranger stranger({"rpool/vms/web"});
  stranger.facts.tpm_state_exists = false;
  const auto plan = plan_of(stranger.plan());
  EXPECT_TRUE(steps_of<MoveAside>(plan).empty());
  EXPECT_EQ(steps_of<CopyFiles>(plan), (std::vector<CopyFiles>{{kForeignNvram, nvram_path("web")}}));
  EXPECT_EQ(steps_of<CreateFilesystem>(plan).back().name, "rpool/vms/.state/web/tpm");
}

TEST(Adopt, AgainIsRefused) {
  auto stranger = carried_out(Stranger({"rpool/vms/x", "rpool/vms/y"}, false));
  EXPECT_EQ(refusal_of(stranger.plan()), (Refusal{"already-adopted",
                                                  "machine 'web' is in the layout already",
                                                  {},
                                                  "nothing is left to do; see 'kvm-list web'"}));
  stranger.host.domain_of("web").state = virt::State::running;
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "already-adopted");
}

TEST(Adopt, TakesInADiskThatWasAddedLater) {
  auto stranger = carried_out(Stranger({"rpool/vms/web", "rpool/vms/web-data"}));
  stranger.host.dataset("rpool/vms/web-data").user.clear();
  const auto plan = plan_of(stranger.plan());
  ASSERT_EQ(plan.steps.size(), 2U) << test::to_text(plan);
  EXPECT_EQ(std::get<SetProperties>(plan.steps[1]).dataset, "rpool/vms/web-data");
}

TEST(Adopt, RefusesByState) {
  Stranger stranger({"rpool/vms/web"});
  const auto kind_when = [&](auto&& change) {
    Stranger changed = stranger;
    change(changed.host.domain_of("web"));
    return refusal_of(changed.plan()).kind;
  };
  EXPECT_EQ(kind_when([](auto& d) { d.state = virt::State::running; }), "running");
  EXPECT_EQ(kind_when([](auto& d) { d.state = virt::State::paused; }), "running");
  EXPECT_EQ(kind_when([](auto& d) { d.persistent = false; }), "transient-domain");
  EXPECT_EQ(kind_when([](auto& d) { d.has_snapshots = true; }), "libvirt-snapshots");
  EXPECT_EQ(kind_when([](auto& d) { d.has_checkpoints = true; }), "libvirt-checkpoints");
  EXPECT_EQ(kind_when([](auto& d) { d.has_managed_save = true; }), "managed-save");
  stranger.facts.block_jobs = {"vda: copy"};
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "block-job");
}

TEST(Adopt, ARunningMachineIsToldHowToStop) {
  Stranger stranger({"rpool/vms/web"});
  stranger.host.domain_of("web").state = virt::State::running;
  EXPECT_EQ(
      refusal_of(stranger.plan()),
      (Refusal{
          "running", "machine 'web' is running: it can be taken in only when shut off", {}, "virsh shutdown web"}));
}

TEST(Adopt, RefusesDisksThatAreElsewhereEachByName) {
  Stranger stranger({"rpool/vms/web"});
  stranger.host.add(test::filesystem("rpool/vms/files"));
  auto replica = test::volume("rpool/vms/dr");
  replica.user = {{zfs::property::replica_of, "h/dr"}};
  stranger.host.add(replica).add(test::volume("rpool/vms/.kept/web-1"));
  stranger.define({"/dev/zvol/rpool/vms/web", "/dev/zvol/rpool/other/x", "/dev/zvol/rpool/vms/gone",
                   "/dev/zvol/rpool/vms/files", "/dev/sdb", "/dev/zvol/rpool/vms/web", "/dev/zvol/rpool/vms/dr",
                   "/dev/zvol/rpool/vms/.kept/web-1"});
  expect_golden("plan/adopt-bad-disks.txt", test::to_text(stranger.plan()));
}

TEST(Adopt, RefusesAnImageFormatOnAVolume) {
  Stranger stranger({"rpool/vms/web"});
  const auto at = stranger.facts.inactive.find("raw");
  ASSERT_NE(at, std::string::npos);
  stranger.facts.inactive.replace(at, 3, "qcow2");
  EXPECT_EQ(refusal_of(stranger.plan()).evidence,
            std::vector<std::string>{"vda: rpool/vms/web holds a qcow2 image, not the disk itself"});
}

TEST(Adopt, RefusesAFullPool) {
  Stranger stranger({"rpool/vms/web"});
  stranger.host.dataset("rpool/vms").available = 0;
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "pool-full");
}

TEST(Adopt, RefusesADomainWithoutDisks) {
  Stranger stranger({"rpool/vms/web"});
  stranger.edit([](virt::Definition& definition) { definition.remove_disk("vda"); });
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "no-disk");
}

TEST(Adopt, RefusesAVolumeThatAnotherDomainUses) {
  Stranger stranger({"rpool/vms/web"});
  stranger.host.add(test::domain("twin", virt::State::shut_off, {"/dev/zd0"}));
  stranger.facts.volumes = {{"/dev/zd0", "rpool/vms/web"}};
  const auto refusal = refusal_of(stranger.plan());
  EXPECT_EQ(refusal.kind, "volume-shared");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"vda: rpool/vms/web is a disk of domain 'twin', too"});
}

TEST(Adopt, RefusesAVolumeOfAnotherMachine) {
  Stranger stranger({"rpool/vms/mail"});
  stranger.host.dataset("rpool/vms/mail").user = {{zfs::property::machine, "mail"}};
  const auto refusal = refusal_of(stranger.plan());
  EXPECT_EQ(refusal.kind, "volume-taken");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"vda: rpool/vms/mail belongs to machine 'mail'"});
}

TEST(Adopt, RefusesNamesThatAreTaken) {
  Stranger stranger({"rpool/vms/x"});
  stranger.host.add(test::filesystem("rpool/vms/web"));
  EXPECT_EQ(refusal_of(stranger.plan()), (Refusal{"dataset-taken",
                                                  "a dataset that machine 'web' needs exists already",
                                                  {"vda: rpool/vms/x would become rpool/vms/web, which exists"},
                                                  "rename it first: zfs rename rpool/vms/web NEW"}));
  Stranger other({"rpool/vms/web"});
  other.host.add(test::filesystem("rpool/vms/.state/web"));
  EXPECT_EQ(refusal_of(other.plan()).kind, "dataset-taken");
}

TEST(Adopt, RefusesTheStateOfAnotherMachineOfThisName) {
  Stranger stranger({"rpool/vms/x"});
  auto state = test::filesystem("rpool/vms/.state/web");
  state.user = {{zfs::property::machine, "web"}};
  stranger.host.add(state);
  stranger.facts.saved_exists = true;
  stranger.facts.saved = test::definition("another", {"/dev/zvol/rpool/vms/web"});
  const auto refusal = refusal_of(stranger.plan());
  EXPECT_EQ(refusal.kind, "state-taken");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"its saved definition has UUID " + test::uuid_of("another") +
                                                       ", the domain " + test::uuid_of("web")});
}

TEST(Adopt, RefusesNamesThatCannotNameAMachine) {
  Host host;
  host.add(test::domain("list")).add(test::domain("my vm"));
  EXPECT_EQ(refusal_of(plan_adopt(host.view, {"list"}, {}, fresh())).kind, "bad-name");
  EXPECT_EQ(refusal_of(plan_adopt(host.view, {"my vm"}, {}, fresh())),
            (Refusal{"bad-name",
                     "domain name 'my vm' contains ' ': it cannot name a machine",
                     {},
                     "rename it: virsh domrename 'my vm' NEW"}));
}

TEST(Adopt, RefusesLockedDatasetsWithTheCommand) {
  Stranger stranger({"rpool/vms/web"});
  auto& volume = stranger.host.dataset("rpool/vms/web");
  volume.key_missing = true;
  volume.encryption_root = "rpool/vms/web";
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "key-missing");
  EXPECT_EQ(refusal_of(stranger.plan()).hint, "load it: zfs load-key rpool/vms/web");
}

TEST(Adopt, RefusesToCrossAnEncryptionRoot) {
  Stranger stranger({"rpool/vms/vault/web"});
  stranger.host.dataset("rpool/vms/vault/web").encryption_root = "rpool/vms/vault";
  EXPECT_EQ(refusal_of(stranger.plan()).kind, "encryption-root");
  EXPECT_EQ(refusal_of(stranger.plan()).hint,
            "make it a root of its own: zfs change-key -o keyformat=passphrase rpool/vms/vault/web");
  stranger.host.dataset("rpool/vms/vault/web").encryption_root = "rpool/vms/vault/web";
  EXPECT_FALSE(refused(stranger.plan()));
  stranger.host.dataset("rpool/vms/vault/web").encryption_root = "rpool";
  stranger.host.dataset("rpool/vms").encryption_root = "rpool";
  EXPECT_FALSE(refused(stranger.plan()));
}

TEST(Adopt, RefusesALostMachineWithoutADefinition) {
  Host host;
  host.machine("web", {.defined = false});
  const auto refusal = refusal_of(plan_adopt(host.view, {"web"}, {}, fresh()));
  EXPECT_EQ(refusal.kind, "no-definition");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"there is no /var/lib/kldload/state/web/domain.xml"});
  host.dataset("rpool/vms/.state/web").mounted = false;
  EXPECT_EQ(refusal_of(plan_adopt(host.view, {"web"}, {}, fresh())).hint, "zfs mount rpool/vms/.state/web");
}

TEST(Adopt, RefusesALostMachineWhoseUuidIsTaken) {
  Host host;
  host.machine("web", {.defined = false});
  AdoptFacts facts;
  facts.saved_exists = true;
  facts.saved = test::definition(host, "web");
  auto renamed = test::domain("web-new");
  renamed.uuid = test::uuid_of("web");
  host.add(renamed);
  const auto refusal = refusal_of(plan_adopt(host.view, {"web"}, facts, fresh()));
  EXPECT_EQ(refusal.kind, "uuid-taken");
  EXPECT_EQ(refusal.hint, "if it is the same machine, give it its name back: virsh domrename web-new web");
}

TEST(Adopt, RefusesALostMachineWhoseDiskIsGone) {
  Host host;
  host.machine("web", {.labels = {"data"}, .defined = false});
  AdoptFacts facts;
  facts.saved_exists = true;
  facts.saved = test::definition(host, "web");
  std::erase_if(host.view.datasets, [](const auto& dataset) { return dataset.name == "rpool/vms/web-data"; });
  const auto refusal = refusal_of(plan_adopt(host.view, {"web"}, facts, fresh()));
  EXPECT_EQ(refusal.kind, "missing-volume");
  EXPECT_EQ(refusal.evidence, std::vector<std::string>{"vdb: there is no volume rpool/vms/web-data"});
}

TEST(Adopt, RefusesWhatIsNotThere) {
  Host host;
  host.machine("web");
  EXPECT_EQ(refusal_of(plan_adopt(host.view, {"wbe"}, {}, fresh())).hint, "did you mean 'web'?");
}

TEST(Adoptable, AreStrangersOnZvolsAndLostMachines) {
  Host host;
  host.machine("ours").machine("lost", {.defined = false});
  std::map<std::string, std::string> definitions;
  const auto add = [&](const std::string& name, const std::vector<std::string>& paths) {
    host.add(test::domain(name, virt::State::shut_off, paths));
    definitions[name] = test::definition(name, paths);
  };
  host.add(test::volume("rpool/vms/a")).add(test::volume("rpool/vms/b"));
  add("whole", {"/dev/zvol/rpool/vms/a"});
  add("by-number", {"/dev/zd32"});
  add("half", {"/dev/zvol/rpool/vms/a", "/dev/sdb"});
  add("outside", {"/dev/zvol/tank/x"});
  add("empty", {});
  host.add(test::domain("unread", virt::State::shut_off, {"/dev/zvol/rpool/vms/a"}));
  EXPECT_EQ(adoptable(host.view, definitions, {{"/dev/zd32", "rpool/vms/b"}}),
            (std::vector<std::string>{"by-number", "lost", "whole"}));
  EXPECT_TRUE(adoptable(Host().view, {}, {}).empty());
}

TEST(Layout, StateRootIsMadeOnceAndHiddenFromTheStart) {
  EXPECT_EQ(ensure_state_root(Host().view, kOp), std::nullopt);
  const CreateFilesystem expected{
      "rpool/vms/.state",
      {{"canmount", "off"}, {"mountpoint", "/var/lib/kldload/state"}, {"atime", "off"}, {zfs::property::op, kOp}}};
  EXPECT_EQ(ensure_state_root(Host(false).view, kOp), Step(expected));
}

TEST(Layout, RefusesAStateRootThatIsAnother) {
  EXPECT_EQ(layout_problem(Host().view), std::nullopt);
  EXPECT_EQ(layout_problem(Host(false).view), std::nullopt);
  Host moved;
  moved.dataset("rpool/vms/.state").mountpoint = "/srv";
  EXPECT_EQ(layout_problem(moved.view)->hint, "zfs set mountpoint=/var/lib/kldload/state rpool/vms/.state");
  Host shown;
  shown.dataset("rpool/vms/.state").can_mount = true;
  EXPECT_EQ(layout_problem(shown.view)->hint, "zfs set canmount=off rpool/vms/.state");
  Host locked;
  locked.dataset("rpool/vms").key_missing = true;
  locked.dataset("rpool/vms").encryption_root = "rpool";
  EXPECT_EQ(layout_problem(locked.view)->kind, "key-missing");
  EXPECT_EQ(layout_problem(locked.view)->hint, "load it: zfs load-key rpool");
}

}  // namespace
}  // namespace kld::plan
