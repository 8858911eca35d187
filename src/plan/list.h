// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "plan/adopt_disks.h"
#include "plan/view.h"

namespace kld::plan {

/// What `--wide` knows of a machine's snapshots.
struct SnapshotSummary {
  std::uint64_t count = 0;
  std::string newest;  ///< name without '@'; empty: none
  UnixTime created = 0;
  std::string consistency;  ///< of the newest
  bool operator==(const SnapshotSummary&) const = default;
};

struct ListRequest {
  std::vector<std::string> names;  ///< empty: all; with `tree`, each with its descendants
  bool tree = false;
  std::string sort;                   ///< a column's title in any case, "-used" for largest first; empty: by name
  std::set<std::string> interrupted;  ///< machines that an open journal entry names and nobody works on
  Volumes volumes;
  std::map<std::string, SnapshotSummary> snapshots;  ///< by machine; only where asked for
};

struct RowDisk {
  std::string label;  ///< empty when not adopted
  zfs::Dataset volume;
};

/// One line of the listing: a machine, a domain that is none, a volume that nobody uses, a replica; in a tree also a
/// deleted machine that others were cloned from.
struct Row {
  std::string name;
  std::string branch;  ///< what a tree draws before the name
  std::string mark;    ///< and behind it
  std::string state;   ///< the domain's, or "no domain", "no disk", "locked", "replica", "interrupted",
                       ///< "deleted"
  std::string zvol;    ///< first disk: its volume, else the path, else "-"
  std::vector<RowDisk> disks;
  std::uint64_t used = 0;        ///< bytes, all disks
  std::uint64_t referenced = 0;  ///< bytes, all disks
  double ratio = 1.0;            ///< over all disks, by bytes used
  std::string origin;            ///< "golden@clone-2026-04-04T14:35:00Z"; empty: none
  std::string parent;            ///< name of the machine it is a clone of, as ZFS has it; empty: none
  std::string replica_of;        ///< "HOSTID/NAME"; empty: no replica
  std::string kept;              ///< of a deleted machine: the version that is set aside; empty: none
  bool adopted = false;
  bool golden = false;
  bool locked = false;  ///< an encryption key is not loaded
  bool interrupted = false;
  std::vector<std::string> missing;  ///< volumes that the definition names and that are not there
  std::optional<virt::DomainInfo> domain;
  std::optional<SnapshotSummary> snapshots;  ///< nullopt: not asked
};

using Listing = std::variant<std::vector<Row>, Refusal>;

/// All that an operator would look for below the root: machines, domains never adopted, volumes without domain,
/// replicas; of what is set aside, in a tree, the deleted machines that others of it were cloned from. Throws
/// UsageError for a column that does not exist.
Listing list_machines(const View& view, const ListRequest& request);

/// By this column, as ListRequest::sort has it; equal rows by their names.
void sort_rows(std::vector<Row>& rows, const std::string& sort);
/// Titles of all columns, in their order.
std::vector<std::string> list_columns();
/// Throws UsageError when `sort` names no column; empty is fine.
void check_sort(const std::string& sort);

/// The listing as a table: NAME STATE ZVOL USED REFER RATIO ORIGIN, and with `wide` also MEMORY VCPUS SNAPSHOTS NEWEST
/// CONSISTENCY AUTOSTART.
std::string list_table(const std::vector<Row>& rows, bool wide);

/// The listing for programs, an array with one object a row. Keys never vanish; what is unknown is null.
///   name, state                    strings, as in the table
///   domain_state, uuid             the domain's; null without one
///   adopted, golden, locked, interrupted   booleans
///   origin                         "MACHINE@SNAPSHOT" or null
///   replica_of                     "HOSTID/NAME" or null
///   kept                           of a deleted machine: what 'kvm-snap undo' brings back; else null
///   used_bytes, referenced_bytes   sums over the disks
///   ratio                          compression over the disks, 1.0 is none
///   disks    [{label (null when not adopted), dataset, guid (string), device, size_bytes, used_bytes,
///              referenced_bytes, ratio, origin (full snapshot name or null)}]
///   missing  [volumes that the definition names and that are not there]
///   paths    [sources of the domain's block devices]
///   memory_bytes, vcpus, autostart  null without a domain
///   snapshots  null unless asked, else {count, newest, newest_created (UTC), newest_consistency}
nlohmann::json to_json(const std::vector<Row>& rows);

}  // namespace kld::plan
