// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "base/table.h"
#include "cmd/snapshot_run.h"
#include "plan/kept.h"
#include "zfs/dataset.h"

namespace kld::cmd {
namespace {

/// A machine's snapshots with what becomes of them, as the next run would decide.
struct Explained {
  std::vector<plan::Verdict> verdicts;
  std::string whole;  ///< why none of them goes; empty: each has its own verdict
};

Explained explain(const AutoLook& look, const plan::AutoMachine& one, bool early_deletion) {
  const bool full = look.pool_share > plan::kStopAt;
  auto rule = one.rule;
  Explained explained;
  if (!one.problem.empty()) explained.whole = "its rule cannot be read";
  if (!one.out.empty()) explained.whole = one.out;
  if (!explained.whole.empty()) rule = {};
  const auto& snapshots = look.snapshots.at(one.machine.name);
  auto then = snapshots;
  if (explained.whole.empty() && !full) {
    // As the next run finds them, which takes one first.
    const auto name = fmt::format("{}@auto-{}", one.machine.datasets().front().name, format_utc(look.now));
    then.push_back(plan::as_taken({name}, look.now));
  }
  explained.verdicts = plan::judge(look.view, then, rule, look.now, full && early_deletion);
  explained.verdicts.resize(snapshots.size());
  if (one.held_back) explained.whole = "held back until 'kvm-snapshot --prune'";
  if (explained.whole.empty() && plan::clock_jumped(snapshots, look.now) && plan::removes_most(explained.verdicts)) {
    explained.whole = "will be held back: the clock has jumped";
  }
  for (auto& verdict : explained.verdicts) {
    if (explained.whole.empty() || !verdict.goes) continue;
    verdict.goes = false;
    verdict.reason = one.out.empty() && one.problem.empty() ? fmt::format("{}; {}", explained.whole, verdict.reason)
                                                            : explained.whole;
  }
  return explained;
}

std::map<std::string, std::string> expiries(const AutoLook& look) {
  std::vector<std::string> containers;
  for (const auto& one : look.machines) {
    for (const auto& kept : plan::kept_of(look.view, one.machine.name)) containers.push_back(kept.container.name);
  }
  const auto values = zfs::local_property(zfs::property::expires, containers);
  return {values.begin(), values.end()};
}

}  // namespace

void explain_retention(cli::Context& context, const SnapshotFlags& flags) {
  cli::Context::require_root();
  for (const auto& name : flags.machines) cli::Context::require_machine_name(name);
  const auto look = look_at_all(context, flags);
  auto expires = expiries(look);
  nlohmann::json array = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : look.machines) {
    const auto& name = one.machine.name;
    const auto explained = explain(look, one, context.config().early_deletion);
    nlohmann::json snapshots = nlohmann::json::array();
    nlohmann::json set_aside = nlohmann::json::array();
    for (const auto& verdict : explained.verdicts) {
      const auto& snapshot = verdict.snapshot;
      rows.push_back({name, "@" + snapshot.name, format_age(look.now - snapshot.creation),
                      verdict.goes ? "goes" : "stays", verdict.reason});
      snapshots.push_back({{"name", snapshot.name},
                           {"created", format_utc(snapshot.creation)},
                           {"automatic", verdict.automatic},
                           {"goes", verdict.goes},
                           {"reason", verdict.reason}});
    }
    for (const auto& kept : plan::kept_of(look.view, name)) {
      const auto& until = expires[kept.container.name];
      rows.push_back({name, ".kept/" + kept.name, "-", "stays", fmt::format("kept: undo until {}", or_dash(until))});
      set_aside.push_back({{"name", kept.name}, {"expires", until}});
    }
    if (explained.verdicts.empty()) rows.push_back({name, "-", "-", "-", or_dash(one.out)});
    if (!one.problem.empty()) context.warn(one.problem);
    array.push_back({{"machine", name},
                     {"keep", one.rule_text},
                     {"problem", one.problem},
                     {"left_out", one.out},
                     {"held_back", one.held_back},
                     {"snapshots", std::move(snapshots)},
                     {"kept", std::move(set_aside)}});
  }
  if (context.common.json) return context.answer(array);
  context.answer(format_table({{"MACHINE"}, {"SNAPSHOT"}, {"AGE", Align::right}, {"VERDICT"}, {"WHY"}}, rows));
}

}  // namespace kld::cmd
