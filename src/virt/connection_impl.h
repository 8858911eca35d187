// SPDX-License-Identifier: Apache-2.0
// What the files that implement Connection share. Not for other layers.
#pragma once

#include <fmt/format.h>

#include <string>

#include "virt/check.h"
#include "virt/connection.h"

namespace kld::virt {

struct Connection::Impl {
  Connect handle;
  std::string uri;
  virConnectPtr get() const { return handle.get(); }
};

/// Null when there is no such domain.
inline Domain look_up(virConnectPtr connect, const std::string& uuid) {
  Domain domain(api().virDomainLookupByUUIDString(connect, uuid.c_str()));
  if (!domain && last_error() != VIR_ERR_NO_DOMAIN) fail(fmt::format("looking up domain {}", uuid));
  return domain;
}

inline Domain required(virConnectPtr connect, const std::string& uuid) {
  Domain domain = look_up(connect, uuid);
  if (!domain) fail(fmt::format("looking up domain {}", uuid));
  return domain;
}

inline std::string quoted_name(const Domain& domain) {
  return fmt::format("'{}'", api().virDomainGetName(domain.get()));
}

}  // namespace kld::virt
