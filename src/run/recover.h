// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "run/executor.h"
#include "run/open_entry.h"

namespace kld::run {

struct Recovered {
  std::string operation;
  std::string op;
  std::vector<std::string> machines;
  enum class How { undone, finished, failed } how = How::undone;
  std::string problem;  ///< of a failed one
};

/// Undoes or finishes every operation whose process is gone: before its commit point undone, from there on finished.
/// Takes the machines' locks first, one operation after the other. `runner` is asked for only when there is something
/// to do, for each entry's own libvirt; `shared` are machines that others use meanwhile, which it only takes from.
/// `wanted`: only entries for which it is true; empty: all.
std::vector<Recovered> recover(
    const std::function<Runner&(const OpenEntry&, const std::vector<std::string>& shared)>& runner, const Watch& watch,
    const std::function<bool(const OpenEntry&)>& wanted = {}, const std::string& directory = kJournalDirectory);

/// What of one entry would be done, and does it.
Recovered recover_one(OpenEntry& entry, Runner& runner, const Watch& watch);

}  // namespace kld::run
