// SPDX-License-Identifier: Apache-2.0
#include "run/executor.h"

#include <fmt/format.h>

namespace kld::run {
namespace {

/// Whoever watches must not keep us from working: a closed terminal least of all.
template <typename Callback, typename... Arguments>
void tell(const Callback& callback, const Arguments&... arguments) noexcept {
  try {
    if (callback) callback(arguments...);
  } catch (...) {
    return;
  }
}

/// Runs `act`; what the standard library throws becomes an Error.
template <typename Act>
void attempt(Act&& act) {
  try {
    act();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& problem) {
    throw Error(problem.what());
  }
}

void finish_undone(const plan::Plan& plan, std::size_t last, Runner& runner, Record& record, const Watch& watch,
                   Error& error) {
  if (undo(plan.steps, last, runner, watch, false)) {
    record.close();
    return;
  }
  error.set_exit(Exit::needs_recovery);
}

}  // namespace

bool is_all_or_nothing(const plan::Step& step) { return std::holds_alternative<plan::DestroySnapshots>(step); }

void execute(const plan::Plan& plan, Runner& runner, Record& record, const Watch& watch) {
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const auto& step = plan.steps[i];
    try {
      if (i < plan.commit && watch.interrupted && watch.interrupted()) throw Interrupted();
      attempt([&] {
        record.begin(i);
        tell(watch.step, step);
        runner.run(step);
      });
    } catch (Error& error) {
      if (i < plan.commit || (i == plan.commit && is_all_or_nothing(step))) {
        finish_undone(plan, i, runner, record, watch, error);
      } else {
        error.set_exit(Exit::needs_recovery);
      }
      throw;
    }
  }
  try {
    record.close();
  } catch (Error& error) {
    // All is done; what is left is the note of it, which recovery removes.
    error.set_exit(Exit::needs_recovery);
    throw;
  }
}

bool undo(const std::vector<plan::Step>& steps, std::size_t last, Runner& runner, const Watch& watch, bool other_boot) {
  bool clean = true;
  for (std::size_t i = last + 1; i-- > 0;) {
    const auto inverse = plan::inverse(steps[i]);
    if (!inverse) continue;
    if (other_boot && std::holds_alternative<plan::StartDomain>(*inverse)) continue;
    try {
      tell(watch.undo, *inverse);
      attempt([&] { runner.run(*inverse); });
    } catch (const Error& error) {
      clean = false;
      tell(watch.undo_failed, error);
    }
  }
  return clean;
}

}  // namespace kld::run
