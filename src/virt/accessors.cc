// SPDX-License-Identifier: Apache-2.0
// What a Definition answers.
#include <fmt/format.h>
#include <strings.h>

#include <charconv>
#include <cstring>
#include <limits>

#include "base/size.h"
#include "virt/document.h"

namespace kld::virt {

namespace {

constexpr char kNvramDirectory[] = "/var/lib/libvirt/qemu/nvram";

std::string attribute(pugi::xml_node node, const char* name) { return node.attribute(name).value(); }

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

std::string text_of(pugi::xml_node node) { return trimmed(node.child_value()); }

/// libvirt's units: K and KiB are binary, KB is decimal, b and bytes count one; 0 when unknown.
std::uint64_t unit_size(const std::string& unit) {
  if (unit.empty()) return KiB;
  if (strcasecmp(unit.c_str(), "b") == 0 || strcasecmp(unit.c_str(), "byte") == 0 ||
      strcasecmp(unit.c_str(), "bytes") == 0)
    return 1;
  const std::string_view prefixes = "kmgtpe";
  const auto power = prefixes.find(static_cast<char>(unit[0] | 0x20));
  if (power == std::string_view::npos) return 0;
  const char* rest = unit.c_str() + 1;
  const bool decimal = strcasecmp(rest, "b") == 0;
  if (!decimal && *rest != '\0' && strcasecmp(rest, "ib") != 0) return 0;
  std::uint64_t size = 1;
  for (std::size_t i = 0; i <= power; ++i) size *= decimal ? 1000 : 1024;
  return size;
}

template <typename Number>
Number number_of(const std::string& text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

/// Path of a block or file source; a readable word for the rest; empty without a medium.
std::string describe_source(const std::string& type, pugi::xml_node source) {
  if (type == "block") return attribute(source, "dev");
  if (type == "file") return attribute(source, "file");
  if (type == "dir") return attribute(source, "dir");
  if (!source) return {};
  if (type == "network") return fmt::format("{}:{}", attribute(source, "protocol"), attribute(source, "name"));
  if (type == "volume") return fmt::format("{}/{}", attribute(source, "pool"), attribute(source, "volume"));
  if (type == "vhostuser") return attribute(source, "path");
  return type;
}

Disk read_disk(pugi::xml_node node) {
  Disk disk;
  disk.target = attribute(node.child("target"), "dev");
  disk.bus = attribute(node.child("target"), "bus");
  disk.device = node.attribute("device").as_string("disk");
  disk.type = node.attribute("type").as_string("file");
  disk.source = describe_source(disk.type, node.child("source"));
  disk.format = attribute(node.child("driver"), "type");
  disk.readonly = static_cast<bool>(node.child("readonly"));
  disk.shareable = static_cast<bool>(node.child("shareable"));
  disk.optional = has_value(node.child("source"), "startupPolicy", "optional");
  return disk;
}

std::string interface_source(pugi::xml_node source) {
  for (const char* name : {"bridge", "network", "dev", "path", "name", "address"})
    if (const pugi::xml_attribute found = source.attribute(name)) return found.value();
  return {};
}

/// "0x0000", "0x01", "0x00", "0x0" as "0000:01:00.0"; libvirt writes each part in hex.
std::string pci_address(pugi::xml_node address) {
  const auto part = [&](const char* name) { return address.attribute(name).as_uint(); };
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", part("domain"), part("bus"), part("slot"), part("function"));
}

std::string describe_usb(pugi::xml_node source) {
  if (const pugi::xml_node vendor = source.child("vendor"))
    return fmt::format("USB device {:04x}:{:04x}", vendor.attribute("id").as_uint(),
                       source.child("product").attribute("id").as_uint());
  const pugi::xml_node address = source.child("address");
  return fmt::format("USB device at bus {} device {}", attribute(address, "bus"), attribute(address, "device"));
}

std::string describe_hostdev(pugi::xml_node node) {
  const std::string type = attribute(node, "type");
  const pugi::xml_node source = node.child("source");
  if (type == "pci") return "PCI device " + pci_address(source.child("address"));
  if (type == "usb") return describe_usb(source);
  if (type == "mdev") return "mediated device " + attribute(source.child("address"), "uuid");
  if (type == "scsi") return "SCSI device " + attribute(source.child("adapter"), "name");
  return fmt::format("host device of type {}", type.empty() ? "unknown" : type);
}

std::string describe_filesystem(pugi::xml_node node) {
  const pugi::xml_node source = node.child("source");
  std::string from = attribute(source, "dir");
  for (const char* name : {"file", "dev", "name", "socket"})
    if (from.empty()) from = attribute(source, name);
  return fmt::format("filesystem {} -> {}", from, attribute(node.child("target"), "dir"));
}

/// One line when this child of <devices> reaches into the host's own hardware or files; else empty.
std::string describe_host_device(pugi::xml_node node) {
  const std::string_view name = node.name();
  const pugi::xml_node source = node.child("source");
  if (name == "hostdev") return describe_hostdev(node);
  if (name == "filesystem") return describe_filesystem(node);
  if (name == "interface" && has_value(node, "type", "hostdev"))
    return "network PCI device " + pci_address(source.child("address"));
  if (name == "interface" && has_value(node, "type", "vhostuser") && !has_value(source, "mode", "client"))
    return "vhost-user socket " + attribute(source, "path");
  if (name == "interface" && (has_value(node, "type", "server") || has_value(node, "type", "udp")))
    return fmt::format("network port {}:{}", attribute(source, "address"), attribute(source, "port"));
  if (name == "interface" && has_value(node, "type", "vdpa")) return "vDPA device " + attribute(source, "dev");
  if (name == "tpm" && has_value(node.child("backend"), "type", "passthrough"))
    return "TPM " + attribute(node.child("backend").child("device"), "path");
  if (name == "disk" && has_value(node, "device", "lun"))
    return "SCSI LUN " + describe_source(attribute(node, "type"), source);
  if ((name == "serial" || name == "parallel") && has_value(node, "type", "dev"))
    return fmt::format("{} port {}", name, attribute(source, "path"));
  if (name == "input" && (has_value(node, "type", "passthrough") || has_value(node, "type", "evdev")))
    return "input device " + attribute(source, has_value(node, "type", "evdev") ? "dev" : "evdev");
  if (name == "memory" && source.child("path")) return "memory from " + text_of(source.child("path"));
  if (name == "shmem") return "shared memory " + attribute(node, "name");
  return {};
}

}  // namespace

bool has_own_variables(pugi::xml_node os) {
  const pugi::xml_node loader = os.child("loader");
  if (has_value(loader, "stateless", "yes")) return false;
  if (has_value(os, "firmware", "efi")) return true;
  return has_value(loader, "type", "pflash") && has_value(loader, "readonly", "yes");
}

std::string Definition::name() const { return text_of(document_->domain().child("name")); }
std::string Definition::uuid() const { return text_of(document_->domain().child("uuid")); }
std::string Definition::virt_type() const { return attribute(document_->domain(), "type"); }

std::uint64_t Definition::memory() const {
  const pugi::xml_node node = document_->domain().child("memory");
  const auto count = number_of<std::uint64_t>(text_of(node));
  const std::uint64_t unit = unit_size(attribute(node, "unit"));
  if (unit != 0 && count > std::numeric_limits<std::uint64_t>::max() / unit) return 0;
  return count * unit;
}

unsigned Definition::vcpus() const {
  const pugi::xml_node node = document_->domain().child("vcpu");
  if (const auto current = number_of<unsigned>(attribute(node, "current"))) return current;
  return number_of<unsigned>(text_of(node));
}

std::optional<std::string> Definition::genid() const {
  std::string genid = text_of(document_->domain().child("genid"));
  if (genid.empty()) return std::nullopt;
  return genid;
}

bool Definition::has_qemu_arguments() const { return static_cast<bool>(document_->domain().child("qemu:commandline")); }

std::optional<std::string> Definition::nvram() const {
  const pugi::xml_node node = document_->domain().child("os").child("nvram");
  const pugi::xml_node source = node.child("source");
  std::string path = text_of(node);
  if (path.empty()) path = attribute(source, "file");
  if (path.empty()) path = attribute(source, "dev");
  if (path.empty()) return std::nullopt;
  return path;
}

std::optional<std::string> Definition::variables() const {
  const pugi::xml_node os = document_->domain().child("os");
  if (auto named = nvram()) return named;
  if (!has_own_variables(os) || os.child("nvram").attribute("type")) return std::nullopt;
  return fmt::format("{}/{}_VARS.fd", kNvramDirectory, name());
}

bool Definition::uefi() const {
  const pugi::xml_node os = document_->domain().child("os");
  return has_value(os, "firmware", "efi") || has_value(os.child("loader"), "type", "pflash");
}

std::optional<std::string> Definition::loader() const {
  auto path = text_of(document_->domain().child("os").child("loader"));
  return path.empty() ? std::nullopt : std::optional(std::move(path));
}

std::vector<std::string> Definition::boot_files() const {
  std::vector<std::string> files;
  for (const char* name : {"kernel", "initrd", "dtb"}) {
    if (auto path = text_of(document_->domain().child("os").child(name)); !path.empty()) files.push_back(path);
  }
  return files;
}

std::string Definition::architecture() const {
  return attribute(document_->domain().child("os").child("type"), "arch");
}

std::string Definition::machine_type() const {
  return attribute(document_->domain().child("os").child("type"), "machine");
}

std::string Definition::emulator() const { return text_of(document_->devices().child("emulator")); }

std::optional<std::string> Definition::custom_cpu() const {
  const auto cpu = document_->domain().child("cpu");
  const bool named = cpu.child("model") && (!cpu.attribute("mode") || has_value(cpu, "mode", "custom"));
  if (!named) return std::nullopt;
  pugi::xml_document alone;
  alone.append_copy(cpu);
  return print(alone);
}

Tpm Definition::tpm() const {
  const pugi::xml_node node = document_->devices().child("tpm");
  if (!node) return Tpm::none;
  return has_value(node.child("backend"), "type", "emulator") ? Tpm::emulator : Tpm::passthrough;
}

std::vector<Disk> Definition::disks() const {
  std::vector<Disk> disks;
  for (const pugi::xml_node node : document_->devices().children("disk")) disks.push_back(read_disk(node));
  return disks;
}

std::vector<Interface> Definition::interfaces() const {
  std::vector<Interface> interfaces;
  for (const pugi::xml_node node : document_->devices().children("interface"))
    interfaces.push_back(
        {attribute(node, "type"), interface_source(node.child("source")), attribute(node.child("mac"), "address")});
  return interfaces;
}

std::vector<std::string> Definition::host_devices() const {
  std::vector<std::string> found;
  for (const pugi::xml_node node : document_->devices())
    if (std::string line = describe_host_device(node); !line.empty()) found.push_back(std::move(line));
  return found;
}

void Definition::remove_host_devices() {
  const pugi::xml_node devices = document_->devices();
  for (pugi::xml_node node = devices.first_child(); node;) {
    const pugi::xml_node next = node.next_sibling();
    if (!describe_host_device(node).empty()) pugi::xml_node(devices).remove_child(node);
    node = next;
  }
}

std::optional<std::string> Definition::vnc_address() const {
  for (const pugi::xml_node node : document_->devices().children("graphics")) {
    const int port = node.attribute("port").as_int(-1);
    if (!has_value(node, "type", "vnc") || port <= 0) continue;
    std::string address = attribute(node.child("listen"), "address");
    if (address.empty()) address = attribute(node, "listen");
    if (address.empty()) address = "127.0.0.1";
    if (address.find(':') != std::string::npos) return fmt::format("[{}]:{}", address, port);
    return fmt::format("{}:{}", address, port);
  }
  return std::nullopt;
}

}  // namespace kld::virt
