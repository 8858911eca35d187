// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>

#include "plan/create.h"

namespace kld::plan {
namespace {

struct Family {
  std::string_view word;    ///< what precedes the version: "debian" of "debian12"
  std::string_view prefix;  ///< libosinfo id up to the version
};

// The ids that osinfo-db uses. Longer words first: "centos-stream9" is not "centos" with version "-stream9".
constexpr std::array kFamilies = {
    Family{"centos-stream", "http://centos.org/centos-stream/"},
    Family{"centos", "http://centos.org/centos/"},
    Family{"debian", "http://debian.org/debian/"},
    Family{"ubuntu", "http://ubuntu.com/ubuntu/"},
    Family{"almalinux", "http://almalinux.org/almalinux/"},
    Family{"rocky", "http://rockylinux.org/rocky/"},
    Family{"rhel", "http://redhat.com/rhel/"},
    Family{"fedora", "http://fedoraproject.org/fedora/"},
    Family{"opensuse", "http://opensuse.org/opensuse/"},
    Family{"sles", "http://suse.com/sles/"},
    Family{"alpinelinux", "http://alpinelinux.org/alpinelinux/"},
    Family{"freebsd", "http://freebsd.org/freebsd/"},
    Family{"openbsd", "http://openbsd.org/openbsd/"},
    Family{"win2k", "http://microsoft.com/win/2k"},
    Family{"win", "http://microsoft.com/win/"},
};

}  // namespace

std::optional<std::string> os_id(const std::string& os) {
  if (os == "linux" || os == "generic") return "http://libosinfo.org/linux/2022";
  if (os == "archlinux") return "http://archlinux.org/archlinux/rolling";
  for (const auto& family : kFamilies) {
    if (!os.starts_with(family.word) || os.size() == family.word.size()) continue;
    const std::string version = os.substr(family.word.size());
    if (version[0] < '0' || version[0] > '9' || version.find_first_not_of("0123456789.r") != std::string::npos)
      continue;
    return std::string(family.prefix) + version;
  }
  return std::nullopt;
}

bool is_windows(const std::string& os) { return os.starts_with("win"); }

std::optional<std::uint64_t> workload_blocksize(const std::string& workload) {
  if (workload == "general") return 64ULL << 10;
  if (workload == "postgres") return 8ULL << 10;
  if (workload == "mysql") return 16ULL << 10;
  return std::nullopt;
}

}  // namespace kld::plan
