// SPDX-License-Identifier: Apache-2.0
#include "run/recover.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/recovery.h"
#include "run/lock.h"
#include "zfs/change.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;

plan::Progress progress_of(const OpenEntry& entry) { return {entry.begun, entry.boot_id != current_boot_id()}; }

UndoNotes notes_of(OpenEntry& entry) {
  return {entry.undone, [&entry](std::size_t step) { entry.note_undone(step); }, progress_of(entry).other_boot};
}

/// Runs what the dead process had not finished. A step that was cut off is repeated: steps behind a commit point
/// tolerate what is done already. `reached` is the last that it tried. False: all is to be undone.
bool finish(OpenEntry& entry, Runner& runner, const Watch& watch, std::size_t& reached, std::string& problem) {
  const auto& plan = entry.plan;
  const auto progress = progress_of(entry);
  const auto first = plan::first_to_finish(plan, progress);
  // Somebody may have thought better of it, and taken the machine into use again.
  if (const auto stake = plan::at_stake(plan, first); !stake.datasets.empty()) runner.require_unused(stake);
  for (std::size_t i = first; i < plan.steps.size(); ++i) {
    const auto& step = plan.steps[i];
    // A host that starts anew starts what is marked for that, nothing else.
    const bool starts = std::holds_alternative<plan::StartDomain>(step);
    if (progress.other_boot && starts && plan::is_left_to_the_host(plan.steps, step)) continue;
    if (watch.step) watch.step(step);
    reached = std::max(reached, i);
    try {
      // Who guards the start of domains must know that this one is ours.
      if (starts) entry.note_begun(i);
      runner.run(step);
    } catch (const Error& error) {
      if (plan::takes_all_back(plan, i, progress)) {
        problem = error.message();
        return false;
      }
      if (plan::is_optional(step)) {
        problem = error.message();
        continue;
      }
      if (!plan::can_go_back(plan, i, progress)) throw;
      return false;
    }
  }
  return true;
}

/// The machines' locks. One that the operation only takes from may be in use for hours: it is shared then, and named.
Locks lock_all(const plan::Plan& plan, std::vector<std::string>& shared) {
  std::map<std::string, Lock> machines;
  for (const auto& name : plan.machines) {
    machines[name] = Lock::exclusive;
    if (plan::only_takes_from(plan, name)) shared.push_back(name);
  }
  if (!shared.empty()) {
    try {
      auto locks = Locks::take(machines, 200ms);
      shared.clear();
      return locks;
    } catch (const Refused&) {
      for (const auto& name : shared) machines[name] = Lock::shared;
    }
  }
  return Locks::take(machines, 10s);
}

}  // namespace

Recovered recover_one(OpenEntry& entry, Runner& runner, const Watch& watch) {
  Recovered result{entry.plan.operation, entry.plan.op, entry.plan.machines, Recovered::How::undone, entry.problem};
  const auto fail = [&](const std::string& problem) {
    result.how = Recovered::How::failed;
    result.problem = fmt::format("{} (its journal is {})", problem, entry.path());
    return result;
  };
  if (!entry.problem.empty()) return fail(fmt::format("it cannot be read: {}", entry.problem));
  try {
    auto last = plan::last_to_undo(entry.plan, progress_of(entry));
    bool finished = false;
    if (entry.committed()) {
      // Cleared away by hand since: there is nothing left to finish.
      const auto made = plan::made_by(entry.plan);
      finished = (made.empty() || runner.any_exists(made)) && finish(entry, runner, watch, *last, result.problem);
    }
    if (!finished && last) runner.require_unused_since(plan::started_by(entry.plan, *last, entry.undone));
    // Should this be cut off, it must not be finished half undone.
    if (!finished && entry.committed()) entry.begin_undo();
    if (finished) {
      result.how = Recovered::How::finished;
    } else if (last && !undo(entry.plan.steps, *last, runner, watch, notes_of(entry))) {
      return fail("something could not be undone");
    }
    entry.remove();
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    return fail(error.message());
  }
  return result;
}

std::vector<Recovered> recover(
    const std::function<Runner&(const OpenEntry&, const std::vector<std::string>& shared)>& runner, const Watch& watch,
    const std::function<bool(const OpenEntry&)>& wanted_entry, const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : open_entries(directory)) {
    if (!wanted_entry || wanted_entry(entry)) paths.push_back(entry.path());
  }
  std::vector<Recovered> results;
  for (const auto& path : paths) {
    Recovered result{"", "", {}, Recovered::How::failed, ""};
    try {
      // The machines first, then the entry: who waits for a machine finds its entry settled.
      OpenEntry seen(-1, path);
      read_entry(seen);
      result.operation = seen.plan.operation;
      result.op = seen.plan.op;
      result.machines = seen.plan.machines;
      std::vector<std::string> shared;
      const auto locks = lock_all(seen.plan, shared);
      auto entry = claim_entry(path);
      if (!entry) continue;
      if (entry->done) {
        entry->remove();
        continue;
      }
      // Without its pool everything would look undone, and come back half made with the next import.
      if (!entry->plan.root.empty() && !zfs::exists(entry->plan.root)) {
        throw Error(fmt::format("'{}' is not there: import its pool first", entry->plan.root));
      }
      // A start would fail there, and be taken for a reason to take all back.
      if (!entry->plan.root.empty() && !zfs::is_writable(entry->plan.root)) {
        throw Error(fmt::format("pool '{}' is imported read-only: it waits until it is imported writable",
                                zfs::pool_of(entry->plan.root)));
      }
      results.push_back(recover_one(*entry, runner(*entry, shared), watch));
    } catch (const Interrupted&) {
      throw;
    } catch (const Refused& refused) {
      result.problem = fmt::format("{} ({})", refused.message(), fmt::join(refused.refusal().evidence, ", "));
      results.push_back(std::move(result));
    } catch (const Error& error) {
      result.problem = error.message();
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace kld::run
