// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cassert>
#include <initializer_list>
#include <utility>

#include "base/size.h"
#include "virt/document.h"

namespace kld::virt {

namespace {

using GivenAttributes = std::initializer_list<std::pair<const char*, std::string_view>>;

pugi::xml_node add(pugi::xml_node parent, const char* name, GivenAttributes attributes = {}) {
  pugi::xml_node node = parent.append_child(name);
  for (const auto& [key, value] : attributes) set_attribute(node, key, value);
  return node;
}

pugi::xml_node add_text(pugi::xml_node parent, const char* name, std::string_view text,
                        GivenAttributes attributes = {}) {
  pugi::xml_node node = add(parent, name, attributes);
  set_text(node, text);
  return node;
}

bool uses_kvm(const Spec& spec) { return spec.virt_type == "kvm"; }
// QEMU's own emulation knows no Hyper-V interface, and libvirt would refuse to start.
bool uses_hyperv(const Spec& spec) { return spec.windows && uses_kvm(spec); }

void add_metadata(pugi::xml_node domain, const Spec& spec) {
  if (spec.os_id.empty()) return;
  const pugi::xml_node info = add(add(domain, "metadata"), "libosinfo:libosinfo",
                                  {{"xmlns:libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0"}});
  add(info, "libosinfo:os", {{"id", spec.os_id}});
}

void add_identity(pugi::xml_node domain, const Spec& spec) {
  add_text(domain, "name", spec.name);
  add_text(domain, "uuid", spec.uuid);
  add_text(domain, "genid", spec.genid);
  add_metadata(domain, spec);
  const std::string memory = std::to_string(spec.memory / KiB);
  add_text(domain, "memory", memory, {{"unit", "KiB"}});
  add_text(domain, "currentMemory", memory, {{"unit", "KiB"}});
  add_text(domain, "vcpu", std::to_string(spec.vcpus), {{"placement", "static"}});
  add_text(domain, "iothreads", "1");
}

/// The features say exactly which image is meant: asked for none, libvirt takes the first descriptor that fits, which
/// on Debian is the one with Secure Boot and Microsoft's keys.
void add_os(pugi::xml_node domain, const Spec& spec) {
  const pugi::xml_node os = add(domain, "os");
  const bool secure = spec.firmware == Firmware::uefi_secure;
  if (spec.firmware != Firmware::bios) set_attribute(os, "firmware", "efi");
  add_text(os, "type", "hvm", {{"arch", "x86_64"}, {"machine", "q35"}});
  if (spec.firmware == Firmware::bios) return;
  const pugi::xml_node firmware = add(os, "firmware");
  for (const char* feature : {"enrolled-keys", "secure-boot"})
    add(firmware, "feature", {{"enabled", secure ? "yes" : "no"}, {"name", feature}});
  if (secure) add(os, "loader", {{"secure", "yes"}});
  if (!spec.nvram.empty()) add_text(os, "nvram", spec.nvram);
}

void add_hyperv(pugi::xml_node features) {
  const pugi::xml_node hyperv = add(features, "hyperv", {{"mode", "custom"}});
  add(hyperv, "relaxed", {{"state", "on"}});
  add(hyperv, "vapic", {{"state", "on"}});
  add(hyperv, "spinlocks", {{"state", "on"}, {"retries", "8191"}});
  for (const char* feature : {"vpindex", "runtime", "synic", "stimer"}) add(hyperv, feature, {{"state", "on"}});
}

void add_features(pugi::xml_node domain, const Spec& spec) {
  const pugi::xml_node features = add(domain, "features");
  add(features, "acpi");
  add(features, "apic");
  if (uses_hyperv(spec)) add_hyperv(features);
  add(features, "vmport", {{"state", "off"}});
  if (spec.firmware == Firmware::uefi_secure) add(features, "smm", {{"state", "on"}});
}

/// | asked      | kvm                        | qemu    |
/// | host-model | host-model                 | maximum |
/// | host       | host-passthrough           | maximum |
/// | a name     | custom                     | custom  |
/// QEMU's own emulation has no host CPU to show, and its default model is too old for many guests.
void add_cpu(pugi::xml_node domain, const Spec& spec) {
  const bool named = spec.cpu != "host-model" && spec.cpu != "host";
  if (named) {
    const pugi::xml_node cpu =
        add(domain, "cpu", {{"mode", "custom"}, {"match", "exact"}, {"check", uses_kvm(spec) ? "partial" : "none"}});
    add_text(cpu, "model", spec.cpu, {{"fallback", "forbid"}});
  } else if (!uses_kvm(spec)) {
    add(domain, "cpu", {{"mode", "maximum"}, {"check", "none"}});
  } else if (spec.cpu == "host") {
    add(domain, "cpu", {{"mode", "host-passthrough"}, {"check", "none"}, {"migratable", "on"}});
  } else {
    add(domain, "cpu", {{"mode", "host-model"}, {"check", "partial"}});
  }
}

void add_clock(pugi::xml_node domain, const Spec& spec) {
  const pugi::xml_node clock = add(domain, "clock", {{"offset", spec.windows ? "localtime" : "utc"}});
  add(clock, "timer", {{"name", "rtc"}, {"tickpolicy", "catchup"}});
  add(clock, "timer", {{"name", "pit"}, {"tickpolicy", "delay"}});
  add(clock, "timer", {{"name", "hpet"}, {"present", "no"}});
  if (uses_hyperv(spec)) add(clock, "timer", {{"name", "hypervclock"}, {"present", "yes"}});
}

void add_life_cycle(pugi::xml_node domain) {
  add_text(domain, "on_poweroff", "destroy");
  add_text(domain, "on_reboot", "restart");
  add_text(domain, "on_crash", "destroy");
  const pugi::xml_node pm = add(domain, "pm");
  add(pm, "suspend-to-mem", {{"enabled", "no"}});
  add(pm, "suspend-to-disk", {{"enabled", "no"}});
}

std::string target(const char* prefix, std::size_t index) {
  assert(index < 26);
  return prefix + std::string(1, static_cast<char>('a' + index));
}

void add_disks(pugi::xml_node devices, const Spec& spec) {
  for (std::size_t i = 0; i < spec.disks.size(); ++i) {
    const pugi::xml_node disk = add(devices, "disk", {{"type", "block"}, {"device", "disk"}});
    add(disk, "driver",
        {{"name", "qemu"},
         {"type", "raw"},
         {"cache", "none"},
         {"io", "native"},
         {"discard", "unmap"},
         {"iothread", "1"}});
    add(disk, "source", {{"dev", spec.disks[i]}});
    add(disk, "target", {{"dev", target("vd", i)}, {"bus", "virtio"}});
    if (i == 0) add(disk, "boot", {{"order", "1"}});
  }
}

void add_cdroms(pugi::xml_node devices, const Spec& spec) {
  for (std::size_t i = 0; i < spec.cdroms.size(); ++i) {
    const pugi::xml_node disk = add(devices, "disk", {{"type", "file"}, {"device", "cdrom"}});
    add(disk, "driver", {{"name", "qemu"}, {"type", "raw"}});
    add(disk, "source", {{"file", spec.cdroms[i]}});
    add(disk, "target", {{"dev", target("sd", i)}, {"bus", "sata"}});
    add(disk, "readonly");
    add(disk, "boot", {{"order", std::to_string(i + 2)}});
  }
}

void add_network(pugi::xml_node devices, const Spec& spec) {
  if (!spec.network) return;
  const Interface& network = *spec.network;
  assert(network.type == "bridge" || network.type == "network");
  const pugi::xml_node interface = add(devices, "interface", {{"type", network.type}});
  add(interface, "mac", {{"address", network.mac}});
  add(interface, "source", {{network.type.c_str(), network.source}});
  add(interface, "model", {{"type", "virtio"}});
}

void add_console(pugi::xml_node devices) {
  add(add(devices, "serial", {{"type", "pty"}}), "target", {{"type", "isa-serial"}, {"port", "0"}});
  add(add(devices, "console", {{"type", "pty"}}), "target", {{"type", "serial"}, {"port", "0"}});
  add(add(devices, "channel", {{"type", "unix"}}), "target", {{"type", "virtio"}, {"name", "org.qemu.guest_agent.0"}});
}

void add_display(pugi::xml_node devices, const Spec& spec) {
  add(devices, "input", {{"type", "tablet"}, {"bus", "usb"}});
  const pugi::xml_node graphics = add(devices, "graphics", {{"type", "vnc"}, {"port", "-1"}, {"autoport", "yes"}});
  add(graphics, "listen", {{"type", "address"}, {"address", spec.vnc_listen}});
  add(add(devices, "video"), "model", {{"type", spec.windows ? "vga" : "virtio"}});
}

void add_tpm(pugi::xml_node devices) {
  add(add(devices, "tpm", {{"model", "tpm-crb"}}), "backend", {{"type", "emulator"}, {"version", "2.0"}});
}

void add_devices(pugi::xml_node domain, const Spec& spec) {
  const pugi::xml_node devices = add(domain, "devices");
  add_disks(devices, spec);
  if (spec.seed) append_seed(devices, *spec.seed);
  add_cdroms(devices, spec);
  add(devices, "controller", {{"type", "usb"}, {"model", "qemu-xhci"}});
  add_network(devices, spec);
  add_console(devices);
  if (spec.tpm) add_tpm(devices);
  add_display(devices, spec);
  add(devices, "memballoon", {{"model", "virtio"}});
  add_text(add(devices, "rng", {{"model", "virtio"}}), "backend", "/dev/urandom", {{"model", "random"}});
}

}  // namespace

std::string new_definition(const Spec& spec) {
  assert(spec.memory > 0 && spec.memory % MiB == 0 && spec.vcpus > 0);
  pugi::xml_document tree;
  const pugi::xml_node domain = add(tree, "domain", {{"type", spec.virt_type}});
  add_identity(domain, spec);
  add_os(domain, spec);
  add_features(domain, spec);
  add_cpu(domain, spec);
  add_clock(domain, spec);
  add_life_cycle(domain);
  add_devices(domain, spec);
  return print(tree);
}

}  // namespace kld::virt
