// SPDX-License-Identifier: Apache-2.0
#include "run/recover.h"

#include <fmt/format.h>

#include "run/lock.h"
#include "zfs/change.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;

/// Runs what the dead process had not finished. A step that was cut off is repeated: steps behind a commit point
/// tolerate what is done already. False when the commit step itself could not do anything: then undo.
bool finish(const plan::Plan& plan, std::size_t from, Runner& runner, const Watch& watch) {
  for (std::size_t i = from; i < plan.steps.size(); ++i) {
    if (watch.step) watch.step(plan.steps[i]);
    try {
      runner.run(plan.steps[i]);
    } catch (const Error&) {
      if (i != plan.commit || !is_all_or_nothing(plan.steps[i])) throw;
      return false;
    }
  }
  return true;
}

}  // namespace

Recovered recover_one(OpenEntry& entry, Runner& runner, const Watch& watch) {
  Recovered result{entry.plan.operation, entry.plan.op, entry.plan.machines, Recovered::How::undone, entry.problem};
  const auto fail = [&](const std::string& problem) {
    result.how = Recovered::How::failed;
    result.problem = problem;
    return result;
  };
  if (!entry.problem.empty())
    return fail(fmt::format("its journal '{}' cannot be read: {}", entry.path(), entry.problem));
  try {
    const bool committed = entry.begun && *entry.begun >= entry.plan.commit;
    if (committed && finish(entry.plan, *entry.begun, runner, watch)) {
      result.how = Recovered::How::finished;
    } else if (entry.begun &&
               !undo(entry.plan.steps, *entry.begun, runner, watch, entry.boot_id != current_boot_id())) {
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
  std::vector<Recovered> results;
  for (auto& entry : open_entries(directory)) {
    if (wanted_entry && !wanted_entry(entry)) continue;
    std::map<std::string, Lock> wanted;
    for (const auto& name : entry.plan.machines) wanted[name] = Lock::exclusive;
    try {
      const auto locks = Locks::take(wanted, 10s);
      // Without its pool everything would look undone, and come back half made with the next import.
      if (!entry.plan.root.empty() && !zfs::exists(entry.plan.root)) {
        throw Error(fmt::format("'{}' is not there: import its pool first", entry.plan.root));
      }
      results.push_back(recover_one(entry, runner(entry), watch));
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      results.push_back(
          {entry.plan.operation, entry.plan.op, entry.plan.machines, Recovered::How::failed, error.message()});
    }
  }
  return results;
}

}  // namespace kld::run
