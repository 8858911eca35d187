// SPDX-License-Identifier: Apache-2.0
// How a run begins and ends; what it does in between is in snapshot_acts.cc.
#include "cmd/snapshot_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/process.h"
#include "plan/recovery.h"
#include "run/interrupt.h"
#include "run/open_entry.h"

namespace kld::cmd {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 5s;
constexpr char kName[] = "kvm-snapshot";

}  // namespace

std::string in_words(const Refusal& refusal) {
  return refusal.evidence.empty() ? refusal.message
                                  : fmt::format("{} ({})", refusal.message, fmt::join(refusal.evidence, "; "));
}

AutoLook look_at_all(const cli::Context& context, const SnapshotFlags& flags) {
  const Interruptible looking(run::interrupted);
  auto host = context.look();
  auto view = run::view_with_holders(host);
  const plan::AutoRequest request{flags.machines, context.config().keep.value_or(plan::kDefaultRetention),
                                  run::golden_with_rule(view)};
  auto found = plan::auto_machines(view, request);
  if (const auto* refusal = std::get_if<Refusal>(&found)) throw Refused(*refusal);
  auto machines = std::get<std::vector<plan::AutoMachine>>(std::move(found));
  auto snapshots = run::snapshots_of(machines);
  const auto share = run::share_of_pool(view.root);
  return {std::move(host), std::move(view), std::move(machines), std::move(snapshots), run::fresh().now, share};
}

void SnapshotRun::run() {
  cli::Context::require_root();
  for (const auto& name : flags_.machines) cli::Context::require_machine_name(name);
  run::catch_signals();
  if (has_no_root() || !is_the_only_run()) return;
  if (context_.common.dry_run && context_.common.json) context_.begin_array();
  lock_and_look();
  cli::Context::require_writable(look_->host);
  guard_pool();
  warn_of_sanoid();
  if (!context_.common.dry_run) cli::Context::remember(context_.root(), look_->host);
  try {
    hold_back();
    if (!flags_.prune && !full_) take();
    prune();
    if (flags_.prune) release();
    if (flags_.machines.empty()) expire();
  } catch (Interrupted& interrupted) {
    if (!taken_.empty() || !pruned_.empty() || !expired_.empty()) interrupted.set_undone(false);
    throw;
  }
  report();
  if (exit_ == Exit::done) return;
  context_.outcome = exit_;
  Error partly("not everything was done", "see the warnings above");
  partly.set_undone(false);
  if (!context_.common.json) cli::report_error(partly, false, true);
}

/// On a host that was never given a root the timer has nothing to do; one that is configured and missing is an error.
bool SnapshotRun::has_no_root() const {
  try {
    context_.root();
  } catch (const Refused& refused) {
    // Machines without a root: it was given by a flag or a variable that the timer does not have.
    if (refused.refusal().kind != "no-root" || !flags_.machines.empty() || !run::likely_machines().empty()) throw;
    skip(refused.message());
    return true;
  }
  return false;
}

void SnapshotRun::skip(const std::string& why) const {
  if (context_.common.json) context_.answer(nlohmann::json{{"skipped", why}});
  if (!context_.common.json && !context_.common.quiet) context_.answer(why + ": nothing to do.\n");
}

bool SnapshotRun::is_the_only_run() {
  if (context_.common.dry_run) return true;
  const bool by_hand = flags_.prune || !flags_.machines.empty();
  try {
    only_ = run::Locks::take_command(kName, by_hand ? kPatience : 0s);
  } catch (const Refused& refused) {
    if (by_hand) throw;
    // It may do less than this one would.
    if (context_.common.quiet && !context_.common.json) context_.warn(in_words(refused.refusal()));
    skip(in_words(refused.refusal()));
    return false;
  }
  return true;
}

void SnapshotRun::lock_and_look() {
  const bool touches = !context_.common.dry_run;
  const auto& given = flags_.machines;
  std::set<std::string> names(given.begin(), given.end());
  if (given.empty()) {
    for (const auto& name : run::likely_machines()) names.insert(name);
  }
  if (touches) {
    run::Locks::expect_many();
    context_.recover([&](const run::OpenEntry& entry) {
      const auto& machines = entry.plan.machines;
      return given.empty() ||
             std::any_of(machines.begin(), machines.end(), [&](const auto& name) { return names.contains(name); });
    });
  }
  // Locked before they are looked at. Who has no state is known only then: another look.
  for (std::size_t known = SIZE_MAX; known != names.size();) {
    if (touches) lock(names);
    look_.emplace(look_at_all(context_, flags_));
    known = names.size();
    if (!touches) break;
    for (const auto& one : look_->machines) names.insert(one.machine.name);
  }
  leave_out_unready();
}

void SnapshotRun::lock(const std::set<std::string>& names) {
  for (const auto& name : names) {
    if (locks_.contains(name) || busy_.contains(name)) continue;
    try {
      locks_[name] = run::Locks::take({{name, run::Lock::shared}}, flags_.machines.empty() ? 0s : kPatience);
    } catch (const Refused& refused) {
      locks_.erase(name);
      if (!flags_.machines.empty()) throw;
      busy_[name] = fmt::format("{}", fmt::join(refused.refusal().evidence, "; "));
    }
  }
}

/// Those that others work on, and those that a dead command has left half done.
void SnapshotRun::leave_out_unready() {
  std::map<std::string, std::string> unrecovered;
  for (const auto& entry : run::open_entries()) {
    for (const auto& name : entry.plan.machines) {
      if (plan::works_on(entry.plan, name)) unrecovered[name] = entry.plan.operation;
    }
  }
  std::erase_if(look_->machines, [&](const plan::AutoMachine& one) {
    const auto& name = one.machine.name;
    if (const auto who = busy_.find(name); who != busy_.end()) {
      const auto why = fmt::format("another command works on it ({})", who->second);
      // Now and then it is in the way; one that waits at a question would be for days.
      if (one.out.empty() && plan::automatic_is_late(look_->snapshots[name], look_->now)) {
        drop(name, "locked", why);
        return true;
      }
      context_.warn(fmt::format("machine '{}' is left out: {}", name, why));
      left_out_.push_back({{"machine", name}, {"kind", "locked"}, {"message", who->second}});
      return true;
    }
    if (!one.out.empty() && !flags_.machines.empty()) {
      context_.talk(fmt::format("Machine '{}' takes no part: {}", name, one.out));
      left_out_.push_back({{"machine", name}, {"kind", "opted-out"}, {"message", one.out}});
    }
    const auto operation = unrecovered.find(name);
    if (operation == unrecovered.end() || !one.out.empty()) return false;
    drop(name, "needs-recovery",
         fmt::format("an earlier '{}' was cut off and could not be recovered: run 'kld recover'", operation->second));
    return true;
  });
}

void SnapshotRun::guard_pool() {
  const auto share = look_->pool_share;
  const auto percent = fmt::format("pool '{}' is {:.0f} % full", zfs::pool_of(look_->view.root), 100 * share);
  full_ = share > plan::kStopAt;
  if (full_ && !flags_.prune) {
    fail(fmt::format("{}: above {:.0f} % there are no new automatic snapshots", percent, 100 * plan::kStopAt));
  } else if (share > plan::kWarnAt) {
    context_.warn(
        fmt::format("{}: above {:.0f} % there will be no new automatic snapshots", percent, 100 * plan::kStopAt));
  }
}

void SnapshotRun::warn_of_sanoid() {
  const auto machines = plan::snapshotted_by_sanoid(look_->snapshots);
  if (machines.empty()) return;
  context_.warn(
      fmt::format("sanoid snapshots these machines, too, one dataset after the other: {}; its snapshots "
                  "(autosnap_*) are left to it",
                  fmt::join(machines, ", ")));
}

void SnapshotRun::fail(const std::string& warning) {
  if (exit_ == Exit::done) exit_ = Exit::failed;
  context_.warn(warning);
}

void SnapshotRun::drop(const std::string& machine, const std::string& kind, const std::string& why) {
  fail(fmt::format("machine '{}' has no new snapshot: {}", machine, why));
  left_out_.push_back({{"machine", machine}, {"kind", kind}, {"message", why}});
}

void SnapshotRun::report() {
  if (context_.common.dry_run) {
    context_.finish_array();
    return;
  }
  if (context_.common.json) {
    context_.answer(nlohmann::json{{"taken", taken_},
                                   {"left_out", left_out_},
                                   {"pruned", pruned_},
                                   {"stays", stays_},
                                   {"held_back", held_back_},
                                   {"expired", expired_},
                                   {"calls", calls_},
                                   {"seconds", context_.seconds_since_start()}});
  } else if (!context_.common.quiet) {
    context_.answer(fmt::format("Snapshots of {} machines taken in {} calls, {} snapshots pruned in {:.2f} seconds.\n",
                                taken_.size(), calls_, pruned_.size(), context_.seconds_since_start()));
  }
}

}  // namespace kld::cmd
