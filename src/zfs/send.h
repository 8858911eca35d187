// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kld::zfs {

/// A `zfs send` that runs on this host.
struct Send {
  int pid = 0;
  std::vector<std::string> snapshots;   ///< that it names: what it sends, and from where on
  std::vector<std::string> whole = {};  ///< datasets of which it may be sending any: a replication stream
  std::string target;                   ///< command line of what reads from it; empty: not known
  std::uint64_t bytes = 0;              ///< written so far
};

/// Sends of snapshots of these datasets, by a look at every process.
std::vector<Send> running_sends(const std::vector<std::string>& datasets);

/// "zfs send of rpool/vms/web@s (pid 4711) to 'ssh backup zfs receive tank/web', 1.2G so far".
std::string to_string(const Send& send);

}  // namespace kld::zfs
