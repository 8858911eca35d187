// SPDX-License-Identifier: Apache-2.0
#include "run/executor.h"

#include <fmt/format.h>

#include "plan/recovery.h"

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

/// What stands on it must stay when it fails: a domain that could not be taken back keeps its datasets, a clone that
/// could not be demoted the history that it has, a file that could not be restored its file system in its place.
bool carries_others(const plan::Step& step) {
  return std::holds_alternative<plan::UndefineDomains>(step) || std::holds_alternative<plan::RedefineDomain>(step) ||
         std::holds_alternative<plan::StopDomain>(step) || std::holds_alternative<plan::PromoteDatasets>(step) ||
         std::holds_alternative<plan::RestoreFiles>(step);
}

/// False when the note that all is done could not be written.
bool closed(Record& record) {
  try {
    record.close();
  } catch (const Error&) {
    return false;
  }
  return true;
}

/// Undoes steps[0..last]. False when something is left for recovery.
bool undo_all(const plan::Plan& plan, std::size_t last, Runner& runner, Record& record, const Watch& watch) {
  try {
    record.begin_undo();
  } catch (const Error&) {
    // Recovery will undo what has not reached the commit point, and finish the rest: so must we, then.
    if (last >= plan.commit) return false;
  }
  try {
    if (!undo(plan.steps, last, runner, watch, {{}, [&](std::size_t step) { record.undone(step); }})) return false;
  } catch (const Interrupted&) {
    return false;
  }
  return closed(record);
}

}  // namespace

void execute(const plan::Plan& plan, Runner& runner, Record& record, const Watch& watch) {
  const std::size_t last_chance = plan::no_return(plan);
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const auto& step = plan.steps[i];
    try {
      if (i < last_chance && watch.interrupted && watch.interrupted()) throw Interrupted();
      attempt([&] {
        record.begin(i);
        tell(watch.step, step);
        runner.run(step);
      });
    } catch (Error& error) {
      const bool undone = plan::is_undone_when_it_fails(plan, i) && undo_all(plan, i, runner, record, watch);
      error.set_undone(undone);
      const bool settled =
          undone || (!plan::is_undone_when_it_fails(plan, i) && plan::is_whole_without(plan, i) && closed(record));
      if (!settled) error.set_exit(Exit::needs_recovery);
      throw;
    }
  }
  try {
    record.close();
  } catch (Error& error) {
    // All is done; what is left is the note of it. Recovery finds it behind its commit point and removes it.
    error.set_exit(Exit::needs_recovery);
    throw;
  }
}

bool undo(const std::vector<plan::Step>& steps, std::size_t last, Runner& runner, const Watch& watch,
          const UndoNotes& notes) {
  bool clean = true;
  for (std::size_t i = last + 1; i-- > 0;) {
    const auto inverse = plan::inverse(steps[i]);
    if (!inverse || notes.undone.contains(i)) continue;
    if (notes.other_boot && plan::is_left_to_the_host(steps, *inverse)) {
      // Who guards the start of domains must see what comes next.
      if (clean) tell(notes.note, i);
      continue;
    }
    // It would run on what could not be taken back.
    if (!clean && std::holds_alternative<plan::StartDomain>(*inverse)) continue;
    try {
      tell(watch.undo, *inverse);
      attempt([&] { runner.run(*inverse); });
      // Behind one that failed, others may have had nothing to do yet.
      if (clean) tell(notes.note, i);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      clean = false;
      tell(watch.undo_failed, error);
      if (carries_others(*inverse)) break;
    }
  }
  return clean;
}

}  // namespace kld::run
