// SPDX-License-Identifier: Apache-2.0
// How a Definition is changed.
#include <fmt/format.h>
#include <strings.h>

#include <charconv>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/size.h"
#include "virt/document.h"

namespace kld::virt {

namespace {

pugi::xml_node required_disk(pugi::xml_node devices, std::string_view target) {
  const pugi::xml_node disk = find_disk(devices, target);
  if (!disk) throw Error(fmt::format("the definition has no disk '{}'", target));
  return disk;
}

/// "vda" for 0, "vdz" for 25, "vdaa" for 26.
std::string target_name(unsigned index) {
  std::string letters;
  for (unsigned rest = index + 1; rest > 0; rest = (rest - 1) / 26)
    letters.insert(letters.begin(), static_cast<char>('a' + (rest - 1) % 26));
  return "vd" + letters;
}

std::string first_free_target(pugi::xml_node devices) {
  unsigned index = 0;
  while (find_disk(devices, target_name(index))) ++index;
  return target_name(index);
}

pugi::xml_node append_disk(pugi::xml_node devices) {
  pugi::xml_node last;
  for (const pugi::xml_node disk : devices.children("disk")) last = disk;
  return last ? devices.insert_child_after("disk", last) : devices.append_child("disk");
}

/// True when a list such as "0-3,^2" names a CPU of number `count` or above.
bool names_beyond(const char* list, unsigned count) {
  for (const char* p = list; *p != '\0';) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(p, p + std::strlen(p), number);
    if (error == std::errc() && number >= count) return true;
    if (error == std::errc::result_out_of_range) return true;
    p = end == p ? p + 1 : end;
  }
  return false;
}

void drop_pins_beyond(pugi::xml_node cputune, unsigned count) {
  std::vector<pugi::xml_node> gone;
  for (const pugi::xml_node node : cputune) {
    const bool pin = std::strcmp(node.name(), "vcpupin") == 0;
    if (names_beyond(node.attribute(pin ? "vcpu" : "vcpus").value(), count)) gone.push_back(node);
  }
  for (const pugi::xml_node node : gone) cputune.remove_child(node);
}

bool topology_fits(pugi::xml_node topology, unsigned count) {
  unsigned long long product = 1;
  for (const char* level : {"sockets", "dies", "clusters", "cores", "threads"})
    product *= topology.attribute(level).as_uint(1);
  return product == count;
}

/// The single NUMA cell, which libvirt believes before <memory> and <vcpu>; null without cells.
pugi::xml_node single_numa_cell(pugi::xml_node domain, const char* what) {
  const pugi::xml_node numa = domain.child("cpu").child("numa");
  const pugi::xml_node cell = numa.child("cell");
  if (cell.next_sibling("cell"))
    throw Error(fmt::format("cannot change the {} of a machine with several NUMA cells", what),
                "share it out among the cells by hand, with 'virsh edit'");
  return cell;
}

void set_kib(pugi::xml_node node, std::uint64_t bytes) {
  set_attribute(node, "unit", "KiB");
  set_text(node, std::to_string(bytes / KiB));
}

/// A copy of the machine's UUID in its SMBIOS tables; libvirt refuses one that differs.
void replace_smbios_uuid(pugi::xml_node domain, const std::string& old, std::string_view uuid) {
  for (const pugi::xml_node sysinfo : domain.children("sysinfo"))
    for (const pugi::xml_node entry : sysinfo.child("system").children("entry"))
      if (!old.empty() && strcasecmp(entry.child_value(), old.c_str()) == 0) set_text(entry, uuid);
}

pugi::xml_node nvram_or_new(pugi::xml_node os) {
  if (const pugi::xml_node nvram = os.child("nvram")) return nvram;
  const pugi::xml_node loader = os.child("loader");
  return loader ? os.insert_child_after("nvram", loader) : os.append_child("nvram");
}

}  // namespace

void Definition::set_name(std::string_view new_name) {
  pugi::xml_node domain = document_->domain();
  if (name() == domain.child("title").child_value()) domain.remove_child("title");
  set_text(child_or_new(domain, "name"), new_name);
}

void Definition::set_uuid(std::string_view new_uuid) {
  pugi::xml_node domain = document_->domain();
  replace_smbios_uuid(domain, uuid(), new_uuid);
  set_text(child_or_new(domain, "uuid"), new_uuid);
}

void Definition::set_genid(std::string_view new_genid) {
  pugi::xml_node domain = document_->domain();
  pugi::xml_node genid = domain.child("genid");
  if (!genid && domain.child("uuid")) genid = domain.insert_child_after("genid", domain.child("uuid"));
  if (!genid) genid = domain.append_child("genid");
  set_text(genid, new_genid);
}

void Definition::set_macs(const std::vector<std::string>& macs) {
  const std::size_t count = interfaces().size();
  if (count != macs.size())
    throw Error(fmt::format("{} MAC addresses given for {} network interfaces", macs.size(), count));
  auto mac = macs.begin();
  for (pugi::xml_node interface : document_->devices().children("interface")) {
    pugi::xml_node node = interface.child("mac");
    if (!node) node = interface.prepend_child("mac");
    set_attribute(node, "address", *mac++);
    interface.remove_child("target");
  }
}

void Definition::set_nvram(std::string_view path) {
  const pugi::xml_node os = document_->domain().child("os");
  if (!has_own_variables(os)) return;
  pugi::xml_node nvram = nvram_or_new(os);
  if (!nvram.attribute("type")) return set_text(nvram, path);
  // The long form, <nvram type='file'><source file='…'/></nvram>: only its source is replaced.
  set_attribute(nvram, "type", "file");
  nvram.remove_children();
  set_attribute(nvram.append_child("source"), "file", path);
}

void Definition::set_disk_source(std::string_view target, std::string_view path) {
  pugi::xml_node disk = required_disk(document_->devices(), target);
  const bool block = path.starts_with("/dev/");
  for (const char* of_the_old : {"backingStore", "mirror", "auth"}) remove_children(disk, of_the_old);
  pugi::xml_node source = disk.child("source");
  if (!source) source = disk.insert_child_before("source", disk.child("target"));
  const std::string policy = source.attribute("startupPolicy").value();
  source.remove_attributes();
  // How its contents are to be read belongs to the data, wherever they lie; all else belongs to the old path.
  std::vector<pugi::xml_node> of_the_path;
  for (const pugi::xml_node child : source.children()) {
    if (std::string_view(child.name()) != "encryption" && std::string_view(child.name()) != "slices")
      of_the_path.push_back(child);
  }
  for (const pugi::xml_node child : of_the_path) source.remove_child(child);
  set_attribute(disk, "type", block ? "block" : "file");
  set_attribute(source, block ? "dev" : "file", path);
  if (!policy.empty()) set_attribute(source, "startupPolicy", policy);
  if (!block) return;
  pugi::xml_node driver = disk.child("driver");
  if (!driver) driver = disk.prepend_child("driver");
  set_attribute(driver, "name", "qemu");
  set_attribute(driver, "type", "raw");
}

void Definition::add_seed(std::string_view path) { append_seed(child_or_new(document_->domain(), "devices"), path); }

void Definition::remove_disk(std::string_view target) {
  document_->devices().remove_child(required_disk(document_->devices(), target));
}

void Definition::remove_tpm() { remove_children(document_->devices(), "tpm"); }

void Definition::set_memory(std::uint64_t bytes) {
  pugi::xml_node domain = document_->domain();
  if (document_->devices().child("memory"))
    throw Error("cannot change the memory of a machine with memory devices", "detach them first, with 'virsh edit'");
  if (pugi::xml_node cell = single_numa_cell(domain, "memory")) {
    set_attribute(cell, "unit", "KiB");
    set_attribute(cell, "memory", std::to_string(bytes / KiB));
  }
  remove_children(domain, "maxMemory");
  set_kib(child_or_new(domain, "memory"), bytes);
  set_kib(child_or_new(domain, "currentMemory"), bytes);
}

void Definition::set_vcpus(unsigned count) {
  pugi::xml_node domain = document_->domain();
  if (pugi::xml_node cell = single_numa_cell(domain, "vCPUs"))
    set_attribute(cell, "cpus", count == 1 ? "0" : fmt::format("0-{}", count - 1));
  pugi::xml_node vcpu = child_or_new(domain, "vcpu");
  vcpu.remove_attribute("current");
  set_text(vcpu, std::to_string(count));
  remove_children(domain, "vcpus");
  drop_pins_beyond(domain.child("cputune"), count);
  pugi::xml_node cpu = domain.child("cpu");
  if (!topology_fits(cpu.child("topology"), count)) cpu.remove_child("topology");
}

void append_seed(pugi::xml_node devices, std::string_view path) {
  const std::string target = first_free_target(devices);
  pugi::xml_node disk = append_disk(devices);
  set_attribute(disk, "type", "file");
  set_attribute(disk, "device", "disk");
  pugi::xml_node driver = disk.append_child("driver");
  set_attribute(driver, "name", "qemu");
  set_attribute(driver, "type", "raw");
  set_attribute(disk.append_child("source"), "file", path);
  pugi::xml_node node = disk.append_child("target");
  set_attribute(node, "dev", target);
  set_attribute(node, "bus", "virtio");
  disk.append_child("readonly");
}

std::string mac_from(const unsigned char random[3]) {
  return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", random[0], random[1], random[2]);
}

}  // namespace kld::virt
