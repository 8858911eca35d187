// SPDX-License-Identifier: Apache-2.0
// Versions of a machine that were set aside below `<root>/.kept`, and how one goes there.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

/// How long what a rollback set aside is kept, unless told otherwise. Seconds.
inline constexpr UnixTime kKeptFor = UnixTime{7} * 86400;

/// Why a version was set aside, as its `com.kldload:kept` says: another version took its place, or it was deleted.
inline constexpr char kRolledBack[] = "rollback";
inline constexpr char kGhost[] = "ghost";

/// A version of a machine that was set aside: `<root>/.kept/NAME-UTC` with the datasets as they lay below the root.
struct Kept {
  std::string name;  ///< "web-2026-04-04T14:35:00Z"
  std::string machine;
  std::string reason;  ///< kRolledBack, kGhost, or what another part of the program has set
  zfs::Dataset container;
  std::vector<MachineDisk> disks;
  std::optional<zfs::Dataset> state;
  std::optional<zfs::Dataset> tpm;

  /// Disks, state, TPM; not the container.
  std::vector<zfs::Dataset> datasets() const;
  bool is_ghost() const { return reason == kGhost; }
};

/// All that is set aside, of whatever machine, oldest first.
std::vector<Kept> all_kept(const View& view);
/// What is set aside under this machine's name, oldest first: of the present machine, and of deleted ones that had its
/// name before.
std::vector<Kept> all_kept_of(const View& view, const std::string& machine);
/// The present machine's own: what was set aside since the last one of its name was deleted.
std::vector<Kept> kept_of(const View& view, const std::string& machine);
/// The versions that were the ghost's own when it was deleted: they are older than it, and younger than the ghost
/// before it. They go before it, and come back with it.
std::vector<Kept> kept_before(const View& view, const Kept& ghost);
/// The one that a user means by `given`, its name or its time; the newest of the present machine, or, without one, of
/// the deleted one, when nothing is given.
std::variant<Kept, Refusal> named_kept(const View& view, const std::string& machine,
                                       const std::optional<std::string>& given);
/// "web" of "web-2026-04-04T14:35:00Z", also where the view does not reach what is set aside; empty: no such name.
std::string machine_of_kept(const std::string& kept);
/// The version that this dataset is part of; empty: none.
std::string kept_with(const View& view, const std::string& dataset);

/// The refusal when there is a dataset in it that is none of the version's own.
std::optional<Refusal> foreign_in(const View& view, const Kept& kept);

/// Where the parts of a machine go that are set aside.
struct Aside {
  std::string container;
  std::vector<zfs::Dataset> parts;

  /// Where this dataset, one of the parts or below one, lies then.
  std::string place_of(const std::string& root, const std::string& machine, const std::string& dataset) const;
};

/// A place below `.kept` that is free.
Aside aside(const View& view, const std::string& machine, std::vector<zfs::Dataset> parts, UnixTime now);

/// Adds what sets the parts aside: unmounted, marked with the reason and when they expire, renamed. `more`: further
/// properties of the version.
void add_aside(Plan& plan, const View& view, const std::string& machine, const Aside& aside, const std::string& reason,
               UnixTime expires, const std::string& op, const zfs::Properties& more = {});

}  // namespace kld::plan
