// SPDX-License-Identifier: Apache-2.0
// How what retention lets go is destroyed, and how a prune is held back.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/retention.h"

namespace kld::plan {

/// How many snapshots one call may destroy: at most 100; half as many after a call that took over a second, twice as
/// many after a faster one.
class Pace {
 public:
  static constexpr std::size_t kMost = 100;
  std::size_t limit() const { return limit_; }
  void took(double seconds);

 private:
  std::size_t limit_ = kMost;
};

/// A snapshot of a machine that goes, all parts of it or none.
struct Condemned {
  std::string machine;
  MachineSnapshot snapshot;
};

/// Takes from the front of `queue` what one call destroys: whole snapshots, at least one.
std::vector<Condemned> take_batch(std::vector<Condemned>& queue, std::size_t limit);

/// One call.
Plan plan_prune(const std::vector<Condemned>& batch, const std::string& op);

/// Neighbouring snapshots of one dataset, by their full names.
struct SnapshotRange {
  std::string first;
  std::string last;
  bool operator==(const SnapshotRange&) const = default;
};

/// What goes of a machine, as ranges: ZFS tells of these how much space they hold together.
std::vector<SnapshotRange> ranges_that_go(const std::vector<Verdict>& verdicts);

/// Notes on the machine since when its prune is held back. It stays so until a prune that was asked for by hand.
Plan plan_hold_back(const Machine& machine, UnixTime now, const std::string& op);
/// A prune that was held back is accepted.
Plan plan_release(const Machine& machine, const std::string& op);

}  // namespace kld::plan
