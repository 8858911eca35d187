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

/// A version of a machine that was set aside: `<root>/.kept/NAME-UTC` with the datasets as they lay below the root.
struct Kept {
  std::string name;  ///< "web-2026-04-04T14:35:00Z"
  std::string machine;
  std::string reason;  ///< "rollback"
  zfs::Dataset container;
  std::vector<MachineDisk> disks;
  std::optional<zfs::Dataset> state;
  std::optional<zfs::Dataset> tpm;

  /// Disks, state, TPM; not the container.
  std::vector<zfs::Dataset> datasets() const;
};

/// What is set aside of this machine, oldest first.
std::vector<Kept> kept_of(const View& view, const std::string& machine);
/// The one that a user means by `given`, its name or its time; the newest when nothing is given.
std::variant<Kept, Refusal> named_kept(const View& view, const std::string& machine,
                                       const std::optional<std::string>& given);
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

/// Adds what sets the parts aside: unmounted, marked with the reason and when they expire, renamed.
void add_aside(Plan& plan, const View& view, const std::string& machine, const Aside& aside, const std::string& reason,
               UnixTime expires, const std::string& op);

}  // namespace kld::plan
