// SPDX-License-Identifier: Apache-2.0
#include "plan/clone_target.h"

#include <fmt/format.h>

#include "zfs/device.h"

namespace kld::plan {
namespace {

/// A cloud-config's own key, at the start of a line.
bool sets_host_name(const std::string& user_data) {
  for (const std::string key : {"hostname:", "fqdn:"}) {
    if (user_data.find("\n" + key) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

CloneTarget make_clone_target(const View& view, const CloneSource& source, const CloneRequest& request,
                              const CloneFacts& facts, const std::string& name, const Fresh& fresh) {
  CloneTarget target{name, fresh.uuid(), source.definition, {}};
  auto& definition = target.definition;
  for (const auto& unwanted : request.without) {
    if (unwanted == "hostdev") {
      definition.remove_host_devices();
    } else {
      definition.remove_disk(unwanted);
    }
  }
  definition.make_portable();
  definition.set_name(name);
  definition.set_uuid(target.uuid);
  definition.set_genid(fresh.uuid());
  std::vector<std::string> macs;
  for (std::size_t i = 0; i < definition.interfaces().size(); ++i) macs.push_back(fresh.mac());
  definition.set_macs(macs);
  if (definition.uefi()) definition.set_nvram(nvram_path(name));
  bool has_seed_disk = false;
  for (const auto& disk : definition.disks()) {
    if (disk.source == seed_path(source.machine.name)) {
      definition.set_disk_source(disk.target, seed_path(name));
      has_seed_disk = true;
      continue;
    }
    const std::string volume = volume_of(view, disk.source);
    for (const auto& own : source.disks) {
      if (own.volume.name != volume) continue;
      definition.set_disk_source(disk.target, zfs::device_path(disk_dataset(view.root, name, own.label)));
    }
  }
  if (has_seed_disk || request.seed.any()) {
    target.seed = seed_documents(request.seed, facts.seed, name, target.uuid);
    if (!has_seed_disk) definition.add_seed(seed_path(name));
  }
  if (request.memory) definition.set_memory(*request.memory);
  if (request.vcpus) definition.set_vcpus(*request.vcpus);
  return target;
}

void warn_of_what_is_shared(Plan& plan, const CloneSource& source, const CloneRequest& request,
                            const CloneTarget& target) {
  const auto& name = source.machine.name;
  if (target.seed.empty()) {
    plan.warnings.push_back(
        fmt::format("'{}' has no cloud-init seed: its clones keep its host name, machine-id and SSH host keys inside; "
                    "--hostname or another cloud-init flag gives them a seed",
                    name));
  }
  const auto inherited = [&](const char* document) {
    const auto found = target.seed.find(document);
    return found == target.seed.end() ? std::string() : found->second;
  };
  if (!request.seed.network_config && !inherited("network-config").empty()) {
    plan.warnings.push_back(
        fmt::format("the network-config of '{}' is its clones', too: an address in it would be given to each; "
                    "--network-config gives another",
                    name));
  }
  if (!request.seed.user_data && sets_host_name(inherited("user-data"))) {
    plan.warnings.push_back(fmt::format(
        "the user-data of '{}' sets a host name, which its clones take, too; --user-data gives another", name));
  }
  if (source.definition.has_qemu_arguments()) {
    plan.warnings.push_back(
        fmt::format("'{}' has arguments for QEMU itself (qemu:commandline): its clones get the same", name));
  }
}

}  // namespace kld::plan
