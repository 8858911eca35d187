// SPDX-License-Identifier: Apache-2.0
#include "virt/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/size.h"
#include "virt/check.h"
#include "virt/definition.h"
#include "virt/listing.h"

namespace kld::virt {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto poll_interval = std::chrono::milliseconds(100);
// virDomainDestroy waits by itself; this bounds only the wait for the state to follow.
constexpr auto destroy_limit = std::chrono::seconds(30);

/// Null when there is no such domain.
Domain look_up(virConnectPtr connect, const std::string& uuid) {
  Domain domain(api().virDomainLookupByUUIDString(connect, uuid.c_str()));
  if (!domain && last_error() != VIR_ERR_NO_DOMAIN) fail(fmt::format("looking up domain {}", uuid));
  return domain;
}

Domain required(virConnectPtr connect, const std::string& uuid) {
  Domain domain = look_up(connect, uuid);
  if (!domain) fail(fmt::format("looking up domain {}", uuid));
  return domain;
}

std::string quoted_name(const Domain& domain) { return fmt::format("'{}'", api().virDomainGetName(domain.get())); }

/// Null when there is no such network.
Network look_up_network(virConnectPtr connect, const std::string& name) {
  Network network(api().virNetworkLookupByName(connect, name.c_str()));
  if (!network && last_error() != VIR_ERR_NO_NETWORK) fail(fmt::format("looking up network '{}'", name));
  return network;
}

/// True once the domain is shut off; false at the deadline.
bool wait_until_off(virDomainPtr domain, Clock::time_point deadline, const std::function<bool()>& interrupted) {
  while (is_active(state_of(domain))) {
    if (interrupted && interrupted()) throw Interrupted();
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(poll_interval);
  }
  return true;
}

/// The power button first: unlike the agent, it never makes the caller wait. False when the guest cannot be asked.
bool ask_to_shut_down(virDomainPtr domain) {
  return api().virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) == 0 ||
         api().virDomainShutdown(domain) == 0;
}

bool can_react(State state) { return state == State::running || state == State::shutting_down; }

void destroy(const Domain& domain, const std::function<bool()>& interrupted) {
  try {
    check(api().virDomainDestroy(domain.get()), "stopping domain " + quoted_name(domain));
  } catch (const Error&) {
    if (is_active(state_of(domain.get()))) throw;  // else it ended by itself a moment before
  }
  if (!wait_until_off(domain.get(), Clock::now() + destroy_limit, interrupted))
    throw Error(fmt::format("domain {} is still active after it was destroyed", quoted_name(domain)));
}

const char* job_word(int type) {
  switch (type) {
    case VIR_DOMAIN_BLOCK_JOB_TYPE_PULL:
      return "pull";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
      return "copy";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
      return "commit";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
      return "active commit";
    case VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
      return "backup";
    default:
      return "block job";
  }
}

std::string definition_of(const Domain& domain, unsigned flags) {
  return take(
      check(api().virDomainGetXMLDesc(domain.get(), flags), "reading the definition of " + quoted_name(domain)));
}

/// Another host's machines, or a user's own, must never be taken for those that the datasets here belong to.
bool is_local_system(const std::string& uri) {
  const auto path = uri.substr(0, uri.find('?'));
  return path == "qemu:///system" || path == "qemu+unix:///system" || path.starts_with("test:");
}

}  // namespace

struct Connection::Impl {
  Connect handle;
  std::string uri;
  virConnectPtr get() const { return handle.get(); }
};

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

Connection Connection::open(const std::string& uri) {
  silence_libvirt();
  Connect handle(api().virConnectOpen(uri.empty() ? nullptr : uri.c_str()));
  if (!handle)
    fail(fmt::format("connecting to libvirt at '{}'", uri), "is libvirtd running? 'systemctl start libvirtd'");
  std::string real_uri = take(check(api().virConnectGetURI(handle.get()), "asking libvirt for its URI"));
  if (!is_local_system(real_uri)) {
    throw Error(fmt::format("libvirt at '{}' does not run this host's system machines", real_uri),
                "datasets and machines must be of one host: run it there, with qemu:///system", Exit::refused);
  }
  return Connection(std::make_unique<Impl>(Impl{std::move(handle), std::move(real_uri)}));
}

std::vector<DomainInfo> Connection::list(Details details) const { return list_domains(impl_->get(), details); }

std::vector<DomainInfo> Connection::list_with_pending(Details details) const {
  auto domains = list(details);
  for (auto& domain : domains) {
    const bool will_change = is_active(domain.state) && domain.persistent;
    if (!will_change && !domain.has_pathless_drives) continue;
    const auto xml = inactive_xml_if_any(domain.uuid);
    if (!xml) continue;
    for (const auto& disk : Definition::parse(*xml).disks()) {
      if (disk.source.empty()) continue;
      const bool pooled = disk.type == "volume";
      domain.block_paths.push_back(pooled ? volume_path(disk.source).value_or(kUnresolvedVolume + disk.source)
                                          : disk.source);
    }
  }
  return domains;
}

std::optional<DomainInfo> Connection::find(const std::string& name) const {
  const Domain domain(api().virDomainLookupByName(impl_->get(), name.c_str()));
  if (domain) return describe_domain(domain.get());
  if (last_error() == VIR_ERR_NO_DOMAIN) return std::nullopt;
  fail(fmt::format("looking up domain '{}'", name));
}

std::string Connection::inactive_xml(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  return definition_of(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
}

std::optional<std::string> Connection::inactive_xml_if_any(const std::string& uuid) const {
  const Domain domain = look_up(impl_->get(), uuid);
  if (!domain) return std::nullopt;
  char* xml = api().virDomainGetXMLDesc(domain.get(), VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
  if (xml == nullptr && last_error() == VIR_ERR_NO_DOMAIN) return std::nullopt;
  return take(check(xml, "reading the definition of " + quoted_name(domain)));
}

std::string Connection::live_xml(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  return definition_of(domain, VIR_DOMAIN_XML_SECURE);
}

std::vector<std::string> Connection::block_jobs(const std::string& uuid,
                                                const std::vector<std::string>& targets) const {
  const Domain domain = required(impl_->get(), uuid);
  std::vector<std::string> jobs;
  if (!is_active(state_of(domain.get()))) return jobs;
  for (const std::string& target : targets) {
    virDomainBlockJobInfo info{};
    const int found = api().virDomainGetBlockJobInfo(domain.get(), target.c_str(), &info, 0);
    if (found > 0) jobs.push_back(fmt::format("{}: {}", target, job_word(info.type)));
    // No job on a disk that the running machine does not have, nor under a driver without block jobs.
    if (found < 0 && last_error() != VIR_ERR_INVALID_ARG && last_error() != VIR_ERR_NO_SUPPORT)
      fail(fmt::format("looking for a block job on '{}' of {}", target, quoted_name(domain)));
  }
  return jobs;
}

void Connection::define(const std::string& xml, bool validate) const {
  const unsigned flags = validate ? VIR_DOMAIN_DEFINE_VALIDATE : 0;
  const Domain domain(check(api().virDomainDefineXMLFlags(impl_->get(), xml.c_str(), flags), "defining a domain"));
}

bool Connection::undefine(const std::string& uuid) const {
  const Domain domain = look_up(impl_->get(), uuid);
  if (!domain) return false;
  // The test driver keeps no such state and refuses the flags; nobody else is ever asked without them.
  const bool is_test = std::strcmp(check(api().virConnectGetType(impl_->get()), "asking for the driver"), "TEST") == 0;
  const unsigned keep = is_test ? 0U : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_TPM;
  check(api().virDomainUndefineFlags(domain.get(), keep), "undefining domain " + quoted_name(domain));
  return true;
}

bool Connection::start(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  if (is_active(state_of(domain.get()))) return false;
  try {
    check(api().virDomainCreate(domain.get()), "starting domain " + quoted_name(domain));
  } catch (const Error&) {
    if (is_active(state_of(domain.get()))) return false;  // somebody else started it a moment before
    throw;
  }
  return true;
}

bool Connection::stop(const std::string& uuid, std::chrono::seconds graceful,
                      const std::function<bool()>& interrupted) const {
  const Domain domain = required(impl_->get(), uuid);
  const State state = state_of(domain.get());
  if (!is_active(state)) return false;
  if (graceful.count() > 0 && can_react(state) && ask_to_shut_down(domain.get()) &&
      wait_until_off(domain.get(), Clock::now() + graceful, interrupted))
    return true;
  destroy(domain, interrupted);
  return true;
}

void Connection::set_autostart(const std::string& uuid, bool autostart) const {
  const Domain domain = required(impl_->get(), uuid);
  check(api().virDomainSetAutostart(domain.get(), autostart ? 1 : 0),
        "setting autostart of domain " + quoted_name(domain));
}

void Connection::remove_managed_save(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  const std::string doing = "removing the saved state of domain " + quoted_name(domain);
  if (check(api().virDomainHasManagedSaveImage(domain.get(), 0), doing) == 1)
    check(api().virDomainManagedSaveRemove(domain.get(), 0), doing);
}

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

const std::string& Connection::uri() const { return impl_->uri; }

HostInfo Connection::host() const {
  virNodeInfo info{};
  check(api().virNodeGetInfo(impl_->get(), &info), "asking about the host");
  return {info.memory * KiB, info.cpus,
          take(check(api().virConnectGetHostname(impl_->get()), "asking for the host's name"))};
}

std::optional<std::string> Connection::vnc_address(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  if (!is_active(state_of(domain.get()))) return std::nullopt;
  return Definition::parse(take(check(api().virDomainGetXMLDesc(domain.get(), 0),
                                      "reading the definition of " + quoted_name(domain))))
      .vnc_address();
}

}  // namespace kld::virt
