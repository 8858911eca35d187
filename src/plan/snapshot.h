// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "plan/freeze.h"
#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

/// A machine's definition as libvirt has it now and as its state filesystem has it.
struct Definitions {
  std::string current;  ///< inactive XML; empty without a domain
  bool saved_exists = false;
  std::string saved;      ///< contents of domain.xml
  std::string live = {};  ///< what runs; empty unless the domain does
};

struct SnapshotRequest {
  std::string machine;
  std::string name;  ///< the part after '@'; empty: the time
  FreezeMode freeze = FreezeMode::never;
};

/// "offline", "crash" or "saved": what a snapshot of the machine as it is now would be.
std::string consistency(const Machine& machine);
/// What to say before a machine is snapshotted of which the host itself has a disk open; empty: it has none.
std::vector<std::string> warn_of_holders(const Machine& machine);

/// KIND-UTC, or KIND-UTC.N where a second repeats among `taken` (names without '@'). An empty kind: UTC alone.
std::string fresh_snapshot_name(const std::string& kind, UnixTime now, const std::vector<std::string>& taken);

/// True for exactly what fresh_snapshot_name makes with this kind.
bool is_named(const std::string& short_name, const std::string& kind);
/// True for a snapshot that somebody's timer took by the clock, by its name: ours, or a known tool's. It holds nothing
/// that a person asked for.
bool is_by_the_clock(const std::string& short_name);

/// The step that brings the saved definition up to date, nullopt when it is.
std::optional<Step> save_definition(const Machine& machine, const Definitions& definitions);

/// The step that snapshots all datasets of the machine at once, with its guest frozen when there is a freeze.
TakeSnapshots snapshot_all(const Machine& machine, const std::string& short_name, const std::string& by,
                           const std::string& op, std::vector<Freeze> freezes = {});

/// One atomic snapshot of all disks, firmware variables, TPM and definition. `taken`: snapshots it has already;
/// `freeze_problem`: why its guest cannot be frozen.
Result plan_snapshot(const View& view, const SnapshotRequest& request, const Definitions& definitions,
                     const std::vector<std::string>& taken, const std::vector<std::string>& block_jobs,
                     const Fresh& fresh, const std::optional<std::string>& freeze_problem = std::nullopt);

/// A snapshot of the whole machine: the same name on its datasets.
struct MachineSnapshot {
  std::string name;
  std::uint64_t createtxg = 0;
  UnixTime creation = 0;
  std::uint64_t used = 0;     ///< sum over the datasets
  std::uint64_t written = 0;  ///< sum over the datasets
  std::uint64_t holds = 0;
  std::string consistency;
  std::string by;
  std::vector<std::string> clones;   ///< volumes first
  std::vector<std::string> missing;  ///< datasets of the machine that lack it: it is not whole
  bool one_moment = true;            ///< false: its parts were taken one after another, by another tool
  std::vector<zfs::Snapshot> parts;
};

/// By createtxg, oldest first.
std::vector<MachineSnapshot> machine_snapshots(const Machine& machine, const std::vector<zfs::Snapshot>& snapshots);

/// Whose datasets these clones are: machines by name, each once, and datasets that are no machine's.
std::vector<std::string> owners_of_clones(const View& view, const std::vector<std::string>& clones);

/// The newest that kvm-clone took, the only one that it may use again; nullptr without one.
const MachineSnapshot* newest_for_clones(const std::vector<MachineSnapshot>& all);

/// `given` as a user may write it: "S", "@S", "web@S" or "rpool/vms/web@S". A Refusal when it is another machine's.
std::variant<std::string, Refusal> snapshot_argument(const Machine& machine, const std::string& given);

/// The snapshot that a user means by `given`, one of `all`; or why there is none.
std::variant<const MachineSnapshot*, Refusal> named_snapshot(const Machine& machine, const std::string& given,
                                                             const std::vector<MachineSnapshot>& all);

/// Destroys one snapshot of the whole machine; refused while it has clones or holds.
Result plan_snapshot_delete(const View& view, const std::string& machine, const std::string& given,
                            const std::vector<zfs::Snapshot>& snapshots, const Fresh& fresh);

}  // namespace kld::plan
