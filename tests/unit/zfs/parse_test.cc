// SPDX-License-Identifier: Apache-2.0
#include "zfs/parse.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/size.h"
#include "zfs/device.h"

namespace kld::zfs {
namespace {

std::string stored(const std::string& name) {
  std::ifstream file(KLD_SOURCE_DIR "/tests/unit/zfs/data/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Parse, AResumeTokenNamesItsSnapshot) {
  EXPECT_EQ(snapshot_in_token(stored("send-token-2.1.txt")), "vmpool/vms/web@first");
  EXPECT_EQ(snapshot_in_token("cannot resume send: kernel modules must be upgraded\n"), "");
  EXPECT_EQ(snapshot_in_token(""), "");
}

const Dataset& named(const std::vector<Dataset>& datasets, const std::string& name) {
  for (const auto& dataset : datasets) {
    if (dataset.name == name) return dataset;
  }
  throw std::out_of_range(name);
}

TEST(ParseDatasets, ReadsEveryLine) {
  const auto datasets = parse_datasets(stored("zfs-2.1-datasets.txt"));
  std::vector<std::string> names;
  for (const auto& dataset : datasets) names.push_back(dataset.name);
  EXPECT_EQ(names, (std::vector<std::string>{"rpool/vms", "rpool/vms/.state", "rpool/vms/.state/golden",
                                             "rpool/vms/.state/golden/tpm", "rpool/vms/.state/web", "rpool/vms/isos",
                                             "rpool/vms/golden", "rpool/vms/golden-data", "rpool/vms/secret",
                                             "rpool/vms/web"}));
}

TEST(ParseDatasets, ReadsAVolume) {
  const auto datasets = parse_datasets(stored("zfs-2.1-datasets.txt"));
  Dataset web;
  web.name = "rpool/vms/web";
  web.kind = Kind::volume;
  web.guid = 10287412094712094712ULL;
  web.createtxg = 118;
  web.origin = "rpool/vms/golden@clone-2026-04-04T14:35:00Z";
  web.used = 13672448;
  web.referenced = 1299185664;
  web.available = 50 * GiB;
  web.volsize = 20 * GiB;
  web.volblocksize = 64 * KiB;
  web.written = 13672448;
  web.compressratio = 1.37;
  web.volmode = "dev";
  web.user = {{property::machine, "web"},
              {property::disk, "root"},
              {property::op, "9a3d0b52-31c0-4e8a-8f0e-6b1f2c3d4e5f"},
              {property::clone_origin, "golden@clone-2026-04-04T14:35:00Z"}};
  EXPECT_EQ(named(datasets, "rpool/vms/web"), web);
}

TEST(ParseDatasets, ReadsAFilesystem) {
  const auto datasets = parse_datasets(stored("zfs-2.1-datasets.txt"));
  const auto& state = named(datasets, "rpool/vms/.state");
  EXPECT_EQ(state.kind, Kind::filesystem);
  EXPECT_EQ(state.guid, 18331906286714389021ULL);
  EXPECT_EQ(state.mountpoint, "/var/lib/kldload/state");
  EXPECT_FALSE(state.mounted);
  EXPECT_FALSE(state.can_mount);
  EXPECT_EQ(state.volsize, 0U);
  EXPECT_EQ(state.origin, "");
  EXPECT_EQ(state.property(property::machine), "");
  const auto& golden = named(datasets, "rpool/vms/.state/golden");
  EXPECT_TRUE(golden.mounted);
  EXPECT_TRUE(golden.can_mount);
  EXPECT_EQ(golden.written, 0U);
  EXPECT_DOUBLE_EQ(golden.compressratio, 3.02);
}

TEST(ParseDatasets, ReadsReservationKeysAndGolden) {
  const auto datasets = parse_datasets(stored("zfs-2.1-datasets.txt"));
  EXPECT_EQ(named(datasets, "rpool/vms/golden-data").refreservation, 5537136640U);
  EXPECT_EQ(named(datasets, "rpool/vms/golden-data").volblocksize, 16 * KiB);
  EXPECT_EQ(named(datasets, "rpool/vms/golden").property(property::golden), "true");
  const auto& secret = named(datasets, "rpool/vms/secret");
  EXPECT_TRUE(secret.key_missing);
  EXPECT_EQ(secret.encryption_root, "rpool/vms/secret");
  EXPECT_EQ(secret.volmode, "default");
  EXPECT_TRUE(secret.user.empty());
  EXPECT_FALSE(named(datasets, "rpool/vms/golden").key_missing);
}

TEST(ParseDatasets, NothingIsNothing) {
  EXPECT_TRUE(parse_datasets("").empty());
  EXPECT_TRUE(parse_datasets("\n").empty());
}

TEST(ParseDatasets, RefusesLinesItDoesNotKnow) {
  const auto text = stored("zfs-2.1-datasets.txt");
  EXPECT_THROW(parse_datasets("rpool/vms\n"), Error);
  EXPECT_THROW(parse_datasets(text.substr(0, text.find('\n')) + "\tmore\n"), Error);
  std::string bad = text.substr(0, text.find('\n'));
  bad.replace(bad.find("\t19\t"), 4, "\t1x\t");
  try {
    parse_datasets(bad);
    FAIL() << "a number that is none was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "unexpected number from zfs: '1x'");
  }
}

TEST(ParseSnapshots, OrdersByTransactionGroupNotByClock) {
  const auto snapshots = parse_snapshots(stored("zfs-2.1-snapshots.txt"), false);
  std::vector<std::string> names;
  for (const auto& snapshot : snapshots) names.push_back(snapshot.name);
  EXPECT_EQ(names, (std::vector<std::string>{"rpool/vms/golden@seal", "rpool/vms/golden@old-clock",
                                             "rpool/vms/.state/golden@clone-2026-04-04T14:35:00Z",
                                             "rpool/vms/golden@clone-2026-04-04T14:35:00Z"}));
}

TEST(ParseSnapshots, ReadsClonesHoldsAndProperties) {
  const auto snapshots = parse_snapshots(stored("zfs-2.1-snapshots.txt"), false);
  EXPECT_EQ(snapshots[0].holds, 1U);
  EXPECT_TRUE(snapshots[0].clones.empty());
  EXPECT_TRUE(snapshots[0].user.empty());
  EXPECT_TRUE(snapshots[1].clones.empty());
  Snapshot last;
  last.name = "rpool/vms/golden@clone-2026-04-04T14:35:00Z";
  last.guid = 13370000000000000001ULL;
  last.createtxg = 117;
  last.creation = 1775313300;
  last.clones = {"rpool/vms/web", "rpool/vms/web-2"};
  last.user = {{property::by, "clone"},
               {property::consistency, "offline"},
               {property::op, "9a3d0b52-31c0-4e8a-8f0e-6b1f2c3d4e5f"}};
  EXPECT_EQ(snapshots[3], last);
  EXPECT_EQ(snapshots[3].dataset(), "rpool/vms/golden");
  EXPECT_EQ(snapshots[3].short_name(), "clone-2026-04-04T14:35:00Z");
}

TEST(ParseListing, TellsDatasetsFromSnapshots) {
  const auto listing = parse_listing(stored("zfs-2.1-listing.txt"));
  std::vector<std::string> names;
  for (const auto& dataset : listing.datasets) names.push_back(dataset.name);
  EXPECT_EQ(names, (std::vector<std::string>{"vmpool/vms", "vmpool/vms/.state", "vmpool/vms/.state/golden",
                                             "vmpool/vms/edited", "vmpool/vms/golden", "vmpool/vms/tt1"}));
  EXPECT_EQ(named(listing.datasets, "vmpool/vms/tt1").origin, "vmpool/vms/golden@clone-2026-11-22T03:25:51Z");
  EXPECT_EQ(named(listing.datasets, "vmpool/vms/golden").property(property::machine), "golden");
  EXPECT_EQ(named(listing.datasets, "vmpool/vms").available, 24373104640U);
  ASSERT_EQ(listing.snapshots.size(), 3U);
  EXPECT_EQ(listing.snapshots[0].name, "vmpool/vms/.state/golden@clone-2026-11-22T03:25:51Z") << "the oldest first";
  Snapshot disk;
  disk.name = "vmpool/vms/golden@clone-2026-11-22T03:25:51Z";
  disk.guid = 3792061406283139568ULL;
  disk.createtxg = 6034;
  disk.creation = 1795317951;
  disk.referenced = 67256320;
  disk.written = 67256320;
  disk.clones = {"vmpool/vms/tt1"};
  disk.user = {{property::by, "clone"},
               {property::consistency, "offline"},
               {property::op, "007e5b30-59b1-44b7-b8d2-40fec2d78f34"}};
  EXPECT_EQ(listing.snapshots[1], disk);
  EXPECT_EQ(listing.snapshots[2].name, "vmpool/vms@of-the-root");
  EXPECT_TRUE(listing.snapshots[2].user.empty());
  EXPECT_THROW(parse_listing(stored("zfs-2.1-datasets.txt")), Error);
  EXPECT_THROW(parse_datasets(stored("zfs-2.1-listing.txt")), Error);
}

TEST(ParseSnapshots, ReadsSizesOnlyWhereTheyWereAsked) {
  const auto snapshots = parse_snapshots(stored("zfs-2.1-snapshots-sizes.txt"), true);
  EXPECT_EQ(snapshots[0].used, 40960U);
  EXPECT_EQ(snapshots[0].referenced, 1298112512U);
  EXPECT_EQ(snapshots[0].written, 1298112512U);
  EXPECT_EQ(snapshots[3].property(property::by), "clone");
  EXPECT_EQ(parse_snapshots(stored("zfs-2.1-snapshots.txt"), false)[0].used, 0U);
  EXPECT_THROW(parse_snapshots(stored("zfs-2.1-snapshots.txt"), true), Error);
  EXPECT_THROW(parse_snapshots(stored("zfs-2.1-snapshots-sizes.txt"), false), Error);
}

TEST(ParsePools, ReadsEveryLine) {
  const std::vector<Pool> pools = {{"rpool", 60 * GiB, 3006477312, 61418032128, "ONLINE", false},
                                   {"backup", 10200547328, 124416, 10200422912, "DEGRADED", true}};
  EXPECT_EQ(parse_pools(stored("zfs-2.1-pools.txt")), pools);
  EXPECT_THROW(parse_pools("rpool\t1\t2\n"), Error);
}

TEST(DatasetNames, ComeApart) {
  EXPECT_EQ(pool_of("rpool/vms/web@s"), "rpool");
  EXPECT_EQ(pool_of("rpool@s"), "rpool");
  EXPECT_EQ(pool_of("rpool"), "rpool");
  EXPECT_EQ(last_component("rpool/vms/web"), "web");
  EXPECT_EQ(last_component("rpool"), "rpool");
  EXPECT_EQ(parent_of("rpool/vms/web"), "rpool/vms");
  EXPECT_EQ(parent_of("rpool"), "");
  EXPECT_TRUE(is_below("rpool/vms/web", "rpool/vms"));
  EXPECT_TRUE(is_below("rpool/vms/.state/web", "rpool/vms"));
  EXPECT_FALSE(is_below("rpool/vms", "rpool/vms"));
  EXPECT_FALSE(is_below("rpool/vms2/web", "rpool/vms"));
  EXPECT_FALSE(is_below("", "rpool/vms"));
}

TEST(DeviceNames, LeadToTheirVolume) {
  EXPECT_EQ(device_path("rpool/vms/web"), "/dev/zvol/rpool/vms/web");
  EXPECT_EQ(volume_of_device("/dev/zvol/rpool/vms/web"), "rpool/vms/web");
  EXPECT_EQ(volume_of_device("/var/lib/libvirt/images/web.qcow2"), "");
  EXPECT_EQ(volume_of_device(""), "");
}

}  // namespace
}  // namespace kld::zfs
