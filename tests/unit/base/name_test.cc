// SPDX-License-Identifier: Apache-2.0
#include "base/name.h"

#include <gtest/gtest.h>

namespace kld {
namespace {

TEST(MachineName, TakesWhatLibvirtAndZfsTake) {
  for (const auto& name :
       std::vector<std::string>{"web", "web-1", "Web_2.prod", "0", std::string(63, 'a'), "listing", "isos2"}) {
    EXPECT_EQ(machine_name_problem(name), std::nullopt) << name;
  }
}

TEST(MachineName, SaysWhatIsWrong) {
  EXPECT_EQ(machine_name_problem(""), "is empty");
  EXPECT_EQ(machine_name_problem("."), "starts with '.', which would hide it");
  EXPECT_EQ(machine_name_problem(".state"), "starts with '.', which would hide it");
  EXPECT_EQ(machine_name_problem("../x"), "starts with '.', which would hide it");
  EXPECT_EQ(machine_name_problem("-x"), "starts with '-'");
  EXPECT_EQ(machine_name_problem("_x"), "starts with '_'");
  EXPECT_EQ(machine_name_problem("a/b"), "contains '/'");
  EXPECT_EQ(machine_name_problem("a@b"), "contains '@'");
  EXPECT_EQ(machine_name_problem("a b"), "contains ' '");
  EXPECT_EQ(machine_name_problem("a:b"), "contains ':'");
  EXPECT_EQ(machine_name_problem("a%b"), "contains '%'");
  EXPECT_EQ(machine_name_problem("a\nb"), "contains byte 0x0a");
  EXPECT_EQ(machine_name_problem(std::string_view("a\0b", 3)), "contains byte 0x00");
  EXPECT_EQ(machine_name_problem("wéb"), "contains byte 0xc3");
  EXPECT_EQ(machine_name_problem(std::string(64, 'a')), "is 64 characters long, 63 are the limit");
  EXPECT_EQ(machine_name_problem("isos"), "is the dataset of installation media");
}

TEST(MachineName, LeavesTheVerbsToTheCommands) {
  for (const char* verb : {"list", "status", "all", "none", "snap", "delete", "rollback", "undo", "help", "recover"}) {
    EXPECT_EQ(machine_name_problem(verb), "is a word the commands use themselves") << verb;
    EXPECT_EQ(disk_label_problem(verb), std::nullopt) << verb;
  }
}

TEST(DiskLabel, IsShorter) {
  EXPECT_EQ(disk_label_problem(std::string(31, 'd')), std::nullopt);
  EXPECT_EQ(disk_label_problem(std::string(32, 'd')), "is 32 characters long, 31 are the limit");
  EXPECT_EQ(disk_label_problem(""), "is empty");
  EXPECT_EQ(disk_label_problem("a=b"), "contains '='");
}

TEST(SnapshotName, TakesWhatZfsTakes) {
  EXPECT_EQ(snapshot_name_problem("2026-04-04T14:35:00Z"), std::nullopt);
  EXPECT_EQ(snapshot_name_problem("clone-2026-04-04T14:35:00Z.2"), std::nullopt);
  EXPECT_EQ(snapshot_name_problem(std::string(127, 's')), std::nullopt);
  EXPECT_TRUE(snapshot_name_problem(std::string(128, 's')));
  EXPECT_EQ(snapshot_name_problem(""), "is empty");
  for (const char* name : {"a/b", "a@b", "a#b", "a%b", "ä", "a\tb", "a,b"})
    EXPECT_TRUE(snapshot_name_problem(name)) << name;
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string> machines = {"web", "mail", "database"};
  EXPECT_EQ(nearest("wbe", machines), "web");
  EXPECT_EQ(nearest("databse", machines), "database");
  EXPECT_EQ(nearest("mail", machines), "mail");
  EXPECT_EQ(nearest("firewall", machines), "");
  EXPECT_EQ(nearest("web", {}), "");
}

}  // namespace
}  // namespace kld
