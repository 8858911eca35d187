// SPDX-License-Identifier: Apache-2.0
#include "cmd/snapshot_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/process.h"
#include "base/size.h"
#include "cmd/expire.h"
#include "run/interrupt.h"
#include "run/open_entry.h"
#include "zfs/change.h"

namespace kld::cmd {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 5s;
constexpr char kName[] = "kvm-snapshot";

/// As it will be listed.
plan::MachineSnapshot fresh_snapshot(const std::vector<std::string>& parts, UnixTime now) {
  plan::MachineSnapshot snapshot;
  snapshot.name = parts.front().substr(parts.front().find('@') + 1);
  snapshot.createtxg = UINT64_MAX;
  snapshot.creation = now;
  snapshot.by = "auto";
  for (const auto& name : parts) {
    zfs::Snapshot part;
    part.name = name;
    part.user = {{zfs::property::by, "auto"}};
    snapshot.parts.push_back(std::move(part));
  }
  return snapshot;
}

std::string in_words(const Refusal& refusal) {
  return refusal.evidence.empty() ? refusal.message
                                  : fmt::format("{} ({})", refusal.message, fmt::join(refusal.evidence, "; "));
}

}  // namespace

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
  return {std::move(host), std::move(view), std::move(machines), std::move(snapshots), run::fresh().now};
}

void SnapshotRun::run() {
  cli::Context::require_root();
  for (const auto& name : flags_.machines) cli::Context::require_machine_name(name);
  run::catch_signals();
  if (has_no_root() || !is_the_only_run()) return;
  if (context_.common.dry_run && context_.common.json) context_.begin_array();
  lock_and_look();
  guard_pool();
  warn_of_sanoid();
  if (!context_.common.dry_run) cli::Context::remember(context_.root(), look_->host);
  hold_back();
  if (!flags_.prune && !full_) take();
  prune();
  if (flags_.prune) release();
  if (flags_.machines.empty()) expire();
  report();
  if (exit_ == Exit::done) return;
  context_.outcome = exit_;
  if (!context_.common.json) cli::report_error(Error("not everything was done", "see the warnings above"), false, true);
}

/// On a host that was never given a root the timer has nothing to do; one that is configured and missing is an error.
bool SnapshotRun::has_no_root() const {
  try {
    context_.root();
  } catch (const Refused& refused) {
    if (refused.refusal().kind != "no-root" || !flags_.machines.empty()) throw;
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
    for (const auto& name : entry.plan.machines) unrecovered[name] = entry.plan.operation;
  }
  std::erase_if(look_->machines, [&](const plan::AutoMachine& one) {
    const auto& name = one.machine.name;
    if (const auto who = busy_.find(name); who != busy_.end()) {
      context_.talk(fmt::format("Machine '{}' is left out: another command works on it ({})", name, who->second));
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
  const auto pool = zfs::find_pool(zfs::pool_of(look_->view.root));
  if (!pool || pool->size == 0) return;
  const auto share = static_cast<double>(pool->allocated) / static_cast<double>(pool->size);
  const auto percent = fmt::format("pool '{}' is {:.0f} % full", pool->name, 100 * share);
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

bool SnapshotRun::is_judged(const plan::AutoMachine& one) const {
  return one.out.empty() && one.problem.empty() && !held_back_.contains(one.machine.name);
}

/// Before anything new is taken, which would hide that the clock has jumped: what is held back stays so.
void SnapshotRun::hold_back() {
  for (const auto& one : look_->machines) {
    const auto& name = one.machine.name;
    if (!one.out.empty()) continue;
    if (!one.problem.empty()) fail(one.problem);
    if (!one.problem.empty() || flags_.prune) continue;
    auto snapshots = look_->snapshots[name];
    const bool jumped = plan::clock_jumped(snapshots, look_->now);
    const auto dataset = one.machine.datasets().front().name;
    if (!full_) {
      snapshots.push_back(fresh_snapshot({fmt::format("{}@auto-{}", dataset, format_utc(look_->now))}, look_->now));
    }
    const auto verdicts = plan::judge(look_->view, std::move(snapshots), one.rule, look_->now);
    const auto going = std::count_if(verdicts.begin(), verdicts.end(), [](const auto& v) { return v.goes; });
    const auto own = std::count_if(verdicts.begin(), verdicts.end(), [](const auto& v) { return v.automatic; });
    if (!one.held_back && !(jumped && plan::removes_most(verdicts))) continue;
    held_back_.insert(name);
    fail(fmt::format(
        "nothing of machine '{}' is pruned: the clock has jumped, or the host stood still, and {} of its "
        "{} automatic snapshots would go; look with 'kvm-snapshot {} --explain', accept with 'kvm-snapshot {} "
        "--prune'",
        name, going, own, name, name));
    std::map<std::string, std::string> reasons;
    if (!one.held_back) carry_out(plan::plan_hold_back(one.machine, look_->now, run::random_uuid()), reasons);
  }
}

void SnapshotRun::take() {
  plan::AutoFacts facts;
  {
    const Interruptible looking(run::interrupted);
    facts.definitions = run::definitions_of(look_->host, look_->view, look_->machines);
    facts.freeze_problems = run::freeze_problems(look_->host, look_->machines);
  }
  for (const auto& [name, snapshots] : look_->snapshots) {
    for (const auto& one : snapshots) facts.taken[name].push_back(one.name);
  }
  auto groups = plan::group_auto_snapshots(look_->view, look_->machines, facts, look_->now);
  for (const auto& one : groups.left_out) drop(one.machine, one.why.kind, in_words(one.why));
  for (auto& group : groups.groups) take_group(std::move(group));
}

/// Who is in the way of all is dropped, and the rest tried once more.
void SnapshotRun::take_group(plan::AutoGroup group) {
  std::optional<plan::AutoGroup> rest = std::move(group);
  for (int attempt = 0; attempt < 2 && rest; ++attempt) {
    const auto plan = plan::plan_group(*rest, run::random_uuid());
    for (const auto& warning : plan.warnings) context_.warn(warning);
    std::map<std::string, std::string> reasons;
    if (carry_out(plan, reasons)) {
      ++calls_;
      const bool lowered =
          std::any_of(frozen_.begin(), frozen_.end(), [](const auto& f) { return !f.problem.empty(); });
      const std::string consistency = lowered ? "crash" : rest->consistency;
      for (const auto& part : rest->parts) {
        taken_.push_back({{"machine", part.machine}, {"snapshot", part.snapshot}, {"consistency", consistency}});
        look_->snapshots[part.machine].push_back(fresh_snapshot(part.names, look_->now));
      }
      return;
    }
    auto dropped = plan::blamed(*rest, reasons);
    // Nobody is named, or the rest fails as well.
    const bool all = dropped.empty() || attempt == 1;
    for (const auto& part : rest->parts) {
      if (all) dropped.try_emplace(part.machine, reasons[""]);
    }
    for (const auto& [machine, why] : dropped) drop(machine, "failed", why);
    rest = plan::without(*rest, dropped);
  }
}

void SnapshotRun::prune() {
  std::vector<plan::Condemned> queue;
  std::vector<plan::SnapshotRange> early;
  std::size_t more = 0;
  const bool early_deletion = context_.config().early_deletion;
  for (const auto& one : look_->machines) {
    if (!is_judged(one)) continue;
    const auto& name = one.machine.name;
    auto verdicts = plan::judge(look_->view, look_->snapshots[name], one.rule, look_->now);
    if (full_) {
      auto stricter = plan::judge(look_->view, look_->snapshots[name], one.rule, look_->now, true);
      for (std::size_t i = 0; i < verdicts.size(); ++i)
        if (stricter[i].goes && !verdicts[i].goes) ++more;
      const auto ranges = plan::ranges_that_go(stricter);
      early.insert(early.end(), ranges.begin(), ranges.end());
      if (early_deletion) verdicts = std::move(stricter);
    }
    for (auto& verdict : verdicts) {
      if (verdict.goes) queue.push_back({name, std::move(verdict.snapshot)});
    }
  }
  if (more > 0) {
    context_.warn(
        fmt::format("early deletion {} {} snapshots that only the hourly rule keeps; with all that goes by the "
                    "rules that frees about {}{}",
                    early_deletion ? "removes" : "is off; it would remove", more, format_size(run::space_of(early)),
                    early_deletion ? "" : " (early_deletion = true in the configuration)"));
  }
  // They go in the order of their machines: who is through may be worked on again.
  const auto unlock = [&] {
    std::erase_if(locks_, [&](const auto& lock) {
      return !flags_.prune && std::none_of(queue.begin(), queue.end(),
                                           [&](const plan::Condemned& one) { return one.machine == lock.first; });
    });
  };
  plan::Pace pace;
  for (unlock(); !queue.empty(); unlock()) {
    if (run::interrupted()) throw Interrupted();
    auto batch = plan::take_batch(queue, pace.limit());
    const auto start = std::chrono::steady_clock::now();
    destroy(std::move(batch));
    pace.took(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

void SnapshotRun::destroy(std::vector<plan::Condemned> batch) {
  run::SnapshotClaims claims;
  if (!context_.common.dry_run) {
    std::erase_if(batch, [&](const plan::Condemned& one) {
      const bool claimed = !claims.take(one.machine, one.snapshot.name, run::Lock::exclusive);
      if (claimed) context_.talk(fmt::format("{}@{} stays: it is being cloned", one.machine, one.snapshot.name));
      return claimed;
    });
  }
  for (int attempt = 0; attempt < 2 && !batch.empty(); ++attempt) {
    std::map<std::string, std::string> reasons;
    if (carry_out(plan::plan_prune(batch, run::random_uuid()), reasons)) {
      for (const auto& one : batch) {
        pruned_.push_back({{"machine", one.machine}, {"snapshot", one.snapshot.name}});
      }
      return;
    }
    const auto all = reasons[""];
    const bool names_some = reasons.size() > 1;
    std::erase_if(batch, [&](const plan::Condemned& one) {
      std::string why = attempt == 1 || !names_some ? all : "";
      for (const auto& part : one.snapshot.parts) {
        if (const auto reason = reasons.find(part.name); reason != reasons.end())
          why = fmt::format("'{}': {}", part.name, reason->second);
      }
      if (why.empty()) return false;
      fail(fmt::format("{}@{} stays: {}", one.machine, one.snapshot.name, why));
      stays_.push_back({{"machine", one.machine}, {"snapshot", one.snapshot.name}, {"message", why}});
      return true;
    });
  }
}

/// A prune by hand has accepted what was held back.
void SnapshotRun::release() {
  for (const auto& one : look_->machines) {
    if (!one.held_back || !is_judged(one)) continue;
    std::map<std::string, std::string> reasons;
    if (!carry_out(plan::plan_release(one.machine, run::random_uuid()), reasons)) fail(reasons[""]);
  }
}

/// What rollbacks and deletions set aside, each under its machine's lock.
void SnapshotRun::expire() {
  locks_.clear();
  const bool in_report = context_.common.json && !context_.common.dry_run;
  if (in_report) context_.begin_array();
  const auto failed = expire_kept(context_);
  if (in_report) expired_ = context_.take_array();
  if (!failed.empty() && exit_ == Exit::done) exit_ = Exit::failed;
}

bool SnapshotRun::carry_out(const plan::Plan& plan, std::map<std::string, std::string>& reasons) {
  if (context_.common.dry_run) {
    context_.show(plan);
    return true;
  }
  try {
    frozen_ = context_.carry_out(plan, look_->host);
    return true;
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    // Whoever goes on would work on what is half done.
    if (error.exit() == Exit::needs_recovery) throw;
    if (const auto* rejected = dynamic_cast<const zfs::Rejected*>(&error)) reasons = rejected->reasons();
    reasons[""] = error.message();
    if (exit_ == Exit::done) exit_ = Exit::failed;
    return false;
  }
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
