// SPDX-License-Identifier: Apache-2.0
// Against libvirt's own test driver, which lives in this process: each open() is a host of its own.
#include "virt/connection.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "spec.h"
#include "virt/listing.h"

namespace kld::virt {
namespace {

constexpr const char* absent = "00000000-1111-2222-3333-444444444444";

/// A connection of its own to a host with the networks "lan" (running) and "lab" (not), and no domain.
class TestHost : public testing::Test {
 protected:
  TestHost() : path_(testing::TempDir() + "kld-test-host-" + std::to_string(::getpid()) + ".xml"), host_(open()) {}
  ~TestHost() override { std::filesystem::remove(path_); }

  Connection open() {
    std::ofstream(path_) << "<node><network><name>lan</name><ip address='192.0.2.1' netmask='255.255.255.0'/></network>"
                            "<pool type='dir'><name>zvols</name><target><path>/dev/zvol/p</path></target>"
                            "<volume><name>web</name><capacity>65536</capacity></volume></pool>"
                            "<domain type='test'><name>guest</name><uuid>11111111-1111-2222-3333-444444444444</uuid>"
                            "<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type>hvm</type></os><devices>"
                            "<disk type='block'><source dev='/dev/zvol/p/guest'/><target dev='vda'/></disk>"
                            "<disk type='file' device='cdrom'><target dev='hda'/></disk></devices></domain></node>";
    return Connection::open("test://" + path_);
  }

  static std::string uuid() { return "11111111-1111-2222-3333-444444444444"; }
  State state() { return host_.find("guest").value().state; }
  bool stop(std::chrono::seconds graceful) {
    return host_.stop(uuid(), graceful, [] { return false; });
  }

  std::string path_;
  Connection host_;
};

std::string small_domain(const std::string& name, const std::string& uuid) {
  return "<domain type='test'><name>" + name + "</name><uuid>" + uuid +
         "</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>";
}

TEST(Open, FailureSaysWhatToDo) {
  try {
    Connection::open("test:///no/such/file.xml");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_NE(error.message(), "");
    EXPECT_EQ(error.context(), std::vector<std::string>{"connecting to libvirt at 'test:///no/such/file.xml'"});
    EXPECT_NE(error.hint().find("systemctl start libvirtd"), std::string::npos);
  }
}

TEST(Open, PrintsNothingByItself) {
  const Connection connection = Connection::open("test:///default");
  testing::internal::CaptureStderr();
  EXPECT_THROW(connection.inactive_xml(absent), Error);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Host, TellsItsSize) {
  const Connection connection = Connection::open("test:///default");
  EXPECT_EQ(connection.uri(), "test:///default");
  const HostInfo host = connection.host();
  EXPECT_GT(host.memory, GiB);
  EXPECT_GT(host.cpus, 0U);
  EXPECT_NE(host.hostname, "");
}

TEST_F(TestHost, ListsWhatTheDefinitionSays) {
  DomainInfo guest;
  guest.name = "guest";
  guest.uuid = uuid();
  guest.state = State::running;
  guest.memory = 64 * MiB;
  guest.vcpus = 2;
  guest.block_paths = {"/dev/zvol/p/guest"};
  EXPECT_EQ(host_.list(), std::vector<DomainInfo>{guest});
  EXPECT_EQ(host_.find("guest"), guest);
}

TEST_F(TestHost, ListIsSortedAndAgreesWithFind) {
  host_.define(small_domain("zebra", "33333333-1111-2222-3333-444444444444"));
  host_.define(small_domain("ant", "22222222-1111-2222-3333-444444444444"));
  host_.set_autostart("22222222-1111-2222-3333-444444444444", true);
  const std::vector<DomainInfo> domains = host_.list();
  ASSERT_EQ(domains.size(), 3U);
  EXPECT_EQ(domains[0].name, "ant");
  EXPECT_TRUE(domains[0].autostart);
  EXPECT_EQ(domains[0].state, State::shut_off);
  EXPECT_TRUE(domains[0].persistent);
  EXPECT_EQ(domains[1].name, "guest");
  EXPECT_FALSE(domains[1].autostart);
  EXPECT_EQ(domains[2].name, "zebra");
  for (const DomainInfo& domain : domains) EXPECT_EQ(host_.find(domain.name), domain);
}

TEST_F(TestHost, UndefiningARunningDomainMakesItTransient) {
  EXPECT_TRUE(host_.undefine(uuid()));
  EXPECT_FALSE(host_.find("guest").value().persistent);
  EXPECT_FALSE(host_.list().at(0).persistent);
  EXPECT_TRUE(stop(std::chrono::seconds(1))) << "a transient domain vanishes when it stops";
  EXPECT_EQ(host_.find("guest"), std::nullopt);
}

TEST_F(TestHost, NotFoundIsAnAnswerWhereItCanBe) {
  EXPECT_EQ(host_.find("nobody"), std::nullopt);
  EXPECT_FALSE(host_.undefine(absent));
  EXPECT_THROW(host_.inactive_xml(absent), Error);
  EXPECT_THROW(host_.start(absent), Error);
  EXPECT_THROW(host_.stop(absent, std::chrono::seconds(0), {}), Error);
}

TEST_F(TestHost, DefinesTwiceAndReadsBack) {
  const std::string other = "22222222-1111-2222-3333-444444444444";
  host_.define(small_domain("ant", other));
  host_.define(small_domain("ant", other));
  const Definition definition = Definition::parse(host_.inactive_xml(other));
  EXPECT_EQ(definition.name(), "ant");
  EXPECT_EQ(definition.memory(), 128 * MiB);
  EXPECT_TRUE(host_.undefine(other));
  EXPECT_FALSE(host_.undefine(other));
}

TEST_F(TestHost, DefineRefusesWhatTheSchemaDoesNotKnow) {
  std::string xml = small_domain("ant", absent);
  xml.insert(xml.find("<os>"), "<kernel-of-truth/>");
  EXPECT_THROW(host_.define(xml), Error);
  EXPECT_EQ(host_.find("ant"), std::nullopt);
}

/// The test driver lacks much that QEMU has, but asks libvirt's schema before it says so.
TEST_F(TestHost, EveryGoldenDefinitionPassesTheSchema) {
  int seen = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(golden_dir)) {
    if (file.path().extension() != ".xml") continue;
    ++seen;
    try {
      host_.define(read_text(file.path()));
    } catch (const Error& error) {
      EXPECT_EQ(error.message().find("schema"), std::string::npos) << file.path() << ": " << error.message();
    }
  }
  EXPECT_GT(seen, 8);
}

TEST_F(TestHost, StartsAndStopsOnce) {
  EXPECT_FALSE(host_.start(uuid()));
  EXPECT_TRUE(stop(std::chrono::seconds(5)));
  EXPECT_EQ(state(), State::shut_off);
  EXPECT_FALSE(stop(std::chrono::seconds(5)));
  EXPECT_TRUE(host_.start(uuid()));
  EXPECT_EQ(state(), State::running);
}

TEST_F(TestHost, StopsAtOnceWithoutGrace) {
  EXPECT_TRUE(stop(std::chrono::seconds(0)));
  EXPECT_EQ(state(), State::shut_off);
}

TEST_F(TestHost, NothingRunsOnADomainThatIsOff) {
  EXPECT_EQ(host_.block_jobs(uuid(), {"vda"}), std::vector<std::string>{});
  stop(std::chrono::seconds(0));
  EXPECT_EQ(host_.block_jobs(uuid(), {"vda"}), std::vector<std::string>{});
  EXPECT_EQ(host_.vnc_address(uuid()), std::nullopt);
}

TEST_F(TestHost, RemovingASavedStateThatIsNotThereIsNothing) {
  EXPECT_NO_THROW(host_.remove_managed_save(uuid()));
  EXPECT_FALSE(host_.find("guest").value().has_managed_save);
}

TEST_F(TestHost, KnowsItsNetworks) {
  EXPECT_EQ(host_.networks(), std::vector<std::string>{"lan"});
  EXPECT_TRUE(host_.has_network("lan"));
  EXPECT_TRUE(host_.network_active("lan"));
  EXPECT_FALSE(host_.has_network("wan"));
  EXPECT_FALSE(host_.network_active("wan"));
}

TEST_F(TestHost, KnowsWhereAStoragePoolKeepsAVolume) {
  EXPECT_EQ(host_.volume_path("zvols/web"), "/dev/zvol/p/web");
  EXPECT_EQ(host_.volume_path("zvols/mail"), std::nullopt);
  EXPECT_EQ(host_.volume_path("absent/web"), std::nullopt);
  EXPECT_EQ(host_.volume_path("web"), std::nullopt);
}

TEST(State, HasVirshsWordsAndOurs) {
  EXPECT_EQ(to_string(State::running), "running");
  EXPECT_EQ(to_string(State::shut_off), "shut off");
  EXPECT_EQ(to_string(State::paused_no_space), "paused (no space)");
  EXPECT_EQ(to_string(State::paused_io_error), "paused (I/O error)");
}

TEST(State, OnlyAPauseByAnIoErrorIsOne) {
  EXPECT_EQ(state_from(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR), State::paused_io_error);
  EXPECT_EQ(state_from(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER), State::paused);
  EXPECT_EQ(state_from(VIR_DOMAIN_RUNNING, VIR_DOMAIN_PAUSED_IOERROR), State::running);
  EXPECT_EQ(state_from(VIR_DOMAIN_SHUTOFF, 0), State::shut_off);
}

TEST(State, OnlyShutOffHasNoProcess) {
  for (const State state : {State::running, State::paused, State::paused_no_space, State::paused_io_error,
                            State::shutting_down, State::crashed, State::suspended, State::other})
    EXPECT_TRUE(is_active(state)) << to_string(state);
  EXPECT_FALSE(is_active(State::shut_off));
}

}  // namespace
}  // namespace kld::virt
