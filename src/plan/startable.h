// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "virt/definition.h"

namespace kld::plan {

/// What this host has of what a definition asks for.
struct HostParts {
  std::vector<std::string> interfaces = {};     ///< network interfaces: bridges, and what macvtap sits on
  std::vector<std::string> networks = {};       ///< libvirt's networks that are active
  std::vector<std::string> missing_files = {};  ///< of needed_files(), those that are not there
  std::vector<std::string> unsupported = {};    ///< what libvirt says that it cannot run here: machine type, CPU
};

/// Files of the host that a machine of this definition cannot start without: media in its drives, firmware, a kernel.
std::vector<std::string> needed_files(const virt::Definition& definition);

/// Why a machine of this definition could not start on this host, one line each.
std::vector<std::string> not_startable(const virt::Definition& definition, const HostParts& host);

}  // namespace kld::plan
