// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "plan/plan.h"
#include "plan/recovery.h"

namespace kld::run {

/// Does one step, or throws Error. Real, dry and fake runners differ; the executor does not.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual void run(const plan::Step& step) = 0;
  /// Asked before a plan that another process left is finished: throws Error when a domain, but for those that the plan
  /// still undefines, or anything else uses what it is to destroy.
  virtual void require_unused(const plan::AtStake& /*stake*/) {}
  /// Asked before a plan that another process left is undone: throws Error when one of these, which it had started, is
  /// still defined although it was new, or runs. Whoever found it may have used it since.
  virtual void require_unused_since(const std::vector<plan::Started>& /*started*/) {}
  /// False when none of these datasets is there.
  virtual bool any_exists(const std::vector<std::string>& /*datasets*/) { return true; }
};

/// Where begun steps are noted. The real one is on disk.
class Record {
 public:
  virtual ~Record() = default;
  virtual void begin(std::size_t step) = 0;
  /// From here on everything is undone: recovery must not finish what this process has begun to take back.
  virtual void begin_undo() = 0;
  /// This step is taken back, and must not be again: its machine may be running by then.
  virtual void undone(std::size_t step) = 0;
  virtual void close() = 0;
};

/// Who watches; every member may be empty.
struct Watch {
  std::function<void(const plan::Step&)> step;  ///< about to run
  std::function<void(const plan::Step&)> undo;  ///< an inverse about to run
  std::function<void(const Error&)> undo_failed;
  std::function<bool()> interrupted;
};

/// Runs the plan. Until something is destroyed, a failure or an interruption is undone, last step first; from there on
/// the rest is finished. Throws the Error that ended it: with its own exit status when everything was undone, or all is
/// done but what the plan can do without, which undone() tells; with Exit::needs_recovery when something is left, which
/// the record then still holds.
void execute(const plan::Plan& plan, Runner& runner, Record& record, const Watch& watch);

/// What an undo knows of its steps.
struct UndoNotes {
  std::set<std::size_t> undone = {};           ///< earlier, since the host started
  std::function<void(std::size_t)> note = {};  ///< hears of each step that is taken back now
  /// The host has started anew since; what ran then is not started again.
  bool other_boot = false;
};

/// Runs the inverses of steps[0..last], last first, going on past one that fails; but a domain that cannot be taken
/// back keeps what it stands on, what cannot be demoted its history, a file that cannot be restored its place, and no
/// machine is started over what is left. True when none failed.
bool undo(const std::vector<plan::Step>& steps, std::size_t last, Runner& runner, const Watch& watch,
          const UndoNotes& notes);

}  // namespace kld::run
