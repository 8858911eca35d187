// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "base/size.h"
#include "virt/definition.h"

namespace kld::virt {

/// A machine as kvm-create makes it by default.
inline Spec usual_spec() {
  Spec spec;
  spec.name = "web";
  spec.uuid = "0d0a1c52-1d8c-4f7e-9b0e-5e7f3a2b1c00";
  spec.genid = "1f6e2a90-6d0c-4a3b-8f31-7b3f0c9d2e11";
  spec.memory = 2 * GiB;
  spec.vcpus = 2;
  spec.nvram = "/var/lib/kldload/state/web/web_VARS.fd";
  spec.disks = {"/dev/zvol/rpool/vms/web"};
  spec.network = Interface{"bridge", "br0", "52:54:00:12:34:56"};
  spec.os_id = "http://debian.org/debian/12";
  return spec;
}

inline std::string read_text(const std::string& path) {
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline const std::string golden_dir = KLD_SOURCE_DIR "/tests/golden/virt/";

inline Definition input(const std::string& name) {
  return Definition::parse(read_text(golden_dir + "input/" + name + ".xml"));
}

}  // namespace kld::virt
