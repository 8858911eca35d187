// SPDX-License-Identifier: Apache-2.0
// Files that a machine is given: disk images and installation media.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "plan/create.h"

namespace kld::run {

/// `qemu-img info` of a file. Throws Refused when it is missing, no regular file or device, or no image.
plan::ImageInfo inspect_image(const std::string& path);
/// Why a file cannot be read, nullopt when it can.
std::optional<Refusal> unreadable(const std::string& what, const std::string& path);
/// True when the user that QEMU runs as may enter all directories above the file, by owner, group and mode. libvirt
/// hands it the file itself, never the directories.
bool reachable_for_qemu(const std::string& path);

}  // namespace kld::run
