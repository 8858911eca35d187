// SPDX-License-Identifier: Apache-2.0
#include "plan/prune.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/time.h"

namespace kld::plan {

void Pace::took(double seconds) {
  limit_ = seconds > 1.0 ? std::max<std::size_t>(limit_ / 2, 1) : std::min(limit_ * 2, kMost);
}

std::vector<Condemned> take_batch(std::vector<Condemned>& queue, std::size_t limit) {
  std::size_t parts = 0;
  std::size_t count = 0;
  for (; count < queue.size(); ++count) {
    parts += queue[count].snapshot.parts.size();
    if (count > 0 && parts > limit) break;
  }
  const auto end = queue.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Condemned> batch(std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
  queue.erase(queue.begin(), end);
  return batch;
}

std::vector<Spared> take_spared(std::vector<Condemned>& batch, const std::map<std::string, std::string>& errors,
                                const std::string& whole, bool last) {
  const bool all = last || errors.empty();
  std::vector<Spared> spared;
  std::vector<Condemned> rest;
  for (auto& one : batch) {
    std::string why = all ? whole : "";
    for (const auto& part : one.snapshot.parts) {
      if (const auto error = errors.find(part.name); error != errors.end())
        why = fmt::format("'{}': {}", part.name, error->second);
    }
    if (why.empty()) {
      rest.push_back(std::move(one));
    } else {
      spared.push_back({std::move(one), std::move(why)});
    }
  }
  // What the list names may be nothing of ours: nobody is left to be tried without.
  if (spared.empty()) {
    for (auto& one : rest) spared.push_back({std::move(one), whole});
    rest.clear();
  }
  batch = std::move(rest);
  return spared;
}

PruneChoice choose_prune(const View& view, const std::vector<AutoMachine>& machines,
                         const std::map<std::string, std::vector<MachineSnapshot>>& snapshots, UnixTime now, bool full,
                         bool early_deletion) {
  PruneChoice choice;
  for (const auto& one : machines) {
    const auto& name = one.machine.name;
    const auto own = snapshots.find(name);
    if (own == snapshots.end()) continue;
    auto verdicts = judge(view, own->second, one.rule, now);
    if (full) {
      auto stricter = judge(view, own->second, one.rule, now, true);
      for (std::size_t i = 0; i < verdicts.size(); ++i) {
        if (stricter[i].goes && !verdicts[i].goes) ++choice.more;
      }
      const auto ranges = ranges_that_go(stricter);
      choice.early.insert(choice.early.end(), ranges.begin(), ranges.end());
      if (early_deletion) verdicts = std::move(stricter);
    }
    for (auto& verdict : verdicts) {
      if (verdict.goes) choice.queue.push_back({name, std::move(verdict.snapshot)});
    }
  }
  return choice;
}

Caution caution(const View& view, const AutoMachine& one, std::vector<MachineSnapshot> snapshots, UnixTime now,
                bool takes_one, bool early) {
  const bool jumped = clock_jumped(snapshots, now);
  const bool any = std::any_of(snapshots.begin(), snapshots.end(), [](const auto& snapshot) {
    return snapshot.by == "auto" && is_named(snapshot.name, "auto");
  });
  if (!one.problem.empty()) return {false, jumped && !one.held_back && any};
  if (takes_one) {
    const auto dataset = one.machine.datasets().front().name;
    snapshots.push_back(as_taken({fmt::format("{}@auto-{}", dataset, format_utc(now))}, now));
  }
  const auto verdicts = judge(view, std::move(snapshots), one.rule, now, early);
  const auto count = [&](bool Verdict::*is) {
    return static_cast<std::size_t>(
        std::count_if(verdicts.begin(), verdicts.end(), [is](const Verdict& verdict) { return verdict.*is; }));
  };
  const bool waits = one.held_back || (jumped && removes_most(verdicts));
  return {!waits, waits && !one.held_back, count(&Verdict::goes), count(&Verdict::automatic)};
}

Plan plan_prune(const std::vector<Condemned>& batch, const std::string& op) {
  Plan plan{"prune", op, {}, {}, 0, {}};
  DestroySnapshots destroy;
  for (const auto& one : batch) {
    if (std::find(plan.machines.begin(), plan.machines.end(), one.machine) == plan.machines.end())
      plan.machines.push_back(one.machine);
    for (const auto& part : one.snapshot.parts) destroy.snapshots.push_back({part.name, part.guid});
  }
  plan.steps.emplace_back(std::move(destroy));
  return plan;
}

std::vector<SnapshotRange> ranges_that_go(const std::vector<Verdict>& verdicts) {
  std::map<std::string, std::vector<SnapshotRange>> by_dataset;
  std::map<std::string, bool> goes_on;
  for (const auto& verdict : verdicts) {
    for (const auto& part : verdict.snapshot.parts) {
      auto& ranges = by_dataset[part.dataset()];
      bool& open = goes_on[part.dataset()];
      if (verdict.goes && open) ranges.back().last = part.name;
      if (verdict.goes && !open) ranges.push_back({part.name, part.name});
      open = verdict.goes;
    }
  }
  std::vector<SnapshotRange> all;
  for (const auto& [dataset, ranges] : by_dataset) all.insert(all.end(), ranges.begin(), ranges.end());
  return all;
}

namespace {

Plan plan_mark(const Machine& machine, const std::string& now, const std::string& before, const std::string& op) {
  const auto dataset = machine.datasets().front();
  Plan plan{"hold-back", op, {machine.name}, {}, 0, {}};
  plan.steps.emplace_back(SetProperties{
      dataset.name, {{zfs::property::held_back, now}}, {{zfs::property::held_back, before}}, dataset.guid});
  return plan;
}

}  // namespace

Plan plan_hold_back(const Machine& machine, UnixTime now, const std::string& op) {
  return plan_mark(machine, format_utc(now), "", op);
}

Plan plan_release(const Machine& machine, const std::string& op) {
  return plan_mark(machine, "", machine.datasets().front().property(zfs::property::held_back), op);
}

}  // namespace kld::plan
