// SPDX-License-Identifier: Apache-2.0
// How what retention lets go is destroyed, and how a prune is held back.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "plan/auto_snapshot.h"
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

/// What of a batch stays, because a call of ZFS failed.
struct Spared {
  Condemned one;
  std::string reason;
};

/// Takes from `batch` what the call's error list names, each with its reason. When it names nothing of it, or this was
/// the `last` attempt, all of it stays.
/// @param errors by snapshot; that of the call as a whole is `whole`
std::vector<Spared> take_spared(std::vector<Condemned>& batch, const std::map<std::string, std::string>& errors,
                                const std::string& whole, bool last);

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

/// What a prune of several machines removes.
struct PruneChoice {
  std::vector<Condemned> queue;      ///< in the order of the machines
  std::vector<SnapshotRange> early;  ///< with `full`: all that would go with early deletion
  std::size_t more = 0;              ///< with `full`: snapshots among these that only early deletion removes
};

/// @param snapshots as machine_snapshots has them, by machine
/// @param full      the pool is so full that early deletion is thought of; it is done only with `early_deletion`
PruneChoice choose_prune(const View& view, const std::vector<AutoMachine>& machines,
                         const std::map<std::string, std::vector<MachineSnapshot>>& snapshots, UnixTime now, bool full,
                         bool early_deletion);

/// Whether a machine's prune waits until it is asked for by hand.
struct Caution {
  bool prunes = true;         ///< nothing of it goes, otherwise
  bool mark = false;          ///< to be noted on the machine before anything new is taken, which would hide the reason
  std::size_t going = 0;      ///< how many would go
  std::size_t automatic = 0;  ///< of how many
};

/// After a clock that has jumped, most of a machine's would go: nothing does. So it stays once it is noted. A machine
/// whose rule cannot be read loses nothing, and is noted as well: once the rule can be read, everything might go.
/// @param takes_one this run takes a snapshot of it first
/// @param early     it removes what only the hourly rule keeps, too
Caution caution(const View& view, const AutoMachine& one, std::vector<MachineSnapshot> snapshots, UnixTime now,
                bool takes_one, bool early = false);

/// Notes on the machine since when its prune is held back. It stays so until a prune that was asked for by hand.
Plan plan_hold_back(const Machine& machine, UnixTime now, const std::string& op);
/// A prune that was held back is accepted.
Plan plan_release(const Machine& machine, const std::string& op);

}  // namespace kld::plan
