// SPDX-License-Identifier: Apache-2.0
// Which machines the hourly run snapshots, and which of them together in one call.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/retention.h"
#include "plan/retention_rule.h"
#include "plan/snapshot.h"
#include "plan/view.h"

namespace kld::plan {

/// A machine as the hourly run meets it.
struct AutoMachine {
  Machine machine;
  RetentionRule rule;
  std::string rule_text;   ///< "hourly=48"
  std::string problem;     ///< why its rule cannot be read; empty: it can. It is snapshotted, and nothing is removed
  std::string out;         ///< why it takes no part: "golden image"; empty: it does
  bool held_back = false;  ///< a prune was held back, and nobody has accepted it since
};

struct AutoRequest {
  std::vector<std::string> only;           ///< these machines; empty: all
  std::string rule;                        ///< of the configuration
  std::set<std::string> golden_with_rule;  ///< golden images that have a rule of their own
};

/// By name. A Refusal when one of `only` is no machine.
std::variant<std::vector<AutoMachine>, Refusal> auto_machines(const View& view, const AutoRequest& request);

struct AutoFacts {
  std::map<std::string, Definitions> definitions;         ///< by machine; `live` only where it may tell more
  std::map<std::string, std::vector<std::string>> taken;  ///< names of the snapshots that there are, by machine
  std::map<std::string, std::string> freeze_problems;     ///< why a machine that asks to be frozen cannot be
};

/// One machine's share of a snapshot call.
struct AutoPart {
  std::string machine;
  std::string snapshot;  ///< its name, behind '@'
  std::vector<std::string> names;
  std::vector<File> files;  ///< its saved definition, when it is not up to date
  std::vector<std::string> warnings;
};

/// What is snapshotted in one call.
struct AutoGroup {
  std::string consistency;
  std::vector<AutoPart> parts;
  std::vector<Freeze> freezes = {};  ///< of its one machine, which asks to be frozen
};

struct LeftOut {
  std::string machine;
  Refusal why;
};

struct AutoRun {
  std::vector<AutoGroup> groups;  ///< those with freezes first
  std::vector<LeftOut> left_out;
};

/// True for a machine that runs and asks to be frozen where that can be (com.kldload:freeze=try).
bool asks_for_freeze(const Machine& machine);

/// Groups the machines that take part by what their snapshots will be; leaves out those whose snapshot would not be
/// the whole machine.
AutoRun group_auto_snapshots(const View& view, const std::vector<AutoMachine>& machines, const AutoFacts& facts,
                             UnixTime now);

/// One call and the definitions that it takes along.
Plan plan_group(const AutoGroup& group, const std::string& op);

/// What a call has made of these names, as a listing would show it as the newest.
MachineSnapshot as_taken(const std::vector<std::string>& names, UnixTime now);

/// The machines that a call failed for, and the reason: those of which its error list names a snapshot or a dataset.
/// When it names nobody, or this was the `last` attempt, the others as well, for the reason of the call as a whole.
std::map<std::string, std::string> blamed(const AutoGroup& group, const std::map<std::string, std::string>& errors,
                                          const std::string& whole, bool last);
/// The group without these; nullopt when nothing is left.
std::optional<AutoGroup> without(const AutoGroup& group, const std::map<std::string, std::string>& machines);
/// Takes those out of a group that write a definition first, each as a group of its own: a file that cannot be written
/// names no dataset that could be dropped for it. None of a group of one.
std::vector<AutoGroup> set_apart(AutoGroup& group);
/// True when the newest automatic snapshot is more than two hours old; without any there is none that is late.
bool automatic_is_late(const std::vector<MachineSnapshot>& snapshots, UnixTime now);

/// Above these shares of the pool there is a warning, and there are no new automatic snapshots.
inline constexpr double kWarnAt = 0.80;
inline constexpr double kStopAt = 0.90;

/// Machines whose datasets sanoid snapshots, too.
std::set<std::string> snapshotted_by_sanoid(const std::map<std::string, std::vector<MachineSnapshot>>& snapshots);

}  // namespace kld::plan
