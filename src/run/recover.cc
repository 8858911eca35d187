// SPDX-License-Identifier: Apache-2.0
#include "run/recover.h"

#include <fmt/format.h>

#include "run/lock.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;

/// Runs what the dead process had not finished. A step that was cut off is repeated: steps behind a commit point
/// tolerate what is done already.
void finish(const plan::Plan& plan, std::size_t from, Runner& runner, const Watch& watch) {
  for (std::size_t i = from; i < plan.steps.size(); ++i) {
    if (watch.step) watch.step(plan.steps[i]);
    runner.run(plan.steps[i]);
  }
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
    if (entry.begun && *entry.begun >= entry.plan.commit) {
      result.how = Recovered::How::finished;
      finish(entry.plan, *entry.begun, runner, watch);
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

std::vector<Recovered> recover(const std::function<Runner&()>& runner, const Watch& watch,
                               const std::string& directory) {
  std::vector<Recovered> results;
  for (auto& entry : open_entries(directory)) {
    std::map<std::string, Lock> wanted;
    for (const auto& name : entry.plan.machines) wanted[name] = Lock::exclusive;
    const auto locks = Locks::take(wanted, 10s);
    results.push_back(recover_one(entry, runner(), watch));
  }
  return results;
}

}  // namespace kld::run
