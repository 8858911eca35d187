// SPDX-License-Identifier: Apache-2.0
// What of a Connection tells about the host: networks, storage pools, what it can run.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/size.h"
#include "virt/connection_impl.h"
#include "virt/definition.h"
#include "virt/listing.h"

namespace kld::virt {

namespace {

/// Null when there is no such network.
Network look_up_network(virConnectPtr connect, const std::string& name) {
  Network network(api().virNetworkLookupByName(connect, name.c_str()));
  if (!network && last_error() != VIR_ERR_NO_NETWORK) fail(fmt::format("looking up network '{}'", name));
  return network;
}

}  // namespace

std::optional<std::string> Connection::volume_path(const std::string& pool_and_volume) const {
  const auto slash = pool_and_volume.find('/');
  if (slash == std::string::npos) return std::nullopt;
  const auto doing = fmt::format("looking for '{}' in libvirt's storage pools", pool_and_volume);
  const StoragePool pool(api().virStoragePoolLookupByName(impl_->get(), pool_and_volume.substr(0, slash).c_str()));
  if (!pool && last_error() != VIR_ERR_NO_STORAGE_POOL) fail(doing);
  if (!pool) return std::nullopt;
  const StorageVolume volume(api().virStorageVolLookupByName(pool.get(), pool_and_volume.substr(slash + 1).c_str()));
  if (!volume && last_error() != VIR_ERR_NO_STORAGE_VOL && last_error() != VIR_ERR_OPERATION_INVALID) fail(doing);
  if (!volume) return std::nullopt;
  return take(check(api().virStorageVolGetPath(volume.get()), doing));
}

bool Connection::has_network(const std::string& name) const {
  return static_cast<bool>(look_up_network(impl_->get(), name));
}

bool Connection::network_active(const std::string& name) const {
  const Network network = look_up_network(impl_->get(), name);
  return network && check(api().virNetworkIsActive(network.get()), fmt::format("asking about network '{}'", name)) == 1;
}

std::vector<std::string> Connection::networks() const {
  virNetworkPtr* found = nullptr;
  const int count = check(api().virConnectListAllNetworks(impl_->get(), &found, 0), "listing networks");
  std::vector<std::string> names;
  for (const Network& network : take_all<Network>(found, count))
    names.emplace_back(api().virNetworkGetName(network.get()));
  std::sort(names.begin(), names.end());
  return names;
}

HostInfo Connection::host() const {
  virNodeInfo info{};
  check(api().virNodeGetInfo(impl_->get(), &info), "asking about the host");
  return {info.memory * KiB, info.cpus,
          take(check(api().virConnectGetHostname(impl_->get()), "asking for the host's name"))};
}

std::vector<std::string> Connection::unsupported(const std::string& xml) const {
  const auto definition = Definition::parse(xml);
  const auto or_null = [](const std::string& text) { return text.empty() ? nullptr : text.c_str(); };
  const auto emulator = definition.emulator();
  const auto architecture = definition.architecture();
  const auto machine = definition.machine_type();
  const auto virt_type = definition.virt_type();
  const std::string abilities = take(api().virConnectGetDomainCapabilities(
      impl_->get(), or_null(emulator), or_null(architecture), or_null(machine), or_null(virt_type), 0));
  // A driver that knows no such question has no answer, and the machine's start will tell.
  if (abilities.empty() && last_error() == VIR_ERR_NO_SUPPORT) return {};
  if (abilities.empty()) return {last_message()};
  const auto cpu = definition.custom_cpu();
  if (!cpu) return {};
  const int compared = api().virConnectCompareHypervisorCPU(impl_->get(), or_null(emulator), or_null(architecture),
                                                            or_null(machine), or_null(virt_type), cpu->c_str(), 0);
  if (compared == VIR_CPU_COMPARE_ERROR) return {last_message()};
  if (compared == VIR_CPU_COMPARE_INCOMPATIBLE) return {"this host's CPU lacks what the definition asks for"};
  return {};
}

std::optional<std::string> Connection::vnc_address(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  if (!is_active(state_of(domain.get()))) return std::nullopt;
  return Definition::parse(take(check(api().virDomainGetXMLDesc(domain.get(), 0),
                                      "reading the definition of " + quoted_name(domain))))
      .vnc_address();
}

}  // namespace kld::virt
