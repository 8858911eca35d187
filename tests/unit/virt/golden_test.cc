// SPDX-License-Identifier: Apache-2.0
// Whole definitions as text to review. TEST_ACCEPT=1 rewrites the expected ones.
#include <gtest/gtest.h>

#include <filesystem>

#include "spec.h"

namespace kld::virt {
namespace {

void expect_golden(const std::string& name, const std::string& xml) {
  const std::string path = golden_dir + name + ".xml";
  if (std::getenv("TEST_ACCEPT") != nullptr) {
    std::ofstream(path, std::ios::binary) << xml;
    return;
  }
  ASSERT_TRUE(std::filesystem::exists(path)) << "no expected result; make it with TEST_ACCEPT=1";
  EXPECT_EQ(read_text(path), xml);
}

void expect_new(const std::string& name, const Spec& spec) { expect_golden("new-" + name, new_definition(spec)); }

/// What kvm-clone does to a definition.
Definition cloned(Definition definition) {
  definition.set_name("web-2");
  definition.set_uuid("5b0e3f43-7e0b-4a0f-8f2e-0c2f5d9b7e22");
  definition.set_genid("c4f1b7a2-90f8-4d6b-a0a5-6d0e4f1c3b33");
  std::vector<std::string> macs;
  for (std::size_t i = 0; i < definition.interfaces().size(); ++i) {
    const unsigned char random[3] = {0, 0, static_cast<unsigned char>(i)};
    macs.push_back(mac_from(random));
  }
  definition.set_macs(macs);
  definition.set_nvram("/var/lib/kldload/state/web-2/web-2_VARS.fd");
  definition.make_portable();
  return definition;
}

TEST(Golden, NewUefi) { expect_new("uefi", usual_spec()); }

TEST(Golden, NewBios) {
  Spec spec = usual_spec();
  spec.firmware = Firmware::bios;
  spec.tpm = false;
  spec.cpu = "host";
  spec.os_id.clear();
  expect_new("bios", spec);
}

TEST(Golden, NewUefiSecure) {
  Spec spec = usual_spec();
  spec.firmware = Firmware::uefi_secure;
  spec.vnc_listen = "0.0.0.0";
  expect_new("uefi-secure", spec);
}

TEST(Golden, NewWindows) {
  Spec spec = usual_spec();
  spec.name = "win";
  spec.windows = true;
  spec.firmware = Firmware::uefi_secure;
  spec.nvram = "/var/lib/kldload/state/win/win_VARS.fd";
  spec.disks = {"/dev/zvol/rpool/vms/win"};
  spec.cdroms = {"/rpool/vms/isos/win.iso", "/rpool/vms/isos/virtio-win.iso"};
  spec.os_id = "http://microsoft.com/win/11";
  spec.network = Interface{"network", "default", "52:54:00:12:34:57"};
  expect_new("windows", spec);
}

TEST(Golden, NewSeveralDisksSeedAndCdWithoutNetwork) {
  Spec spec = usual_spec();
  spec.disks = {"/dev/zvol/rpool/vms/web", "/dev/zvol/rpool/vms/web-data", "/dev/zvol/rpool/vms/web-log"};
  spec.seed = "/var/lib/kldload/state/web/seed.iso";
  spec.cdroms = {"/rpool/vms/isos/debian & friends.iso"};
  spec.network.reset();
  spec.cpu = "EPYC";
  expect_new("disks-seed-cd", spec);
}

TEST(Golden, NewUnderEmulation) {
  Spec spec = usual_spec();
  spec.virt_type = "qemu";
  spec.windows = true;
  expect_new("qemu", spec);
}

TEST(Golden, CloneOfAVirtInstallMachine) {
  Definition definition = cloned(input("web"));
  definition.set_disk_source("vda", "/dev/zvol/rpool/vms/web-2");
  definition.set_disk_source("vdb", "/dev/zvol/rpool/vms/web-2-data");
  definition.set_memory(1 * GiB);
  definition.set_vcpus(2);
  definition.add_seed("/var/lib/kldload/state/web-2/seed.iso");
  expect_golden("clone-web", definition.xml());
}

TEST(Golden, CloneOfAMachineTiedToItsHost) {
  Definition definition = cloned(input("gpu"));
  definition.set_disk_source("vda", "/dev/zvol/rpool/vms/web-2");
  definition.remove_disk("vdc");
  definition.set_memory(4 * GiB);
  definition.set_vcpus(2);
  expect_golden("clone-gpu", definition.xml());
}

TEST(Golden, CloneOfAFirmwareAndTpmMachine) {
  Definition definition = cloned(input("vault"));
  definition.set_disk_source("vda", "/dev/zvol/rpool/vms/web-2");
  definition.remove_tpm();
  expect_golden("clone-vault", definition.xml());
}

}  // namespace
}  // namespace kld::virt
