// SPDX-License-Identifier: Apache-2.0
#include "plan/list.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::Host;

constexpr char kListedClone[] = "clone-2026-04-04T14:35:00Z";

std::vector<Row> rows_of(const Host& host, const ListRequest& request = {}) {
  auto listing = list_machines(host.view, request);
  if (const auto* refusal = std::get_if<Refusal>(&listing)) throw std::runtime_error(refusal->message);
  return std::get<std::vector<Row>>(listing);
}

Row row_of(const Host& host, const std::string& name, const ListRequest& request = {}) {
  for (const auto& row : rows_of(host, request)) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no row " + name);
}

std::vector<std::string> names_of(const std::vector<Row>& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(row.branch + row.name);
  return names;
}

/// Some of everything that a listing meets.
Host crowd() {
  Host host;
  host.machine("golden", {.labels = {"data"}, .golden = true});
  host.clone("golden", kListedClone, "web-1", {.state = virt::State::running}).clone("golden", kListedClone, "web-2");
  host.clone("web-1", kListedClone, "web-1-test", {.state = virt::State::paused_no_space});
  host.machine("lost", {.defined = false});
  host.machine("vault");
  host.dataset("rpool/vms/vault").key_missing = true;
  host.machine("torn");
  std::erase_if(host.view.datasets, [](const auto& dataset) { return dataset.name == "rpool/vms/torn"; });
  host.add(test::volume("rpool/vms/imported")).add(test::volume("rpool/vms/group/spare"));
  host.add(test::domain("stranger", virt::State::running, {"/var/lib/iso/cd.iso", "/dev/zvol/rpool/vms/imported"}));
  host.add(test::domain("files", virt::State::shut_off, {"/var/lib/libvirt/images/files.qcow2"}));
  host.add(test::domain("bare"));
  host.add(test::domain("gone", virt::State::shut_off, {"/dev/zvol/rpool/vms/no-more"}));
  auto replica = test::volume("rpool/vms/dr-mail");
  replica.user = {{zfs::property::replica_of, "hosta/mail"}, {zfs::property::machine, "mail"}};
  host.add(replica);
  auto kept = test::volume("rpool/vms/.kept/web-1-2026");
  kept.user = {{zfs::property::machine, "web-1"}, {zfs::property::kept, "rollback"}};
  host.add(kept).add(test::volume("rpool/vms/.kept/unmarked"));
  host.add(test::filesystem("rpool/vms/isos"));
  return host;
}

TEST(List, ShowsWhatThereIs) { expect_golden("plan/list.txt", list_table(rows_of(crowd()), false)); }

TEST(List, ShowsTheAncestryAsATree) {
  ListRequest request;
  request.tree = true;
  expect_golden("plan/list-tree.txt", list_table(rows_of(crowd(), request), false));
}

TEST(List, ShowsMoreWhenWide) {
  auto host = crowd();
  host.domain_of("web-1").autostart = true;
  ListRequest request;
  request.snapshots = {{"golden", {12, "clone-2026-04-04T14:35:00Z", 1775313300, "offline"}},
                       {"web-1", {0, "", 0, ""}}};
  expect_golden("plan/list-wide.txt", list_table(rows_of(host, request), true));
}

TEST(List, NeverShowsWhatIsSetAside) {
  for (const auto& row : rows_of(crowd())) EXPECT_EQ(row.zvol.find(".kept"), std::string::npos) << row.name;
}

TEST(List, StatesAreLibvirtsWordsOrOurs) {
  const auto host = crowd();
  EXPECT_EQ(row_of(host, "web-1").state, "running");
  EXPECT_EQ(row_of(host, "web-2").state, "shut off");
  EXPECT_EQ(row_of(host, "web-1-test").state, "paused (no space)");
  EXPECT_EQ(row_of(host, "lost").state, "no domain");
  EXPECT_EQ(row_of(host, "vault").state, "locked");
  EXPECT_EQ(row_of(host, "torn").state, "no disk");
  EXPECT_EQ(row_of(host, "gone").state, "no disk");
  EXPECT_EQ(row_of(host, "group/spare").state, "no domain");
  EXPECT_EQ(row_of(host, "mail").state, "replica");
  EXPECT_EQ(row_of(host, "stranger").state, "running");
  EXPECT_EQ(row_of(host, "files").state, "shut off");
}

TEST(List, AnOpenJournalShowsAsInterrupted) {
  ListRequest request;
  request.interrupted = {"web-1", "mail"};
  const auto row = row_of(crowd(), "web-1", request);
  EXPECT_EQ(row.state, "interrupted");
  EXPECT_EQ(to_json({row})[0].at("domain_state"), "running");
  EXPECT_EQ(row_of(crowd(), "web-2", request).state, "shut off");
  EXPECT_EQ(row_of(crowd(), "mail", request).state, "replica");  // the machine of that name is elsewhere
}

TEST(List, SomeDisksMissingIsSaid) {
  Host host;
  host.machine("web", {.labels = {"data"}});
  std::erase_if(host.view.datasets, [](const auto& dataset) { return dataset.name == "rpool/vms/web-data"; });
  const auto row = row_of(host, "web");
  EXPECT_EQ(row.state, "no disk");
  EXPECT_EQ(row.missing, std::vector<std::string>{"rpool/vms/web-data"});
  EXPECT_EQ(row.zvol, "rpool/vms/web");
}

TEST(List, StrangersAreListedAndNotOurs) {
  const auto host = crowd();
  EXPECT_FALSE(row_of(host, "stranger").adopted);
  EXPECT_EQ(row_of(host, "stranger").zvol, "rpool/vms/imported");
  EXPECT_EQ(row_of(host, "stranger").used, 2 * GiB);
  EXPECT_EQ(row_of(host, "files").zvol, "/var/lib/libvirt/images/files.qcow2");
  EXPECT_EQ(row_of(host, "bare").zvol, "-");
  EXPECT_FALSE(row_of(host, "group/spare").adopted);
  EXPECT_TRUE(row_of(host, "web-1").adopted);
  EXPECT_TRUE(row_of(host, "lost").adopted);
}

TEST(List, AVolumeThatADomainUsesIsNoOrphan) {
  Host host;
  host.add(test::volume("rpool/vms/x")).add(test::domain("stranger", virt::State::shut_off, {"/dev/zd16"}));
  EXPECT_EQ(names_of(rows_of(host)), (std::vector<std::string>{"stranger", "x"}));
  ListRequest request;
  request.volumes = {{"/dev/zd16", "rpool/vms/x"}};
  EXPECT_EQ(names_of(rows_of(host, request)), std::vector<std::string>{"stranger"});
  EXPECT_EQ(row_of(host, "stranger", request).zvol, "rpool/vms/x");
}

TEST(List, SumsOverTheDisks) {
  Host host;
  host.machine("web", {.labels = {"data"}});
  auto& data = host.dataset("rpool/vms/web-data");
  data.used = 6 * GiB;
  data.referenced = 5 * GiB;
  data.compressratio = 3.5;
  const auto row = row_of(host, "web");
  EXPECT_EQ(row.used, 8 * GiB);
  EXPECT_EQ(row.referenced, 7 * GiB);
  EXPECT_DOUBLE_EQ(row.ratio, (2 * 1.5 + 6 * 3.5) / 8);
}

TEST(List, OriginIsZfssWord) {
  Host host;
  host.machine("golden").clone("golden", "s", "web");
  EXPECT_EQ(row_of(host, "web").origin, "golden@s");
  EXPECT_EQ(row_of(host, "golden").origin, "");

  // Promoted: ZFS turned the origin round, our property stayed.
  host.dataset("rpool/vms/web").origin.clear();
  host.dataset("rpool/vms/golden").origin = "rpool/vms/web@s";
  EXPECT_EQ(row_of(host, "web").origin, "");
  EXPECT_EQ(row_of(host, "golden").origin, "web@s");
}

TEST(List, OriginFollowsARenamedSource) {
  Host host;
  host.machine("base").clone("base", "s", "web");
  host.dataset("rpool/vms/web").user[zfs::property::clone_origin] = "golden@s";  // base's former name
  EXPECT_EQ(row_of(host, "web").origin, "base@s");
}

TEST(List, OriginOutsideTheLayoutIsOurPropertyOrTheDataset) {
  Host host;
  host.machine("web");
  auto& volume = host.dataset("rpool/vms/web");
  volume.origin = "rpool/templates/debian@s";
  EXPECT_EQ(row_of(host, "web").origin, "rpool/templates/debian@s");
  volume.user[zfs::property::clone_origin] = "golden@s";
  EXPECT_EQ(row_of(host, "web").origin, "golden@s");
  volume.user[zfs::property::clone_origin] = "golden@other";
  EXPECT_EQ(row_of(host, "web").origin, "rpool/templates/debian@s");
  volume.origin = "rpool/vms/plain@s";
  host.add(test::volume("rpool/vms/plain"));
  EXPECT_EQ(row_of(host, "web").origin, "plain@s");
}

TEST(List, FiltersByName) {
  ListRequest request;
  request.names = {"web-2", "stranger"};
  EXPECT_EQ(names_of(rows_of(crowd(), request)), (std::vector<std::string>{"stranger", "web-2"}));
  request.names = {"web-2", "web-3"};
  const auto listing = list_machines(crowd().view, request);
  ASSERT_TRUE(std::holds_alternative<Refusal>(listing));
  EXPECT_EQ(std::get<Refusal>(listing).kind, "no-such-machine");
  EXPECT_EQ(std::get<Refusal>(listing).message, "there is no machine 'web-3' in rpool/vms");
}

TEST(List, ATreeOfNamesIsTheirSubtrees) {
  ListRequest request;
  request.tree = true;
  request.names = {"web-1", "web-1-test", "lost"};
  EXPECT_EQ(names_of(rows_of(crowd(), request)), (std::vector<std::string>{"lost", "web-1", "└─ web-1-test"}));
}

TEST(List, ATreeLosesNobody) {
  ListRequest request;
  request.tree = true;
  auto host = crowd();
  EXPECT_EQ(rows_of(host, request).size(), rows_of(host).size());
  // Two machines of two disks whose disks come from each other's.
  Host strange;
  strange.machine("a", {.labels = {"d"}}).machine("b", {.labels = {"d"}});
  strange.dataset("rpool/vms/a").origin = "rpool/vms/b-d@s";
  strange.dataset("rpool/vms/b").origin = "rpool/vms/a-d@s";
  EXPECT_EQ(rows_of(strange, request).size(), 2U);
}

TEST(List, SortsNumbersAsNumbers) {
  Host host;
  host.machine("a").machine("b").machine("c");
  host.dataset("rpool/vms/a").used = 10 * GiB;
  host.dataset("rpool/vms/b").used = 9 * GiB;
  host.dataset("rpool/vms/c").used = 512 * MiB;
  const auto sorted = [&](const std::string& by) {
    ListRequest request;
    request.sort = by;
    return names_of(rows_of(host, request));
  };
  EXPECT_EQ(sorted("used"), (std::vector<std::string>{"c", "b", "a"}));
  EXPECT_EQ(sorted("-USED"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(sorted("-name"), (std::vector<std::string>{"c", "b", "a"}));
  EXPECT_EQ(sorted("state"), (std::vector<std::string>{"a", "b", "c"}));
  host.domain_of("c").vcpus = 1;
  EXPECT_EQ(sorted("vcpus"), (std::vector<std::string>{"c", "a", "b"}));
}

TEST(List, AnUnknownColumnIsAUsageError) {
  ListRequest request;
  request.sort = "usde";
  try {
    list_machines(crowd().view, request);
    FAIL() << "sorted by a column that does not exist";
  } catch (const UsageError& error) {
    EXPECT_EQ(error.message(), "there is no column 'usde' to sort by");
    EXPECT_EQ(error.hint(), "did you mean 'USED'?");
  }
}

TEST(ListJson, HasEveryKeyInEveryObject) {
  const auto json = to_json(rows_of(crowd()));
  ASSERT_EQ(json.size(), rows_of(crowd()).size());
  std::set<std::string> keys;
  for (const auto& [key, value] : json[0].items()) keys.insert(key);
  EXPECT_EQ(keys, (std::set<std::string>{"adopted",     "autostart", "disks",  "domain_state", "golden",
                                         "interrupted", "kept",      "locked", "memory_bytes", "missing",
                                         "name",        "origin",    "paths",  "ratio",        "referenced_bytes",
                                         "replica_of",  "snapshots", "state",  "used_bytes",   "uuid",
                                         "vcpus"}));
  for (const auto& entry : json) EXPECT_EQ(entry.size(), keys.size()) << entry;
}

TEST(ListJson, IsStable) {
  Host host;
  host.machine("golden", {.golden = true}).clone("golden", kListedClone, "web", {.state = virt::State::running});
  host.machine("lost", {.tpm = false, .defined = false});
  ListRequest request;
  request.snapshots = {{"golden", {1, kListedClone, 1775313300, "offline"}}};
  expect_golden("plan/list.json", to_json(rows_of(host, request)).dump(2) + "\n");
}

}  // namespace
}  // namespace kld::plan
