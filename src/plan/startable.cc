// SPDX-License-Identifier: Apache-2.0
#include "plan/startable.h"

#include <fmt/format.h>

#include <algorithm>

namespace kld::plan {
std::vector<std::string> needed_files(const virt::Definition& definition) {
  std::vector<std::string> files;
  for (const auto& disk : definition.disks()) {
    if (disk.type == "file" && !disk.source.empty() && !disk.optional) files.push_back(disk.source);
  }
  if (const auto loader = definition.loader()) files.push_back(*loader);
  for (const auto& file : definition.boot_files()) files.push_back(file);
  return files;
}

std::vector<std::string> not_startable(const virt::Definition& definition, const HostParts& host) {
  std::vector<std::string> reasons;
  for (const auto& nic : definition.interfaces()) {
    const bool of_host = nic.type == "bridge" || nic.type == "direct";
    if (of_host && std::ranges::find(host.interfaces, nic.source) == host.interfaces.end()) {
      reasons.push_back(
          fmt::format("this host has no {} '{}'", nic.type == "bridge" ? "bridge" : "interface", nic.source));
    }
    if (nic.type == "network" && std::ranges::find(host.networks, nic.source) == host.networks.end()) {
      reasons.push_back(fmt::format("libvirt has no active network '{}'", nic.source));
    }
  }
  for (const auto& file : host.missing_files) reasons.push_back(fmt::format("{} is not there", file));
  reasons.insert(reasons.end(), host.unsupported.begin(), host.unsupported.end());
  return reasons;
}

}  // namespace kld::plan
