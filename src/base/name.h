// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kld {

/// Why `name` cannot name a machine; nullopt when it can. What libvirt and ZFS both take: letters, digits,
/// '-', '_', '.', starting with a letter or digit, at most 63 characters, and none of our verbs.
std::optional<std::string> machine_name_problem(std::string_view name);

/// The same for a disk's label (at most 31 characters, no verbs to avoid).
std::optional<std::string> disk_label_problem(std::string_view label);

/// The same for the part of a snapshot's name after '@' (ZFS's rules, at most 127 characters).
std::optional<std::string> snapshot_name_problem(std::string_view name);

/// The candidate nearest to `word` by edit distance, when near enough to be meant; else empty.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace kld
