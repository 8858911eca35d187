// SPDX-License-Identifier: Apache-2.0
// What changes ZFS: libzfs_core's calls as functions that throw. Idempotent ones say so in their name.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/process.h"
#include "zfs/properties.h"

namespace kld::zfs {

/// What ZFS refuses because something uses it now: a send, a mount, an open device.
class Busy : public Error {
 public:
  using Error::Error;
};

/// One call for many, of which some are in the way of all: nothing was changed.
class Rejected : public Error {
 public:
  Rejected(const std::string& message, std::map<std::string, std::string> reasons)
      : Error(message), reasons_(std::move(reasons)) {}
  /// By the names that ZFS complained of; never empty.
  const std::map<std::string, std::string>& reasons() const { return reasons_; }

 private:
  std::map<std::string, std::string> reasons_;
};

void create_filesystem(const std::string& name, const Properties& properties);
/// `size` in bytes, a multiple of `volblocksize`. Sparse unless `properties` hold a refreservation.
void create_volume(const std::string& name, std::uint64_t size, const Properties& properties);
void clone(const std::string& snapshot, const std::string& name, const Properties& properties);
/// One call, one transaction group of one pool: all or none. Throws Rejected when ZFS says which are in the way.
void snapshot(const std::vector<std::string>& names, const Properties& user_properties);
/// One call: all or none. Snapshots that are gone already count as destroyed. Throws Rejected when ZFS says which
/// cannot be.
void destroy_snapshots_if_present(const std::vector<std::string>& names);
/// Bytes that would be free if these two snapshots of one dataset and all between them were gone. 0 when it cannot be
/// told.
std::uint64_t space_of(const std::string& first, const std::string& last);
/// Waits out a busy dataset for `busy_wait_ms`. A dataset that is gone counts as destroyed. It must have no snapshots.
void destroy_if_present(const std::string& name, int busy_wait_ms);
void rename(const std::string& from, const std::string& to);
/// Makes a clone the origin of what it was cloned from: the snapshot between them and all older ones move to it, with
/// their holds, bookmarks and clones. Throws Error naming the snapshot when one of that name is there already.
/// Bookmarks of equal names must have been ruled out: OpenZFS 2.1 panics at them.
void promote(const std::string& clone);
/// Discards what was written since the snapshot (a full name), which must be the dataset's newest, and no bookmark
/// newer. What is mounted stays mounted, and shows the snapshot then. A volume in use is not refused.
void rollback(const std::string& dataset, const std::string& snapshot);
/// One call. Bookmarks that are gone already count as destroyed.
void destroy_bookmarks_if_present(const std::vector<std::string>& names);
bool exists(const std::string& name);
/// False when the pool of this dataset is imported read-only. Asks for a bookmark of what there is none of.
bool is_writable(const std::string& dataset);
/// Waits until everything written so far is on disk and accounted for.
void sync(const std::string& pool);
/// Bytes written to the datasets, together, since they were snapshotted by this name (the part behind '@'), whatever
/// snapshots were taken since. True for what was synced before. nullopt when ZFS cannot tell: a snapshot is gone.
std::optional<std::uint64_t> written_since(const std::vector<std::string>& datasets, const std::string& snapshot);
/// guids of those of these snapshots, all of one pool, that exist, in one call without a process. nullopt when ZFS
/// cannot tell.
std::optional<std::map<std::string, std::uint64_t>> snapshot_guids(const std::vector<std::string>& names);
/// Sets local properties; an empty value inherits instead, or, of `canmount`, which cannot, goes back to what was
/// received or is the default. User properties and native ones, by `zfs set`/`zfs inherit`.
void set_properties(const std::string& name, const Properties& properties);
struct CopyOptions {
  std::function<void(std::uint64_t)> progress;  ///< hears of bytes sent so far
  std::function<bool()> stop;                   ///< asked a few times a second
  std::vector<int> kept_fds;                    ///< stay open in both programs, should they outlive us
};

/// A full copy: `zfs send` into `zfs receive`. The received snapshot is destroyed at the end, so that the copy is
/// independent and bare. Throws Interrupted when asked to stop.
void copy(const Argv& send, const Argv& receive, const std::string& received_snapshot, const CopyOptions& options);
/// Bytes that a full send of the snapshot is estimated to take.
std::uint64_t send_size(const std::string& snapshot);

}  // namespace kld::zfs
