// SPDX-License-Identifier: Apache-2.0
#include "run/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "run/file.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

constexpr char kPath[] = "/etc/kldload/kvm.toml";

Config parse(const std::string& text) { return parse_config(text, kPath); }

std::string complaint(const std::string& text) {
  try {
    parse(text);
    return "none";
  } catch (const UsageError& error) {
    EXPECT_EQ(error.exit(), Exit::usage);
    EXPECT_NE(error.hint(), "");
    return error.message();
  }
}

TEST(Config, HoldsWhatItSays) {
  const auto config = parse(
      "# a comment\nroot = \"tank/vms\"\nroot_guid = \"18446744073709551615\"\n"
      "connect = \"qemu:///session\"\n");
  EXPECT_EQ(config.path, kPath);
  EXPECT_EQ(config.root, "tank/vms");
  EXPECT_EQ(config.root_guid, 18446744073709551615ULL);
  EXPECT_EQ(config.connect, "qemu:///session");
}

TEST(Config, EmptyAndMissingSayNothing) {
  for (const auto& config : {parse(""), parse("\n# only a comment\n"), load_config("/nonexistent/kvm.toml")}) {
    EXPECT_FALSE(config.root);
    EXPECT_FALSE(config.root_guid);
    EXPECT_FALSE(config.connect);
  }
  EXPECT_EQ(load_config("/nonexistent/kvm.toml").path, "/nonexistent/kvm.toml");
}

TEST(Config, SaysWhereItIsWrong) {
  const std::string at = std::string(kPath) + ":";
  EXPECT_EQ(complaint("root = \"a/b\"\ncolour = \"red\"\n"), at + "2:1: unknown key 'colour'");
  EXPECT_EQ(complaint("\n  root = 5\n").rfind(at + "2:10: 'root' wants a text", 0), 0U) << complaint("\n  root = 5\n");
  EXPECT_EQ(complaint("root = \"\"\n").rfind(at + "1:8: ", 0), 0U);
  EXPECT_EQ(complaint("root = [\"a\"]\n").rfind(at + "1:8: ", 0), 0U);
  EXPECT_EQ(complaint("connect = true\n").rfind(at + "1:11: 'connect'", 0), 0U);
  EXPECT_EQ(complaint("root_guid = 5\n").rfind(at + "1:13: 'root_guid'", 0), 0U);
  for (const char* guid : {"", "x", "5x", "-1", " 5", "18446744073709551616", "0x5"}) {
    EXPECT_NE(complaint(std::string("root_guid = \"") + guid + "\"\n"), "none") << guid;
  }
  EXPECT_EQ(complaint("root = \"a\nb\"\n").rfind(at + "1:", 0), 0U);
  EXPECT_EQ(complaint("root = \"a\"\nroot = \"b\"\n").rfind(at + "2:", 0), 0U);
  EXPECT_EQ(complaint("[table]\n").rfind(at + "1:", 0), 0U);
  EXPECT_NE(complaint(std::string("root = \"a\0b\"", 12)), "none");
}

TEST(Config, SaysHowLongSnapshotsAreKept) {
  EXPECT_EQ(parse_config("", "f").keep, std::nullopt);
  EXPECT_FALSE(parse_config("", "f").early_deletion);
  const auto config = parse_config("keep = \"daily=7\"\nearly_deletion = true\n", "f");
  EXPECT_EQ(config.keep, "daily=7");
  EXPECT_TRUE(config.early_deletion);
  EXPECT_NE(complaint("keep = 7\n"), "none");
  EXPECT_NE(complaint("early_deletion = \"yes\"\n"), "none");
  EXPECT_NE(complaint("early_deletion = 1\n"), "none");
}

class RememberRoot : public testing::Test {
 protected:
  RememberRoot() {
    std::string name = testing::TempDir() + "config-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~RememberRoot() override { fs::remove_all(directory_); }
  std::string directory_;
};

TEST_F(RememberRoot, MakesTheFile) {
  const auto path = directory_ + "/etc/kldload/kvm.toml";
  remember_root(path, "tank/vms", 42);
  const auto config = load_config(path);
  EXPECT_EQ(config.root, "tank/vms");
  EXPECT_EQ(config.root_guid, 42U);
}

TEST_F(RememberRoot, KeepsWhatIsThere) {
  const auto path = directory_ + "/kvm.toml";
  const std::string before = "# mine\nconnect = \"qemu:///system\"\n";
  write_file(path, before, true);
  remember_root(path, "tank/vms", 42);
  const auto after = read_file(path).value();
  EXPECT_NE(after.find(before), std::string::npos);
  const auto config = load_config(path);
  EXPECT_EQ(config.root, "tank/vms");
  EXPECT_EQ(config.connect, "qemu:///system");
}

TEST(ResolveRoot, FlagOverEnvironmentOverFile) {
  Config config;
  config.root = "file/vms";
  config.root_guid = 7;
  ::setenv("KLD_ROOT", "variable/vms", 1);
  EXPECT_EQ(resolve_root("flag/vms", config).dataset, "flag/vms");
  EXPECT_EQ(resolve_root(std::nullopt, config).dataset, "variable/vms");
  EXPECT_EQ(resolve_root(std::nullopt, config).guid, std::nullopt) << "the guid is the file's root's";
  ::setenv("KLD_ROOT", "", 1);
  EXPECT_EQ(resolve_root(std::nullopt, config).dataset, "file/vms");
  ::unsetenv("KLD_ROOT");
  const auto root = resolve_root(std::nullopt, config);
  EXPECT_EQ(root.dataset, "file/vms");
  EXPECT_EQ(root.guid, 7U);
  EXPECT_FALSE(root.remember);
}

TEST(ResolveRoot, RefusesANameWithABlank) {
  Config config;
  config.root = "tank/my vms";
  EXPECT_THROW(resolve_root(std::nullopt, config), Refused);
  EXPECT_THROW(resolve_root("my tank/vms", Config{}), Refused);
}

}  // namespace
}  // namespace kld::run
