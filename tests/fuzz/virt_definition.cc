// SPDX-License-Identifier: Apache-2.0
// Any bytes: refused with an Error, or a definition that can be asked, edited, printed and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "virt/definition.h"

namespace {

using kld::virt::Definition;

void ask(const Definition& definition) {
  static_cast<void>(definition.name() + definition.uuid() + definition.virt_type());
  static_cast<void>(definition.memory() + definition.vcpus());
  static_cast<void>(definition.genid());
  static_cast<void>(definition.nvram());
  static_cast<void>(definition.uefi());
  static_cast<void>(definition.tpm());
  static_cast<void>(definition.disks());
  static_cast<void>(definition.interfaces());
  static_cast<void>(definition.host_devices());
  static_cast<void>(definition.vnc_address());
}

/// An edit may refuse; it may not break the tree.
template <typename Edit>
void attempt(Edit edit) {
  try {
    edit();
  } catch (const kld::Error&) {
  }
}

void edit(Definition& definition) {
  definition.set_name("clone");
  definition.set_uuid("0d0a1c52-1d8c-4f7e-9b0e-5e7f3a2b1c00");
  definition.set_genid("1f6e2a90-6d0c-4a3b-8f31-7b3f0c9d2e11");
  definition.set_macs(std::vector<std::string>(definition.interfaces().size(), "52:54:00:00:00:01"));
  definition.set_nvram("/state/vars.fd");
  for (const kld::virt::Disk& disk : definition.disks())
    definition.set_disk_source(disk.target, disk.readonly ? "/file" : "/dev/zvol/p/x");
  definition.add_seed("/state/seed.iso");
  definition.remove_tpm();
  attempt([&] { definition.set_memory(1ULL << 30); });
  attempt([&] { definition.set_vcpus(3); });
  definition.make_portable();
  if (!definition.disks().empty()) definition.remove_disk(definition.disks().front().target);
}

void require(bool holds) {
  if (!holds) std::abort();
}

bool reads_back(const Definition& definition) {
  try {
    return Definition::parse(definition.xml()).same_as(definition);
  } catch (const kld::Error&) {
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    Definition definition = Definition::parse({reinterpret_cast<const char*>(data), size});
    ask(definition);
    require(reads_back(definition));
    edit(definition);
    ask(definition);
    require(definition.name() == "clone" && reads_back(definition));
  } catch (const kld::Error&) {
  }
  return 0;
}
