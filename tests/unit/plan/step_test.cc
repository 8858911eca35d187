// SPDX-License-Identifier: Apache-2.0
#include "plan/step.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/size.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::kOp;

const zfs::Properties kOwn = {{zfs::property::machine, "web"}, {zfs::property::op, kOp}};
const std::vector<File> kWrittenFiles = {{"/s/web/domain.xml", "<domain/>\n", false, ""},
                                         {"/s/web/other", "new \"quoted\" ä\n", true, "old"}};
const std::vector<DomainDefinition> kDomains = {{"web", "u-web", "<domain>web</domain>"},
                                                {"mail", "u-mail", "<domain/>"}};

/// One of each, in the order of Step's alternatives.
std::vector<Step> one_of_each() {
  return {
      CreateFilesystem{"rpool/vms/.state/web", kOwn},
      CreateVolume{"rpool/vms/web", 20 * GiB, {{"volblocksize", "65536"}, {zfs::property::op, kOp}}},
      CloneDatasets{
          {{"rpool/vms/golden@s", "rpool/vms/web", kOwn}, {"rpool/vms/golden-data@s", "rpool/vms/web-data", kOwn}}},
      TakeSnapshots{{"rpool/vms/web@s", "rpool/vms/.state/web@s"},
                    {{zfs::property::by, "hand"}, {zfs::property::op, kOp}}},
      CopyDataset{"rpool/vms/golden@s", "rpool/vms/web", kOwn},
      MountFilesystems{{{"rpool/vms/.state/web", "/s/web"}, {"rpool/vms/.state/web/tpm", "/t/u"}}},
      UnmountFilesystems{{{"rpool/vms/.state/web/tpm", "/t/u"}, {"rpool/vms/.state/web", "/s/web"}}},
      AwaitDevices{{"rpool/vms/web", "rpool/vms/web-data"}},
      AwaitUnused{{"rpool/vms/web"}},
      WriteFiles{kWrittenFiles},
      WriteSeeds{{{"/s/web/seed.iso", {{"meta-data", "instance-id: 1\n"}, {"user-data", "#cloud-config\n"}}}}},
      WriteImage{"/images/debian 12.qcow2", "qcow2", "rpool/vms/web", 2 * GiB},
      CopyFiles{"/n/web_VARS.fd", "/s/web/uefi_VARS.fd"},
      MoveAside{"/t/u", "/t/u.before-adopt"},
      RenameDataset{"rpool/vms/old", "rpool/vms/web", 18446744073709551615ULL},
      PromoteDatasets{{{"rpool/vms/web", "rpool/vms/.kept/web-1/web", 7, "rpool/vms/web"}}, false},
      SetProperties{"rpool/vms/web", {{"a:x", "1"}, {"a:y", ""}}, {{"a:x", ""}, {"a:y", "2"}}, 7, "rpool/vms/old"},
      DefineDomains{kDomains},
      UndefineDomains{kDomains},
      RedefineDomain{{"web", "u-web", "<domain>new</domain>"}, {"web", "u-web", "<domain>old</domain>"}},
      SaveDefinition{{"web", "u-web"}, "/s/web/domain.xml"},
      SetAutostart{{"web", "u-web"}, false},
      StartDomain{{"web", "u-web"}},
      StopDomain{{"web", "u-web"}, 60},
      DiscardSaved{{"web", "u-web"}},
      DestroyDatasets{{{"rpool/vms/web", 42, ""}, {"rpool/vms/.state/web", 43, "/s/web"}}},
      DestroySnapshots{{{"rpool/vms/web@s", 44}}, true},
      CheckNewer{{"web", "u-web"},
                 {{"rpool/vms/web", "rpool/vms/web@s", 45}},
                 {{"rpool/vms/web@later", 46}},
                 {"rpool/vms/web#base"}},
      RollbackDatasets{{{"rpool/vms/web", "rpool/vms/web@s", 45}}, {"rpool/vms/web#base"}},
      DestroyOwn{{"rpool/vms/web"}, {"rpool/vms/golden@s"}, kOp},
      RestoreFiles{kWrittenFiles},
  };
}

std::vector<std::string> command_lines(const Step& step) {
  std::vector<std::string> lines;
  for (const auto& argv : commands(step)) lines.push_back(shell_line(argv));
  return lines;
}

using Lines = std::vector<std::string>;

TEST(Step, TheSamplesCoverEveryKind) {
  const auto steps = one_of_each();
  ASSERT_EQ(steps.size(), std::variant_size_v<Step>);
  for (std::size_t index = 0; index < steps.size(); ++index) EXPECT_EQ(steps[index].index(), index);
}

TEST(Step, JsonRoundTripLosesNothing) {
  std::set<std::string> acts;
  for (const auto& step : one_of_each()) {
    const auto text = to_json(step).dump();
    EXPECT_EQ(step_from_json(nlohmann::json::parse(text)), step) << text;
    EXPECT_TRUE(acts.insert(to_json(step).at("act").get<std::string>()).second) << text;
  }
}

TEST(Step, JsonIsTheJournalsForm) {
  EXPECT_EQ(to_json(RenameDataset{"a/b", "a/c", 7}).dump(),
            R"({"act":"rename-dataset","from":"a/b","guid":7,"to":"a/c"})");
  EXPECT_EQ(to_json(StopDomain{{"web", "u"}, 60}).dump(),
            R"({"act":"stop-domain","domain":{"name":"web","uuid":"u"},"graceful_seconds":60})");
}

TEST(Step, JsonThatIsNoStepIsAnError) {
  for (const char* text : {"null", "[]", "1", "{}", R"({"act":1})", R"({"act":"fly"})", R"({"act":"rename-dataset"})",
                           R"({"act":"rename-dataset","from":1,"to":"b","guid":1})",
                           R"({"act":"create-volume","name":"a","size":"big","properties":{}})",
                           R"({"act":"write-files","files":{"path":"x"}})"}) {
    EXPECT_THROW(step_from_json(nlohmann::json::parse(text)), Error) << text;
  }
}

TEST(Step, EachHasASentence) {
  std::set<std::string> sentences;
  for (const auto& step : one_of_each()) {
    const auto sentence = describe(step);
    EXPECT_GT(sentence.size(), 8U);
    EXPECT_TRUE(sentence[0] >= 'A' && sentence[0] <= 'Z') << sentence;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    EXPECT_TRUE(sentences.insert(sentence).second) << sentence;
  }
}

TEST(Step, SentencesNameWhatIsTouched) {
  EXPECT_EQ(describe(CreateVolume{"rpool/vms/web", 20 * GiB, {{"volblocksize", "65536"}, {zfs::property::op, kOp}}}),
            "Creating zvol rpool/vms/web (20G, volblocksize=65536)");
  EXPECT_EQ(describe(CreateVolume{"rpool/vms/web", 1536 * MiB, {}}), "Creating zvol rpool/vms/web (1536M)");
  EXPECT_EQ(describe(TakeSnapshots{{"a/b@s", "a/c@s"}, {}}), "Snapshotting a/b@s, a/c@s");
  EXPECT_EQ(describe(StopDomain{{"web", "u"}, 0}), "Stopping web");
  EXPECT_EQ(describe(StopDomain{{"web", "u"}, 60}), "Shutting down web");
  EXPECT_EQ(describe(SetAutostart{{"web", "u"}, true}), "Enabling autostart of web");
  EXPECT_EQ(describe(SaveDefinition{{"web", "u"}, "/s"}), "Saving the definition of web as libvirt words it");
  EXPECT_EQ(describe(UndefineDomains{kDomains}), "Undefining web, mail");
  EXPECT_EQ(describe(DestroyOwn{{"a/b"}, {"a/c@s"}, kOp}), "Destroying what this operation made of a/b, a/c@s");
}

TEST(Step, EachHasACommand) {
  for (const auto& step : one_of_each()) {
    const auto lines = commands(step);
    EXPECT_FALSE(lines.empty()) << describe(step);
    for (const auto& argv : lines) EXPECT_GE(argv.size(), 2U) << describe(step);
  }
}

TEST(Step, CommandsAreWhatOneWouldType) {
  const auto steps = one_of_each();
  const std::string own = "-o com.kldload:machine=web -o com.kldload:op=" + std::string(kOp);
  EXPECT_EQ(command_lines(steps[0]), Lines{"zfs create -u " + own + " rpool/vms/.state/web"});
  EXPECT_EQ(command_lines(steps[1]), Lines{"zfs create -s -V 20G -o com.kldload:op=" + std::string(kOp) +
                                           " -o volblocksize=65536 rpool/vms/web"});
  EXPECT_EQ(command_lines(CreateVolume{"a/b", GiB, {{"refreservation", "auto"}}}),
            Lines{"zfs create -V 1G -o refreservation=auto a/b"});
  EXPECT_EQ(command_lines(steps[2]), (Lines{"zfs clone " + own + " rpool/vms/golden@s rpool/vms/web",
                                            "zfs clone " + own + " rpool/vms/golden-data@s rpool/vms/web-data"}));
  EXPECT_EQ(command_lines(steps[3]), Lines{"zfs snapshot -o com.kldload:by=hand -o com.kldload:op=" + std::string(kOp) +
                                           " rpool/vms/web@s rpool/vms/.state/web@s"});
  EXPECT_EQ(command_lines(steps[5]), (Lines{"zfs mount rpool/vms/.state/web", "zfs mount rpool/vms/.state/web/tpm"}));
  EXPECT_EQ(command_lines(steps[14]), Lines{"zfs rename rpool/vms/old rpool/vms/web"});
  EXPECT_EQ(command_lines(steps[16]), (Lines{"zfs inherit a:y rpool/vms/web", "zfs set a:x=1 rpool/vms/web"}));
  EXPECT_EQ(command_lines(SetProperties{"a/b", {{"a:x", "1"}}, {{"a:x", ""}}}), Lines{"zfs set a:x=1 a/b"});
  EXPECT_EQ(command_lines(SetProperties{"a/b", {{"a:x", ""}}, {{"a:x", "1"}}}), Lines{"zfs inherit a:x a/b"});
  EXPECT_EQ(command_lines(steps[18]),
            (Lines{"virsh undefine web --keep-nvram --keep-tpm", "virsh undefine mail --keep-nvram --keep-tpm"}));
  EXPECT_EQ(command_lines(steps[20]), (Lines{"virsh dumpxml web --inactive --security-info", "tee /s/web/domain.xml"}));
  EXPECT_EQ(command_lines(steps[21]), Lines{"virsh autostart web --disable"});
  EXPECT_EQ(command_lines(steps[23]), Lines{"virsh shutdown web"});
  EXPECT_EQ(command_lines(StopDomain{{"web", "u"}, 0}), Lines{"virsh destroy web"});
  EXPECT_EQ(command_lines(steps[24]), Lines{"virsh managedsave-remove web"});
}

TEST(Step, WhatIsMadeIsUnmadeByItsOperation) {
  EXPECT_EQ(inverse(CreateFilesystem{"a/b", kOwn}), Step(DestroyOwn{{"a/b"}, {}, kOp}));
  EXPECT_EQ(inverse(CreateVolume{"a/b", GiB, kOwn}), Step(DestroyOwn{{"a/b"}, {}, kOp}));
  EXPECT_EQ(inverse(CloneDatasets{{{"a/g@s", "a/b", kOwn}, {"a/h@s", "a/c", kOwn}}}),
            Step(DestroyOwn{{"a/b", "a/c"}, {}, kOp}));
  EXPECT_EQ(inverse(CloneDatasets{}), std::nullopt);
  EXPECT_EQ(inverse(TakeSnapshots{{"a/b@s"}, kOwn}), Step(DestroyOwn{{}, {"a/b@s"}, kOp}));
  EXPECT_EQ(inverse(CopyDataset{"a/g@s", "a/b", kOwn}), Step(DestroyOwn{{"a/b"}, {}, kOp}));
  EXPECT_EQ(inverse(WriteFiles{kWrittenFiles}), Step(RestoreFiles{kWrittenFiles}));
  EXPECT_EQ(inverse(AwaitUnused{{"a/b"}}), Step(AwaitDevices{{"a/b"}}));
}

TEST(Step, TheInverseOfAnInverseIsTheStep) {
  for (const Step& step : std::vector<Step>{
           MountFilesystems{{{"a/b", "/b"}, {"a/c", "/c"}}}, UnmountFilesystems{{{"a/b", "/b"}}}, MoveAside{"/a", "/b"},
           RenameDataset{"a/b", "a/c", 7}, PromoteDatasets{{{"a/b", "a/c", 7, "a/b"}}, false},
           SetProperties{"a/b", {{"a:x", "1"}}, {{"a:x", ""}}}, DefineDomains{kDomains, false},
           UndefineDomains{kDomains, true}, RedefineDomain{kDomains[0], {"web", "u-web", "<old/>"}, false},
           SetAutostart{{"web", "u"}, true}, StartDomain{{"web", "u"}}}) {
    const auto back = inverse(step);
    ASSERT_TRUE(back) << describe(step);
    EXPECT_NE(*back, step);
    EXPECT_EQ(inverse(*back), step) << describe(step);
  }
}

TEST(Step, MountsAreUndoneInReverse) {
  EXPECT_EQ(inverse(MountFilesystems{{{"a/b", "/b"}, {"a/b/tpm", "/t"}}}),
            Step(UnmountFilesystems{{{"a/b/tpm", "/t"}, {"a/b", "/b"}}}));
}

TEST(Step, WhatDestroysHasNoInverse) {
  for (const auto& step : one_of_each()) {
    if (is_destructive(step)) {
      EXPECT_EQ(inverse(step), std::nullopt) << describe(step);
    }
  }
  EXPECT_TRUE(is_destructive(DestroyDatasets{}));
  EXPECT_TRUE(is_destructive(DestroySnapshots{}));
  EXPECT_TRUE(is_destructive(DiscardSaved{}));
}

// Every kind must be decided on: undone, waiting only, gone with its dataset, or destructive.
TEST(Step, WhatHasNoInverseNeedsNone) {
  std::set<std::string> without;
  for (const auto& step : one_of_each()) {
    if (!inverse(step) && !is_destructive(step)) without.insert(to_json(step).at("act").get<std::string>());
  }
  EXPECT_EQ(without, (std::set<std::string>{"await-devices", "check-newer", "copy-files", "destroy-own",
                                            "restore-files", "save-definition", "write-image", "write-seeds"}));
}

}  // namespace
}  // namespace kld::plan
