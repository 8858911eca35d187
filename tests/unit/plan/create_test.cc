// SPDX-License-Identifier: Apache-2.0
#include "plan/create.h"

#include <gtest/gtest.h>

#include "unit/golden.h"
#include "unit/plan/builders.h"

namespace kld::plan {
namespace {

using test::fresh;
using test::Host;

/// A request and a host that it suits; each test changes what it is about.
struct Create {
  Host host;
  CreateRequest request;
  CreateFacts facts;

  explicit Create(bool with_state_root = true) : host(with_state_root) {
    request.name = "web";
    facts.pool = {"rpool", 1000 * GiB, 100 * GiB, 900 * GiB, "ONLINE", false};
    facts.host = {64 * GiB, 16, "host"};
    facts.networks = {"default", "lab"};
    facts.bridges = {"br0", "br1"};
  }
  Result result() const { return plan_create(host.view, request, facts, fresh()); }
  std::string kind() const {
    const auto answer = result();
    return refused(answer) ? std::get<Refusal>(answer).kind : "a plan";
  }
  std::string text() const { return test::to_text(result()); }
  Plan plan() const {
    const auto answer = result();
    if (refused(answer)) throw std::runtime_error(test::to_text(answer));
    return std::get<Plan>(answer);
  }
  bool warns_of(const std::string& word) const {
    for (const auto& warning : plan().warnings) {
      if (warning.find(word) != std::string::npos) return true;
    }
    return false;
  }
};

template <typename Wanted>
const Wanted& the(const Plan& plan) {
  for (const auto& step : plan.steps) {
    if (const auto* found = std::get_if<Wanted>(&step)) return *found;
  }
  throw std::runtime_error("no such step");
}

TEST(PlanCreate, TheFirstMachineOfAHost) {
  Create create(false);
  expect_golden("plan/create-first.txt", create.text());
}

TEST(PlanCreate, FromAnImageWithEverything) {
  Create create;
  create.request.disks = {{"", 20 * GiB}, {"data", 40 * GiB}};
  create.request.image = "/images/debian 12.qcow2";
  create.request.seed.hostname = "web.example";
  create.request.autostart = true;
  create.request.thick = true;
  create.request.bridge = "br0";
  create.request.workload = "postgres";
  create.facts.image = ImageInfo{};
  create.facts.image->format = "qcow2";
  create.facts.image->virtual_size = 2 * GiB;
  expect_golden("plan/create-image.txt", create.text());
}

TEST(PlanCreate, BiosWithoutTpmFromAnIso) {
  Create create;
  create.request.firmware = virt::Firmware::bios;
  create.request.tpm = false;
  create.request.iso = "/isos/debian.iso";
  expect_golden("plan/create-bios.txt", create.text());
}

TEST(PlanCreate, RefusesWrongWords) {
  using Change = std::function<void(CreateRequest&)>;
  const std::vector<Change> wrong = {
      [](auto& r) { r.memory = MiB; },
      [](auto& r) { r.memory = 64 * MiB + 1; },
      [](auto& r) { r.vcpus = 0; },
      [](auto& r) { r.vcpus = 513; },
      [](auto& r) { r.workload = "oracle"; },
      [](auto& r) { r.volblocksize = 3 * KiB; },
      [](auto& r) { r.volblocksize = 2 * KiB; },
      [](auto& r) { r.volblocksize = 256 * KiB; },
      [](auto& r) { r.volblocksize = 0; },
      [](auto& r) { r.os = "beos"; },
      [](auto& r) { r.sync = "sometimes"; },
      [](auto& r) { r.virt_type = "xen"; },
      [](auto& r) { r.bridge = "br0", r.network = "lab"; },
      [](auto& r) { r.iso = "/a", r.image = "/b"; },
      [](auto& r) { r.drivers = "/virtio-win.iso"; },
      [](auto& r) { r.seed.hostname = "-web"; },
      [](auto& r) {
        r.disks = {{"sys", GiB}};
      },
      [](auto& r) {
        r.disks = {{"", GiB}, {"", GiB}};
      },
      [](auto& r) {
        r.disks = {{"", GiB}, {"data", GiB}, {"data", GiB}};
      },
      [](auto& r) {
        r.disks = {{"", GiB}, {kFirstDisk, GiB}};
      },
      [](auto& r) {
        r.disks = {{"", GiB}, {"a/b", GiB}};
      },
  };
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    Create create;
    wrong[i](create.request);
    EXPECT_EQ(create.kind(), "usage") << i;
  }
}

TEST(PlanCreate, RefusesNames) {
  for (const char* name : {"", "../x", "a/b", "-x", ".state", "list", "a b", "ä", "a@b"}) {
    Create create;
    create.request.name = name;
    EXPECT_EQ(create.kind(), "bad-name") << name;
  }
  Create create;
  create.request.name = std::string(64, 'a');
  EXPECT_EQ(create.kind(), "bad-name");
  create.request.name = std::string(63, 'a');
  EXPECT_EQ(create.kind(), "a plan");
}

TEST(PlanCreate, RefusesNamesThatAreTaken) {
  const auto kind = [](const std::function<void(Create&)>& change) {
    Create create;
    change(create);
    return create.kind();
  };
  EXPECT_EQ(kind([](auto& c) { c.host.machine("web"); }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.host.add(test::domain("web")); }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.host.add(test::volume("rpool/vms/web")); }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.host.add(test::filesystem("rpool/vms/.state/web")); }), "name-taken");
  // A further disk's place, and another machine's further disk.
  EXPECT_EQ(kind([](auto& c) {
              c.host.add(test::volume("rpool/vms/web-data"));
              c.request.disks = {{"", GiB}, {"data", GiB}};
            }),
            "name-taken");
  EXPECT_EQ(kind([](auto& c) {
              c.host.machine("mail", {.labels = {"data"}});
              c.request.name = "mail-data";
            }),
            "name-taken");
  EXPECT_EQ(
      kind([](auto& c) { c.host.add(test::domain("other", virt::State::shut_off, {"/dev/zvol/rpool/vms/web"})); }),
      "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.facts.taken_paths = {"/dev/zvol/rpool/vms/web"}; }), "name-taken");
  EXPECT_EQ(kind([](auto& c) { c.facts.taken_paths = {state_directory("web")}; }), "name-taken");
}

TEST(PlanCreate, RefusesImagesItCannotWrite) {
  const auto kind = [](const std::function<void(ImageInfo&)>& change, std::uint64_t disk = 0) {
    Create create;
    create.request.image = "/images/i";
    create.facts.image = ImageInfo{};
    create.facts.image->format = "raw";
    create.facts.image->virtual_size = 2 * GiB;
    change(*create.facts.image);
    if (disk != 0) create.request.disks = {{"", disk}};
    return create.kind();
  };
  EXPECT_EQ(kind([](auto&) {}), "a plan");
  EXPECT_EQ(kind([](auto& i) { i.format = "vmdk"; }), "image-format");
  EXPECT_EQ(kind([](auto& i) { i.format = "raw", i.packed = "xz"; }), "image-packed");
  EXPECT_EQ(kind([](auto& i) { i.backing_file = "base.qcow2"; }), "backing-file");
  EXPECT_EQ(kind([](auto& i) { i.encrypted = true; }), "image-encrypted");
  EXPECT_EQ(kind([](auto& i) { i.virtual_size = 0; }), "image-empty");
  EXPECT_EQ(kind([](auto&) {}, GiB), "disk-too-small");
  EXPECT_EQ(kind([](auto&) {}, 2 * GiB), "a plan");
  Create create;
  create.request.iso = "/none.iso";
  create.facts.unreadable = {{"no-such-file", "ISO image '/none.iso' does not exist", {}, ""}};
  EXPECT_EQ(create.kind(), "no-such-file");
}

TEST(PlanCreate, RefusesWhatTheHostLacks) {
  const auto kind = [](const std::function<void(Create&)>& change) {
    Create create;
    change(create);
    return create.kind();
  };
  EXPECT_EQ(kind([](auto& c) { c.request.bridge = "br7"; }), "no-such-bridge");
  EXPECT_EQ(kind([](auto& c) { c.request.network = "office"; }), "no-such-network");
  EXPECT_EQ(kind([](auto& c) { c.facts.network_active = false; }), "network-inactive");
  EXPECT_EQ(kind([](auto& c) { c.facts.network_active = false, c.request.start = false; }), "a plan");
  EXPECT_EQ(kind([](auto& c) { c.facts.networks = {}, c.request.network = "none"; }), "a plan");
  EXPECT_EQ(kind([](auto& c) { c.request.memory = 65 * GiB; }), "memory");
  EXPECT_EQ(kind([](auto& c) { c.facts.kvm_available = false; }), "no-kvm");
  EXPECT_EQ(kind([](auto& c) { c.facts.kvm_available = false, c.request.virt_type = "qemu"; }), "a plan");
  EXPECT_EQ(kind([](auto& c) { c.facts.pool.allocated = 801 * GiB; }), "pool-limit");
  EXPECT_EQ(kind([](auto& c) { c.facts.pool.allocated = 801 * GiB, c.request.over_limit = true; }), "a plan");
  EXPECT_EQ(kind([](auto& c) { c.request.thick = true, c.request.disks = {{"", 750 * GiB}}; }), "pool-limit");
  EXPECT_EQ(kind([](auto& c) { c.facts.pool.readonly = true, c.request.over_limit = true; }), "pool-readonly");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms").available = MiB, c.request.over_limit = true; }),
            "pool-full");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms").key_missing = true; }), "key-missing");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms/.state").mountpoint = "/elsewhere"; }), "layout");
  EXPECT_EQ(kind([](auto& c) { c.host.dataset("rpool/vms/.state").can_mount = true; }), "layout");
}

TEST(PlanCreate, WarnsAndGoesOn) {
  const auto warns = [](const std::string& word, const std::function<void(Create&)>& change) {
    Create create;
    change(create);
    return create.warns_of(word);
  };
  EXPECT_FALSE(warns("128K", [](auto&) {}));
  EXPECT_TRUE(warns("128K", [](auto& c) { c.request.volblocksize = 128 * KiB; }));
  EXPECT_TRUE(warns("contradicts", [](auto& c) { c.request.workload = "mysql", c.request.volblocksize = 4 * KiB; }));
  EXPECT_TRUE(warns("sync=disabled", [](auto& c) { c.request.sync = "disabled"; }));
  EXPECT_TRUE(warns("VNC", [](auto& c) { c.request.vnc_listen = "0.0.0.0"; }));
  EXPECT_TRUE(warns("virtio-win", [](auto& c) { c.request.os = "win11", c.request.iso = "/w.iso"; }));
  EXPECT_TRUE(warns("emulates", [](auto& c) { c.request.virt_type = "qemu"; }));
  EXPECT_TRUE(warns("add up to", [](auto& c) { c.request.disks = {{"", 2000 * GiB}}; }));
  EXPECT_TRUE(warns("'rpool/vms' has room for 500G", [](auto& c) {
    c.request.disks = {{"", 501 * GiB}};
    c.host.dataset("rpool/vms").used = 100 * GiB;
    c.host.dataset("rpool/vms").available = 400 * GiB;  // a quota, or parity
  }));
  EXPECT_TRUE(warns("of memory", [](auto& c) {
    c.host.machine("big", {.state = virt::State::running});
    c.host.domain_of("big").memory = 63 * GiB;
  }));
  EXPECT_TRUE(warns("vCPUs", [](auto& c) { c.request.vcpus = 17; }));
  EXPECT_TRUE(warns("not started", [](auto&) {}));
  EXPECT_TRUE(warns("rounded", [](auto& c) { c.request.disks = {{"", GiB + 512}}; }));
}

TEST(PlanCreate, RoundsDisksUpToTheirBlocks) {
  Create create;
  create.request.disks = {{"", GiB + 1}};
  EXPECT_EQ(the<CreateVolume>(create.plan()).size, GiB + 64 * KiB);
}

TEST(PlanCreate, WithoutADiskTakesTheImagesSize) {
  Create create;
  EXPECT_EQ(the<CreateVolume>(create.plan()).size, 20 * GiB);
  create.request.image = "/i";
  create.facts.image = ImageInfo{};
  create.facts.image->format = "raw";
  create.facts.image->virtual_size = 3 * GiB;
  EXPECT_EQ(the<CreateVolume>(create.plan()).size, 3 * GiB);
}

TEST(PlanCreate, CountsOfAnImageWhatItWillTakeOfThePool) {
  const auto kind = [](std::uint64_t data, std::uint64_t available = 800 * GiB) {
    Create create;
    create.facts.pool = {"rpool", 100 * GiB, 79 * GiB, 21 * GiB, "ONLINE", false};
    create.request.image = "/i";
    create.facts.image = ImageInfo{};
    create.facts.image->format = "qcow2";
    create.facts.image->virtual_size = 2 * GiB;
    create.facts.image->data = data;
    create.host.dataset("rpool/vms").available = available;
    return create.kind();
  };
  EXPECT_EQ(kind(0), "pool-limit") << "not known: its whole size";
  EXPECT_EQ(kind(900 * MiB), "a plan");
  EXPECT_EQ(kind(1100 * MiB), "pool-limit");
  EXPECT_EQ(kind(900 * MiB, 800 * MiB), "no-room") << "a quota, parity, what others have reserved";
}

TEST(PlanCreate, InheritsVolmodeWhereTheRootHandsItDown) {
  Create create;
  EXPECT_EQ(the<CreateVolume>(create.plan()).properties.at("volmode"), "dev");
  create.host.dataset("rpool/vms").volmode = "dev";
  EXPECT_FALSE(the<CreateVolume>(create.plan()).properties.contains("volmode"));
}

TEST(PlanCreate, MarksAllThatItMakes) {
  Create create;
  create.request.disks = {{"", GiB}, {"data", GiB}};
  for (const auto& step : create.plan().steps) {
    const zfs::Properties* properties = nullptr;
    if (const auto* volume = std::get_if<CreateVolume>(&step)) properties = &volume->properties;
    if (const auto* filesystem = std::get_if<CreateFilesystem>(&step)) properties = &filesystem->properties;
    if (properties == nullptr) continue;
    EXPECT_EQ(properties->at(zfs::property::machine), "web");
    EXPECT_EQ(properties->at(zfs::property::op), test::kOp);
  }
}

TEST(OsId, KnowsFamiliesAndVersions) {
  EXPECT_TRUE(os_id("debian12").has_value());
  EXPECT_TRUE(os_id("win11").has_value());
  EXPECT_TRUE(os_id("linux").has_value());
  EXPECT_FALSE(os_id("").has_value());
  EXPECT_FALSE(os_id("amiga").has_value());
  EXPECT_TRUE(is_windows("win2k22"));
  EXPECT_FALSE(is_windows("debian12"));
}

TEST(Workload, ChoosesTheBlockSize) {
  EXPECT_EQ(workload_blocksize("general"), 64 * KiB);
  EXPECT_EQ(workload_blocksize("postgres"), 8 * KiB);
  EXPECT_EQ(workload_blocksize("mysql"), 16 * KiB);
  EXPECT_EQ(workload_blocksize("x"), std::nullopt);
}

}  // namespace
}  // namespace kld::plan
