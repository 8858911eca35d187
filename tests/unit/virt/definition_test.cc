// SPDX-License-Identifier: Apache-2.0
#include "virt/definition.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "spec.h"

namespace kld::virt {
namespace {

using Lines = std::vector<std::string>;

Definition domain(const std::string& inside) { return Definition::parse("<domain type='kvm'>" + inside + "</domain>"); }
Definition devices(const std::string& inside) { return domain("<devices>" + inside + "</devices>"); }

bool same(const Definition& definition, const std::string& xml) { return definition.same_as(Definition::parse(xml)); }

Disk disk_of(const Definition& definition, const std::string& target) {
  for (const Disk& disk : definition.disks())
    if (disk.target == target) return disk;
  ADD_FAILURE() << "no disk " << target;
  return {};
}

std::string refusal_of(const std::string& xml) {
  try {
    Definition::parse(xml);
  } catch (const Error& error) {
    return error.message();
  }
  return {};
}

std::string nested(int depth) {
  std::string xml = "<domain>";
  for (int i = 0; i < depth; ++i) xml += "<a>";
  for (int i = 0; i < depth; ++i) xml += "</a>";
  return xml + "</domain>";
}

TEST(Parse, RefusesWhatIsNoDomain) {
  EXPECT_NE(refusal_of(""), "");
  EXPECT_NE(refusal_of("domain"), "");
  EXPECT_NE(refusal_of("<domain><name>x</domain>"), "");
  EXPECT_NE(refusal_of("<domain/><domain/>"), "");
  EXPECT_EQ(refusal_of("<network/>"), "not a domain definition: its root is <network>");
  EXPECT_NE(refusal_of(std::string("<domain/>\0", 10)), "");
}

TEST(Parse, RefusesADoctypeAndExpandsNoEntity) {
  EXPECT_EQ(refusal_of("<!DOCTYPE d [<!ENTITY a 'aaa'>]><domain><name>&a;</name></domain>"),
            "not a domain definition: it has a DOCTYPE");
  EXPECT_EQ(domain("<name>&a;</name>").name(), "&a;");
}

TEST(Parse, RefusesBombs) {
  EXPECT_EQ(refusal_of(nested(63)), "");
  EXPECT_EQ(refusal_of(nested(64)), "not a domain definition: it nests more than 64 deep");
  EXPECT_EQ(refusal_of(nested(100000)), "not a domain definition: it nests more than 64 deep");
  const std::string large = "<domain><name>" + std::string(4 * MiB, 'x') + "</name></domain>";
  EXPECT_NE(refusal_of(large).find("more than 4M"), std::string::npos) << refusal_of(large);
}

TEST(Accessors, OfAVirtInstallMachine) {
  const Definition web = input("web");
  EXPECT_EQ(web.name(), "web");
  EXPECT_EQ(web.uuid(), "2c7a8f0e-4d5b-4a53-9f0c-3b6c0f5f2a11");
  EXPECT_EQ(web.virt_type(), "kvm");
  EXPECT_EQ(web.memory(), 4 * GiB);
  EXPECT_EQ(web.vcpus(), 4U);
  EXPECT_EQ(web.genid(), std::nullopt);
  EXPECT_EQ(web.nvram(), "/var/lib/libvirt/qemu/nvram/web_VARS.fd");
  EXPECT_TRUE(web.uefi());
  EXPECT_EQ(web.tpm(), Tpm::none);
  EXPECT_EQ(web.host_devices(), Lines{});
  const std::vector<Disk> disks = {
      {"vda", "virtio", "disk", "block", "/dev/zvol/rpool/vms/web", "raw", false, false},
      {"vdb", "virtio", "disk", "block", "/dev/zvol/rpool/vms/web-data", "raw", false, false},
      {"sda", "sata", "cdrom", "file", "", "raw", true, false}};
  EXPECT_EQ(web.disks(), disks);
  EXPECT_EQ(web.interfaces(), (std::vector<Interface>{{"bridge", "br0", "52:54:00:aa:bb:01"}}));
}

TEST(Accessors, OfAMachineTiedToItsHost) {
  const Definition gpu = input("gpu");
  EXPECT_FALSE(gpu.uefi());
  EXPECT_EQ(gpu.nvram(), std::nullopt);
  EXPECT_EQ(gpu.vcpus(), 4U) << "the current count, not the maximum";
  EXPECT_EQ(gpu.host_devices(),
            (Lines{"filesystem /srv/scenes -> scenes", "PCI device 0000:01:00.1", "USB device 046d:c31c"}));
  EXPECT_EQ(disk_of(gpu, "vdc").source, "rbd:pool/scratch");
  EXPECT_TRUE(disk_of(gpu, "vdc").shareable);
  EXPECT_EQ(disk_of(gpu, "vda").format, "qcow2");
  EXPECT_EQ(gpu.interfaces()[0].source, "default");
}

TEST(Accessors, OfAFirmwareAndTpmMachine) {
  const Definition vault = input("vault");
  EXPECT_TRUE(vault.uefi());
  EXPECT_EQ(vault.nvram(), std::nullopt);
  EXPECT_EQ(vault.tpm(), Tpm::emulator);
  EXPECT_EQ(vault.genid(), "6f0b6f7e-1d0a-4fd0-9c39-3d6a9fd9a003");
}

TEST(Accessors, MemoryKnowsLibvirtsUnits) {
  const auto memory = [](const std::string& unit, const std::string& count) {
    return domain("<memory unit='" + unit + "'>" + count + "</memory>").memory();
  };
  EXPECT_EQ(domain("<memory>1024</memory>").memory(), MiB);
  EXPECT_EQ(memory("KiB", "1024"), MiB);
  EXPECT_EQ(memory("k", "1024"), MiB);
  EXPECT_EQ(memory("KB", "1000"), 1000000U);
  EXPECT_EQ(memory("GiB", "2"), 2 * GiB);
  EXPECT_EQ(memory("G", " 2\n"), 2 * GiB);
  EXPECT_EQ(memory("bytes", "7"), 7U);
  EXPECT_EQ(memory("parsec", "7"), 0U);
  EXPECT_EQ(memory("TiB", "99999999999"), 0U) << "past 64 bits";
  EXPECT_EQ(domain("").memory(), 0U);
}

TEST(Accessors, NvramInItsLongForm) {
  EXPECT_EQ(domain("<os firmware='efi'><nvram type='file'><source file='/v'/></nvram></os>").nvram(), "/v");
  EXPECT_EQ(domain("<os firmware='efi'><nvram type='network'><source protocol='iscsi'/></nvram></os>").nvram(),
            std::nullopt);
}

TEST(Accessors, VariablesAreWhereLibvirtPutsThemUnlessNamed) {
  EXPECT_EQ(domain("<name>web</name><os firmware='efi'/>").variables(), "/var/lib/libvirt/qemu/nvram/web_VARS.fd");
  EXPECT_EQ(domain("<name>web</name><os firmware='efi'><nvram template='/t'/></os>").variables(),
            "/var/lib/libvirt/qemu/nvram/web_VARS.fd");
  EXPECT_EQ(domain("<os><loader type='pflash' readonly='yes'>/code</loader><nvram>/v</nvram></os>").variables(), "/v");
  EXPECT_EQ(domain("<os firmware='bios'/>").variables(), std::nullopt);
  EXPECT_EQ(domain("<os/>").variables(), std::nullopt);
  EXPECT_EQ(domain("<os firmware='efi'><loader stateless='yes'/></os>").variables(), std::nullopt);
  EXPECT_EQ(domain("<os><loader type='pflash'>/code-and-variables</loader></os>").variables(), std::nullopt);
  EXPECT_EQ(domain("<os firmware='efi'><nvram type='network'><source protocol='iscsi'/></nvram></os>").variables(),
            std::nullopt);
}

TEST(Accessors, TpmAndHostDevicesOfEachKind) {
  EXPECT_EQ(devices("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>").tpm(),
            Tpm::passthrough);
  const auto lines = [](const std::string& inside) { return devices(inside).host_devices(); };
  EXPECT_EQ(lines("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"),
            Lines{"TPM /dev/tpm0"});
  EXPECT_EQ(lines("<hostdev type='mdev'><source><address uuid='c2177883'/></source></hostdev>"),
            Lines{"mediated device c2177883"});
  EXPECT_EQ(lines("<hostdev type='usb'><source><address bus='1' device='4'/></source></hostdev>"),
            Lines{"USB device at bus 1 device 4"});
  EXPECT_EQ(lines("<interface type='hostdev'><source><address type='pci' domain='0' bus='0x0a' slot='0x10' "
                  "function='0x3'/></source></interface>"),
            Lines{"network PCI device 0000:0a:10.3"});
  EXPECT_EQ(lines("<disk type='block' device='lun'><source dev='/dev/sdb'/><target dev='sda'/></disk>"),
            Lines{"SCSI LUN /dev/sdb"});
  EXPECT_EQ(lines("<serial type='dev'><source path='/dev/ttyS0'/></serial>"), Lines{"serial port /dev/ttyS0"});
}

TEST(Accessors, VncAddress) {
  const auto vnc = [](const std::string& graphics) { return devices(graphics).vnc_address(); };
  EXPECT_EQ(vnc("<graphics type='vnc' port='5900'><listen type='address' address='127.0.0.1'/></graphics>"),
            "127.0.0.1:5900");
  EXPECT_EQ(vnc("<graphics type='vnc' port='5901'><listen type='address' address='::1'/></graphics>"), "[::1]:5901");
  EXPECT_EQ(vnc("<graphics type='vnc' port='-1' autoport='yes'/>"), std::nullopt);
  EXPECT_EQ(vnc("<graphics type='spice' port='5900'/>"), std::nullopt);
  EXPECT_EQ(vnc("<graphics type='vnc'><listen type='socket' socket='/x'/></graphics>"), std::nullopt);
}

TEST(NewDefinition, SaysWhatWasAsked) {
  const Spec spec = usual_spec();
  const Definition made = Definition::parse(new_definition(spec));
  EXPECT_EQ(made.name(), spec.name);
  EXPECT_EQ(made.uuid(), spec.uuid);
  EXPECT_EQ(made.genid(), spec.genid);
  EXPECT_EQ(made.memory(), spec.memory);
  EXPECT_EQ(made.vcpus(), spec.vcpus);
  EXPECT_EQ(made.nvram(), spec.nvram);
  EXPECT_TRUE(made.uefi());
  EXPECT_EQ(made.tpm(), Tpm::emulator);
  EXPECT_EQ(made.interfaces(), std::vector<Interface>{*spec.network});
  EXPECT_EQ(made.host_devices(), Lines{});
}

TEST(NewDefinition, PutsSeedAfterTheDisksAndCdsOnSata) {
  Spec spec = usual_spec();
  spec.disks = {"/dev/zvol/p/a", "/dev/zvol/p/b"};
  spec.seed = "/seed";
  spec.cdroms = {"/one.iso", "/two.iso"};
  const Definition made = Definition::parse(new_definition(spec));
  const std::vector<Disk> disks = {{"vda", "virtio", "disk", "block", "/dev/zvol/p/a", "raw", false, false},
                                   {"vdb", "virtio", "disk", "block", "/dev/zvol/p/b", "raw", false, false},
                                   {"vdc", "virtio", "disk", "file", "/seed", "raw", true, false},
                                   {"sda", "sata", "cdrom", "file", "/one.iso", "raw", true, false},
                                   {"sdb", "sata", "cdrom", "file", "/two.iso", "raw", true, false}};
  EXPECT_EQ(made.disks(), disks);
}

TEST(NewDefinition, BiosHasNoVariables) {
  Spec spec = usual_spec();
  spec.firmware = Firmware::bios;
  const Definition made = Definition::parse(new_definition(spec));
  EXPECT_FALSE(made.uefi());
  EXPECT_EQ(made.nvram(), std::nullopt);
}

TEST(NewDefinition, EscapesWhatXmlWouldRead) {
  Spec spec = usual_spec();
  spec.disks = {"/dev/zvol/p/'<&\">"};
  EXPECT_EQ(Definition::parse(new_definition(spec)).disks()[0].source, "/dev/zvol/p/'<&\">");
}

TEST(Edit, NameDropsATitleThatRepeatedIt) {
  Definition titled = domain("<name>a</name><title>a</title>");
  titled.set_name("b");
  EXPECT_TRUE(same(titled, "<domain type='kvm'><name>b</name></domain>"));
  Definition other = domain("<name>a</name><title>Mail</title>");
  other.set_name("b");
  EXPECT_TRUE(same(other, "<domain type='kvm'><name>b</name><title>Mail</title></domain>"));
}

TEST(Edit, UuidChangesItsSmbiosCopiesOnly) {
  const auto xml = [](const std::string& uuid) {
    return "<uuid>" + uuid +
           "</uuid><sysinfo type='smbios'><system><entry name='serial'>S1</entry><entry name='uuid'>" + uuid +
           "</entry></system></sysinfo>";
  };
  Definition definition = domain(xml("aaaa"));
  definition.set_uuid("bbbb");
  EXPECT_TRUE(definition.same_as(domain(xml("bbbb"))));
}

TEST(SameHardware, IsWithoutTheOrderOfControllers) {
  const auto with = [](const std::string& inner) { return devices(inner); };
  const std::string usb = "<controller type='usb' index='0'><address type='pci' slot='0x01'/></controller>";
  const std::string serial = "<controller type='virtio-serial' index='0'/>";
  const std::string disk = "<disk type='block'><source dev='/a'/></disk>";
  const std::string other = "<disk type='block'><source dev='/b'/></disk>";
  EXPECT_TRUE(with(usb + disk + serial).same_hardware(with(serial + disk + usb)));
  EXPECT_FALSE(with(usb + disk + serial).same_as(with(serial + disk + usb)));
  EXPECT_FALSE(with(disk + other).same_hardware(with(other + disk)));
  EXPECT_FALSE(with(usb + disk).same_hardware(with(disk)));
  EXPECT_FALSE(with(usb).same_hardware(with("<controller type='usb' index='1'/>")));
  EXPECT_TRUE(domain("<uuid>u</uuid>").same_hardware(domain("<uuid>u</uuid>")));
}

TEST(Edit, GenidIsAddedOrReplaced) {
  Definition definition = domain("<uuid>u</uuid><memory>1</memory>");
  definition.set_genid("g1");
  EXPECT_TRUE(definition.same_as(domain("<uuid>u</uuid><genid>g1</genid><memory>1</memory>")));
  definition.set_genid("g2");
  EXPECT_EQ(definition.genid(), "g2");
}

TEST(Edit, MacsKeepTheRestOfTheInterface) {
  Definition definition = devices(
      "<interface type='network'><mac address='x'/><source network='n'/><target dev='t'/><mtu size='9000'/></interface>"
      "<interface type='user'/>");
  definition.set_macs({"52:54:00:00:00:01", "52:54:00:00:00:02"});
  EXPECT_TRUE(definition.same_as(
      devices("<interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/><mtu size='9000'/>"
              "</interface><interface type='user'><mac address='52:54:00:00:00:02'/></interface>")));
  EXPECT_THROW(definition.set_macs({"52:54:00:00:00:01"}), Error);
}

TEST(Edit, NvramKeepsTemplateAndLoader) {
  Definition definition =
      domain("<os><loader type='pflash' readonly='yes'>/code</loader><nvram template='/vars'>/old</nvram></os>");
  definition.set_nvram("/new");
  EXPECT_TRUE(definition.same_as(
      domain("<os><loader type='pflash' readonly='yes'>/code</loader><nvram template='/vars'>/new</nvram></os>")));
}

TEST(Edit, NvramOfEachKindOfFirmware) {
  const auto after = [](const std::string& os) {
    Definition definition = domain(os);
    definition.set_nvram("/new");
    return definition.nvram();
  };
  EXPECT_EQ(after("<os firmware='efi'/>"), "/new");
  EXPECT_EQ(after("<os firmware='efi'><nvram type='file'><source file='/old'/></nvram></os>"), "/new");
  EXPECT_EQ(after("<os firmware='efi'><nvram type='block'><source dev='/dev/x'/></nvram></os>"), "/new");
  EXPECT_EQ(after("<os><loader type='pflash' readonly='yes'>/code</loader></os>"), "/new");
  EXPECT_EQ(after("<os><type>hvm</type></os>"), std::nullopt);
  EXPECT_EQ(after("<os><loader type='rom'>/bios</loader></os>"), std::nullopt);
  EXPECT_EQ(after("<os firmware='efi'><loader stateless='yes'/></os>"), std::nullopt);
  EXPECT_EQ(after("<os><loader type='pflash'>/code-and-vars</loader></os>"), std::nullopt);
}

TEST(Edit, DiskSourceBecomesBlockOrFile) {
  Definition gpu = input("gpu");
  gpu.set_disk_source("vda", "/dev/zvol/p/gpu");
  gpu.set_disk_source("vdc", "/srv/scratch.img");
  EXPECT_EQ(disk_of(gpu, "vda"), (Disk{"vda", "virtio", "disk", "block", "/dev/zvol/p/gpu", "raw", false, false}));
  EXPECT_EQ(disk_of(gpu, "vdc"), (Disk{"vdc", "virtio", "disk", "file", "/srv/scratch.img", "raw", false, true}));
  EXPECT_EQ(gpu.xml().find("rbd"), std::string::npos);
  EXPECT_EQ(gpu.xml().find("<secret"), std::string::npos) << "the credentials of the old source";
  EXPECT_THROW(gpu.set_disk_source("vdz", "/dev/x"), Error);
}

TEST(Edit, ADiskIsReadAsBeforeAtItsNewPath) {
  Definition definition = devices(
      "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/zd16' index='1'>"
      "<seclabel model='dac' relabel='no'/><encryption format='luks'><secret type='passphrase' uuid='u'/></encryption>"
      "<slices><slice type='storage' offset='512' size='1024'/></slices></source>"
      "<target dev='vda' bus='virtio'/></disk>");
  definition.set_disk_source("vda", "/dev/zvol/p/web");
  EXPECT_TRUE(definition.same_as(
      devices("<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/zvol/p/web'>"
              "<encryption format='luks'><secret type='passphrase' uuid='u'/></encryption>"
              "<slices><slice type='storage' offset='512' size='1024'/></slices></source>"
              "<target dev='vda' bus='virtio'/></disk>")))
      << definition.xml();
}

TEST(Edit, AnEmptyTrayTakesAMedium) {
  Definition web = input("web");
  web.set_disk_source("sda", "/isos/a.iso");
  EXPECT_EQ(disk_of(web, "sda"), (Disk{"sda", "sata", "cdrom", "file", "/isos/a.iso", "raw", true, false}));
}

TEST(Edit, SeedTakesTheFirstFreeTarget) {
  Definition gpu = input("gpu");
  gpu.add_seed("/seed");
  EXPECT_EQ(disk_of(gpu, "vdb"), (Disk{"vdb", "virtio", "disk", "file", "/seed", "raw", true, false}));
  EXPECT_EQ(gpu.disks().back().target, "vdb") << "after the other disks, so that none of them moves";
}

TEST(Edit, SeedGoesOnPastVdz) {
  std::string disks;
  for (char letter = 'a'; letter <= 'z'; ++letter)
    disks += std::string("<disk><target dev='vd") + letter + "'/></disk>";
  Definition definition = devices(disks);
  definition.add_seed("/seed");
  EXPECT_EQ(definition.disks().back().target, "vdaa");
}

TEST(Edit, RemovesDisksAndTpm) {
  Definition vault = input("vault");
  vault.remove_disk("sda");
  vault.remove_tpm();
  EXPECT_EQ(vault.disks().size(), 1U);
  EXPECT_EQ(vault.tpm(), Tpm::none);
  EXPECT_THROW(vault.remove_disk("sda"), Error);
}

TEST(Edit, MemoryOfASingleNumaCellFollows) {
  Definition gpu = input("gpu");
  gpu.set_memory(3 * GiB);
  EXPECT_EQ(gpu.memory(), 3 * GiB);
  EXPECT_NE(gpu.xml().find("<currentMemory unit='KiB'>3145728<"), std::string::npos);
  EXPECT_NE(gpu.xml().find("memory='3145728'"), std::string::npos) << "the cell, which libvirt believes first";
  EXPECT_EQ(gpu.xml().find("maxMemory"), std::string::npos);
}

TEST(Edit, MemoryAndVcpusOfSeveralCellsAreRefused) {
  Definition definition = domain("<cpu><numa><cell id='0'/><cell id='1'/></numa></cpu>");
  EXPECT_THROW(definition.set_memory(GiB), Error);
  EXPECT_THROW(definition.set_vcpus(2), Error);
  Definition dimm = devices("<memory model='dimm'/>");
  EXPECT_THROW(dimm.set_memory(GiB), Error);
}

TEST(Edit, VcpusDropWhatWouldNotFit) {
  Definition definition = domain(
      "<vcpu current='2'>8</vcpu><vcpus><vcpu id='0'/></vcpus><cputune><vcpupin vcpu='1' cpuset='9'/><vcpupin vcpu='2' "
      "cpuset='9'/><vcpusched vcpus='0-2'/></cputune><cpu><topology sockets='1' cores='4' threads='2'/></cpu>");
  definition.set_vcpus(2);
  EXPECT_TRUE(definition.same_as(domain("<vcpu>2</vcpu><cputune><vcpupin vcpu='1' cpuset='9'/></cputune><cpu/>")));
  EXPECT_EQ(definition.vcpus(), 2U);
}

TEST(Edit, VcpusKeepATopologyThatFits) {
  Definition definition = domain("<vcpu>8</vcpu><cpu><topology sockets='1' cores='2' threads='2'/></cpu>");
  definition.set_vcpus(4);
  EXPECT_NE(definition.xml().find("<topology"), std::string::npos);
}

TEST(Portable, FreesPortsSocketsAndLogs) {
  Definition definition = devices(
      "<graphics type='vnc' port='5911' autoport='no'/><serial type='pty'><log file='/l'/></serial>"
      "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='4555'/><protocol type='raw'/></serial>"
      "<serial type='tcp'><source mode='connect' host='log' service='4555'/></serial>"
      "<channel type='unix'><source mode='bind' path='/s'/><target type='virtio' name='n'/></channel>");
  definition.make_portable();
  EXPECT_TRUE(
      definition.same_as(devices("<graphics type='vnc' autoport='yes'/><serial type='pty'/><serial type='pty'/>"
                                 "<serial type='tcp'><source mode='connect' host='log' service='4555'/></serial>"
                                 "<channel type='unix'><target type='virtio' name='n'/></channel>")));
}

TEST(Portable, ChannelsAndPortsThatClaimTheHostBecomeTheirOwn) {
  Definition definition = devices(
      "<serial type='udp'><source mode='bind' host='127.0.0.1' service='4556'/></serial>"
      "<channel type='file'><source path='/srv/log'/><target type='virtio' name='n'/></channel>"
      "<channel type='tcp'><source mode='bind' host='127.0.0.1' service='1'/><protocol type='raw'/>"
      "<target type='virtio' name='m'/></channel>"
      "<channel type='spicevmc'><target type='virtio' name='s'/></channel>");
  definition.make_portable();
  EXPECT_TRUE(
      definition.same_as(devices("<serial type='pty'/>"
                                 "<channel type='unix'><target type='virtio' name='n'/></channel>"
                                 "<channel type='unix'><target type='virtio' name='m'/></channel>"
                                 "<channel type='spicevmc'><target type='virtio' name='s'/></channel>")))
      << definition.xml();
}

TEST(Accessors, WhatListensOnTheHostBelongsToOneMachine) {
  const auto listed = [](const std::string& interface) { return devices(interface).host_devices(); };
  EXPECT_EQ(listed("<interface type='vhostuser'><source type='unix' path='/run/p' mode='server'/></interface>"),
            std::vector<std::string>{"vhost-user socket /run/p"});
  EXPECT_TRUE(listed("<interface type='vhostuser'><source type='unix' path='/p' mode='client'/></interface>").empty());
  EXPECT_EQ(listed("<interface type='server'><source address='10.0.0.1' port='5558'/></interface>"),
            std::vector<std::string>{"network port 10.0.0.1:5558"});
  EXPECT_TRUE(listed("<interface type='network'><source network='default'/></interface>").empty());
}

TEST(Accessors, ArgumentsForQemuItself) {
  EXPECT_TRUE(Definition::parse("<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>w</name>"
                                "<qemu:commandline><qemu:arg value='-s'/></qemu:commandline></domain>")
                  .has_qemu_arguments());
  EXPECT_FALSE(domain("").has_qemu_arguments());
}

TEST(Portable, ASocketDisplayStaysOffTheNetwork) {
  Definition definition = devices("<graphics type='vnc' socket='/run/a.sock'/>");
  definition.make_portable();
  EXPECT_TRUE(definition.same_as(devices("<graphics type='vnc'><listen type='socket'/></graphics>")));
}

TEST(Portable, KeepsDynamicLabels) {
  Definition definition = domain(
      "<vmcoreinfo state='on'/><seclabel type='static'><label>x</label></seclabel><seclabel type='dynamic'><label>y"
      "</label></seclabel><seclabel type='dynamic'><baselabel>b</baselabel></seclabel><seclabel type='none'/>");
  definition.make_portable();
  EXPECT_TRUE(definition.same_as(domain(
      "<vmcoreinfo state='on'/><seclabel type='dynamic'><baselabel>b</baselabel></seclabel><seclabel type='none'/>")));
}

TEST(Portable, ChangesNothingOfAFreshMachine) {
  Definition definition = Definition::parse(new_definition(usual_spec()));
  const Definition before = definition;
  definition.set_macs({usual_spec().network->mac});
  const std::string with_port = definition.xml();
  definition.make_portable();
  EXPECT_EQ(definition.disks(), before.disks());
  EXPECT_EQ(definition.interfaces(), before.interfaces());
  EXPECT_EQ(definition.host_devices(), before.host_devices());
  Definition again = definition;
  again.make_portable();
  EXPECT_TRUE(again.same_as(definition)) << "idempotent";
}

TEST(SameAs, LooksPastWhiteSpaceAttributeOrderAndComments) {
  const Definition a = Definition::parse("<domain type='kvm' id='1'><name>web</name><x a='1' b='2'/></domain>");
  EXPECT_TRUE(
      same(a, "<domain id='1'\n type='kvm'>\n <!-- c --><name>\n we<!-- c -->b </name><x b='2' a='1'></x></domain>"));
  EXPECT_FALSE(same(a, "<domain type='kvm' id='1'><name>we b</name><x a='1' b='2'/></domain>"));
  EXPECT_FALSE(same(a, "<domain type='kvm' id='1'><name>web</name><x a='1' b='3'/></domain>"));
  EXPECT_FALSE(same(a, "<domain type='kvm' id='1'><name>web</name><x a='1' b='2'/><y/></domain>"));
  EXPECT_FALSE(same(a, "<domain type='kvm' id='1'><x a='1' b='2'/><name>web</name></domain>"));
}

TEST(Xml, SurvivesPrintingAndIsACopyOfItsOwn) {
  for (const char* name : {"web", "gpu", "vault"}) {
    const Definition original = input(name);
    EXPECT_TRUE(same(original, original.xml())) << name;
    Definition copy = original;
    copy.set_name("other");
    EXPECT_EQ(original.name(), name);
    EXPECT_FALSE(copy.same_as(original));
  }
}

TEST(Mac, HasTheKvmPrefix) {
  const unsigned char random[3] = {0x01, 0xab, 0xff};
  EXPECT_EQ(mac_from(random), "52:54:00:01:ab:ff");
}

}  // namespace
}  // namespace kld::virt
