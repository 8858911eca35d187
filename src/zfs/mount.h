// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kld::zfs {

/// The dataset mounted at exactly this directory, empty when none is.
std::string mounted_at(const std::string& directory);
/// What is on top at each mount point.
std::map<std::string, std::string> mounts();

/// One mount, of this host's or of another process's view of the file systems.
struct Mount {
  std::uint64_t device = 0;  ///< number of the file system's device
  std::string source;        ///< "rpool/vms/.state/web"
  std::string directory;
  int pid = 0;  ///< a process that sees it; 0: this one does
};

/// The mounts of this process.
std::vector<Mount> own_mounts();
/// The mounts of this process, then those of each other mount namespace that a process has.
std::vector<Mount> all_mounts();
/// Makes `directory` (mode 0711) if it is not there, makes it immutable while it is empty and uncovered, so that
/// nothing is ever written beneath, and mounts the filesystem on it. Done already counts as done. A directory
/// that holds files, or another dataset mounted there, is an Error. `anew`: what somebody else mounted, without making
/// the directory beneath immutable, is mounted again, unless it is in use.
void mount_if_needed(const std::string& filesystem, const std::string& directory, bool anew);

/// Unmounts and removes the empty directory. Not mounted counts as done; busy for longer than 5 s is an Error.
void unmount_if_mounted(const std::string& filesystem, const std::string& directory);

/// Contents of a file in a filesystem or snapshot that is mounted nowhere, seen through a mount of this thread alone;
/// nullopt when there is no such file. `file` is below the filesystem's own root.
std::optional<std::string> read_inside(const std::string& filesystem, const std::string& file);

/// What keeps a filesystem of this device number busy although it was unmounted at its directory: other mounts of it,
/// processes with a file or working directory in it, in a mount namespace of their own. In words, such as
/// "node_exporter (pid 4711) uses it in a mount namespace of its own".
std::vector<std::string> still_used_by(const std::string& filesystem, std::uint64_t device);
/// Number of the device of what is mounted at the directory; 0 without one.
std::uint64_t device_at(const std::string& directory);

/// Removes an empty directory that a mount was made on; anything else stays.
void remove_mount_point(const std::string& directory);

}  // namespace kld::zfs
