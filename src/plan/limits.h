// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "plan/view.h"

namespace kld::plan {

/// Above this share of a pool ZFS slows down and may not be able to free space again.
inline constexpr double kPoolLimit = 0.80;

/// Of a pool that is imported so.
Refusal pool_readonly(const std::string& pool);
/// Refuses to bring the pool above the limit with `more` bytes; nullopt when it stays below or `over_limit`.
std::optional<Refusal> pool_limit(const zfs::Pool& pool, std::uint64_t more, bool over_limit);

/// Refuses `more` bytes than what the root has left, which quotas, reservations and parity decide; nullopt when
/// `over_limit`, which a command may have no flag for.
std::optional<Refusal> no_room(const View& view, std::uint64_t more, std::optional<bool> over_limit = std::nullopt);

/// Refuses when there is no room even for metadata: on a full pool nothing can be made, and little destroyed.
std::optional<Refusal> pool_full(const View& view);

/// The refusal for a new machine's name: bad, a domain's, a dataset's, a path's, or in another machine's definition.
/// `labels` are its disks'. `taken_paths` are paths it would use that exist.
std::optional<Refusal> name_taken(const View& view, const std::string& name, const std::vector<std::string>& labels,
                                  const std::vector<std::string>& taken_paths);

/// Refuses when the key of the root or of one of these datasets is not loaded.
std::optional<Refusal> key_missing(const std::vector<zfs::Dataset>& datasets);
/// Refuses when the machine's state, where its definition is saved and its seed is read, is not mounted.
std::optional<Refusal> state_unmounted(const Machine& machine);

}  // namespace kld::plan
