// SPDX-License-Identifier: Apache-2.0
#include "virt/connection.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"
#include "base/size.h"
#include "virt/connection_impl.h"
#include "virt/definition.h"
#include "virt/listing.h"

namespace kld::virt {

namespace {

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

const std::string& Connection::uri() const { return impl_->uri; }

}  // namespace kld::virt
