// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

namespace kld::zfs {

/// The dataset mounted at exactly this directory, empty when none is.
std::string mounted_at(const std::string& directory);
/// What is on top at each mount point.
std::map<std::string, std::string> mounts();

/// Makes `directory` (mode 0711) if it is not there, makes it immutable while it is empty and uncovered, so that
/// nothing is ever written beneath, and mounts the filesystem on it. Done already counts as done. A directory
/// that holds files, or another dataset mounted there, is an Error. `anew`: what somebody else mounted, without making
/// the directory beneath immutable, is mounted again, unless it is in use.
void mount_if_needed(const std::string& filesystem, const std::string& directory, bool anew);

/// Unmounts and removes the empty directory. Not mounted counts as done; busy for longer than 5 s is an Error.
void unmount_if_mounted(const std::string& filesystem, const std::string& directory);

}  // namespace kld::zfs
