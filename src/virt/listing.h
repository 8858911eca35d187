// SPDX-License-Identifier: Apache-2.0
// How libvirt's bulk answers become DomainInfo. Not for other layers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "virt/check.h"
#include "virt/connection.h"

namespace kld::virt {

/// Our word for libvirt's state and reason; a pause by an I/O error is `paused_io_error` until its disks are asked.
State state_from(int state, int reason);

/// The state now; a domain that has vanished is shut off.
State state_of(virDomainPtr domain);

std::vector<DomainInfo> list_domains(virConnectPtr connect, Details details);

/// nullopt when it vanished meanwhile.
std::optional<DomainInfo> describe_domain(virDomainPtr domain);

}  // namespace kld::virt
