// SPDX-License-Identifier: Apache-2.0
// What ZFS says of datasets, snapshots and pools, as values. Reading only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "zfs/properties.h"

namespace kld::zfs {

enum class Kind { filesystem, volume };

struct Dataset {
  std::string name;
  Kind kind = Kind::filesystem;
  std::uint64_t guid = 0;
  std::uint64_t createtxg = 0;
  std::string origin;              ///< snapshot it was cloned from; empty: none
  std::uint64_t used = 0;          ///< bytes
  std::uint64_t referenced = 0;    ///< bytes
  std::uint64_t available = 0;     ///< bytes
  std::uint64_t volsize = 0;       ///< bytes; 0 for a filesystem
  std::uint64_t volblocksize = 0;  ///< bytes; 0 for a filesystem
  std::uint64_t refreservation = 0;
  std::uint64_t written = 0;  ///< bytes since the newest snapshot; right only when shut off and synced
  double compressratio = 1.0;
  std::string mountpoint;
  bool mounted = false;
  std::string covered_by;    ///< what is mounted over it; empty: nothing
  bool can_mount = true;     ///< canmount is not off
  std::string volmode;       ///< "dev", "default", ...
  bool key_missing = false;  ///< encrypted, and its key is not loaded
  std::string encryption_root;
  Properties user;  ///< com.kldload:* that are set here or inherited

  /// The value of a user property, empty when unset.
  std::string property(const std::string& name) const;
  bool operator==(const Dataset&) const = default;
};

struct Bookmark {
  std::string name;             ///< dataset#name
  std::uint64_t createtxg = 0;  ///< of what it marks
};

struct Snapshot {
  std::string name;  ///< full: dataset@name
  std::uint64_t guid = 0;
  std::uint64_t createtxg = 0;
  UnixTime creation = 0;
  std::uint64_t used = 0;
  std::uint64_t referenced = 0;
  std::uint64_t written = 0;
  std::uint64_t holds = 0;          ///< userrefs
  std::vector<std::string> clones;  ///< datasets
  Properties user;

  std::string dataset() const;     ///< before '@'
  std::string short_name() const;  ///< after '@'
  std::string property(const std::string& name) const;
  bool operator==(const Snapshot&) const = default;
};

struct Pool {
  std::string name;
  std::uint64_t size = 0;       ///< bytes
  std::uint64_t allocated = 0;  ///< bytes
  std::uint64_t free = 0;       ///< bytes
  std::string health;           ///< "ONLINE"
  bool readonly = false;
  bool operator==(const Pool&) const = default;
};

/// "rpool" of "rpool/vms/web@s".
std::string pool_of(std::string_view dataset);
/// "web" of "rpool/vms/web".
std::string last_component(std::string_view dataset);
/// "tank/web@a" -> "tank/web"; a dataset's own name as it is.
std::string dataset_of(const std::string& snapshot);
std::vector<std::string> names_of(const std::vector<Dataset>& datasets);
/// "rpool/vms" of "rpool/vms/web"; empty for a pool's root.
std::string parent_of(std::string_view dataset);
bool is_below(std::string_view dataset, std::string_view ancestor);

/// All filesystems and volumes at and below `root`, one `zfs list`; nullopt when there is no such dataset. `on_start`
/// is called when the tool runs.
std::optional<std::vector<Dataset>> list_datasets(const std::string& root,
                                                  const std::function<void()>& on_start = nullptr);
/// The same below each of these, which are left out.
std::vector<Dataset> list_below(const std::vector<std::string>& datasets);
/// Datasets and their snapshots, from one `zfs list`.
struct Listing {
  std::vector<Dataset> datasets;
  std::vector<Snapshot> snapshots;  ///< oldest first, with sizes
};
/// Those of these datasets that exist, with their direct children; `snapshots`: and with their own snapshots.
Listing list_shallow(const std::vector<std::string>& datasets, bool snapshots,
                     const std::function<void()>& on_start = nullptr);
/// Volumes and filesystems with their `origin` in the whole pool: who depends on a snapshot may lie anywhere in it.
std::vector<Dataset> list_origins(const std::string& pool);
/// Snapshots of exactly these datasets, oldest first; of one that does not exist, none. `sizes` asks for used,
/// referenced and written, which are slow.
std::vector<Snapshot> list_snapshots(const std::vector<std::string>& datasets, bool sizes);
/// Those of these snapshots that exist, by their full names, oldest first.
std::vector<Snapshot> find_snapshots(const std::vector<std::string>& names);
std::optional<Pool> find_pool(const std::string& name);
/// guid of a dataset, nullopt when there is none.
std::optional<std::uint64_t> dataset_guid(const std::string& name);
/// The same of several, in one call; those that do not exist are left out.
std::map<std::string, std::uint64_t> dataset_guids(const std::vector<std::string>& names);
/// Origins of those of these datasets that are clones: name, snapshot.
std::map<std::string, std::string> origins_of(const std::vector<std::string>& names);
/// Properties that are set on these datasets themselves, or were received with them; ZFS's and others'. In one call.
std::map<std::string, Properties> own_properties(const std::vector<std::string>& names);
/// Names ("rpool/vms/web#b") of the bookmarks of exactly these datasets.
std::vector<Bookmark> list_bookmarks(const std::vector<std::string>& datasets);
/// When a dataset was made; 0 when there is none.
UnixTime creation_time(const std::string& name);
/// The same of several, in one call; those that do not exist are left out.
std::map<std::string, UnixTime> creation_times(const std::vector<std::string>& names);
/// Local value of a property of datasets or snapshots: name, value; those that do not exist or have none are left out.
std::vector<std::pair<std::string, std::string>> local_property(const std::string& property,
                                                                const std::vector<std::string>& names);

}  // namespace kld::zfs
