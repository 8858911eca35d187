// SPDX-License-Identifier: Apache-2.0
#include "run/recover.h"

#include <fmt/format.h>

#include <algorithm>

#include "run/lock.h"
#include "zfs/change.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;

/// What a finished operation can do without: the machine is whole, and may have been used since.
bool is_optional(const plan::Step& step) {
  return std::holds_alternative<plan::StartDomain>(step) || std::holds_alternative<plan::AwaitDevices>(step);
}

/// What a power cut takes with it unless a later step brought it to disk.
bool is_volatile(const plan::Step& step) {
  const auto* files = std::get_if<plan::WriteFiles>(&step);
  return (files != nullptr && !files->synced) || std::holds_alternative<plan::WriteSeeds>(step) ||
         std::holds_alternative<plan::MountFilesystems>(step);
}

bool brings_to_disk(const plan::Step& step) {
  const auto* define = std::get_if<plan::DefineDomains>(&step);
  const auto* seeds = std::get_if<plan::WriteSeeds>(&step);
  return (define != nullptr && !define->sync.empty()) || (seeds != nullptr && !seeds->sync.empty()) ||
         std::holds_alternative<plan::TakeSnapshots>(step);
}

/// The step that an operation behind its commit point goes on with: the last that began, or an earlier one whose work
/// went with the power.
std::size_t first_to_run(const plan::Plan& plan, std::size_t begun, bool other_boot) {
  std::size_t first = begun;
  if (!other_boot) return first;
  for (std::size_t i = begun; i-- > plan.commit && !brings_to_disk(plan.steps[i]);) {
    if (is_volatile(plan.steps[i])) first = i;
  }
  return first;
}

/// What gives a machine nothing yet that somebody could use.
bool is_preparing(const plan::Step& step) {
  return std::holds_alternative<plan::MountFilesystems>(step) || std::holds_alternative<plan::CopyFiles>(step) ||
         std::holds_alternative<plan::WriteFiles>(step) || std::holds_alternative<plan::WriteSeeds>(step);
}

/// True when a step behind the commit point that fails in recovery can be undone with all before it: it could not do
/// anything, or libvirt knows of nothing yet. After a power cut what is noted tells too little for the latter.
bool can_go_back(const OpenEntry& entry, std::size_t failed, bool other_boot) {
  const auto& steps = entry.plan.steps;
  if (failed == entry.plan.commit && is_all_or_nothing(steps[failed])) return true;
  const auto first = steps.begin() + static_cast<std::ptrdiff_t>(entry.plan.commit);
  const auto last = steps.begin() + static_cast<std::ptrdiff_t>(std::max(failed, *entry.begun));
  return !other_boot && std::all_of(first, last + 1, is_preparing);
}

/// Runs what the dead process had not finished. A step that was cut off is repeated: steps behind a commit point
/// tolerate what is done already. `reached` is the last that it tried. False: all is to be undone.
bool finish(const OpenEntry& entry, Runner& runner, const Watch& watch, std::size_t& reached, std::string& problem) {
  const auto& plan = entry.plan;
  const bool other_boot = entry.boot_id != current_boot_id();
  for (std::size_t i = first_to_run(plan, *entry.begun, other_boot); i < plan.steps.size(); ++i) {
    const auto& step = plan.steps[i];
    // A host that starts anew starts what is marked for that, nothing else.
    if (other_boot && std::holds_alternative<plan::StartDomain>(step)) continue;
    if (watch.step) watch.step(step);
    reached = std::max(reached, i);
    try {
      runner.run(step);
    } catch (const Error& error) {
      if (is_optional(step)) {
        problem = error.message();
        continue;
      }
      if (!can_go_back(entry, i, other_boot)) throw;
      return false;
    }
  }
  return true;
}

/// The last step that may have run; none: nothing was done. Notes before the commit point are not synced one by one, so
/// after a power cut each of those steps may have run; every inverse tolerates that its step did not.
std::optional<std::size_t> last_to_undo(const OpenEntry& entry) {
  if (entry.boot_id == current_boot_id() || entry.plan.commit == 0) return entry.begun;
  if (entry.plan.steps.empty()) return std::nullopt;
  return std::max(entry.begun.value_or(0), std::min(entry.plan.commit, entry.plan.steps.size()) - 1);
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
    auto last = last_to_undo(entry);
    if (entry.committed() && finish(entry, runner, watch, *last, result.problem)) {
      result.how = Recovered::How::finished;
    } else if (last && !undo(entry.plan.steps, *last, runner, watch, entry.boot_id != current_boot_id())) {
      return fail("something could not be undone");
    }
    entry.remove();
  } catch (const Error& error) {
    return fail(error.message());
  }
  return result;
}

std::vector<Recovered> recover(const std::function<Runner&(const OpenEntry&)>& runner, const Watch& watch,
                               const std::function<bool(const OpenEntry&)>& wanted_entry,
                               const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : open_entries(directory)) {
    if (!wanted_entry || wanted_entry(entry)) paths.push_back(entry.path());
  }
  std::vector<Recovered> results;
  for (const auto& path : paths) {
    Recovered result{"", "", {}, Recovered::How::failed, ""};
    try {
      // The machines first, then the entry: who waits for a machine finds its entry settled.
      std::map<std::string, Lock> machines;
      {
        OpenEntry seen(-1, path);
        read_entry(seen);
        for (const auto& name : seen.plan.machines) machines[name] = Lock::exclusive;
        result.operation = seen.plan.operation;
        result.op = seen.plan.op;
        result.machines = seen.plan.machines;
      }
      const auto locks = Locks::take(machines, 10s);
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
      results.push_back(recover_one(*entry, runner(*entry), watch));
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      result.problem = error.message();
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace kld::run
