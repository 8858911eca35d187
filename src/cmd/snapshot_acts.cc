// SPDX-License-Identifier: Apache-2.0
// What a run of kvm-snapshot does: holds back, takes, prunes.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/process.h"
#include "base/size.h"
#include "cmd/expire.h"
#include "cmd/snapshot_run.h"
#include "run/freeze.h"
#include "run/interrupt.h"
#include "zfs/change.h"

namespace kld::cmd {

namespace {

/// The reason of a failed call as a whole, which is not one of a name.
std::string take_whole(std::map<std::string, std::string>& reasons) {
  auto found = reasons.extract("");
  return found ? std::move(found.mapped()) : std::string();
}

}  // namespace

bool SnapshotRun::is_judged(const plan::AutoMachine& one) const {
  return one.out.empty() && one.problem.empty() && !held_back_.contains(one.machine.name);
}

/// Before anything new is taken, which would hide that the clock has jumped: what is held back stays so.
void SnapshotRun::hold_back() {
  for (const auto& one : look_->machines) {
    const auto& name = one.machine.name;
    if (!one.out.empty()) continue;
    if (!one.problem.empty()) fail(one.problem);
    if (flags_.prune) continue;
    const auto caution = plan::caution(look_->view, one, look_->snapshots[name], look_->now, !full_,
                                       full_ && context_.config().early_deletion);
    if (!caution.prunes && one.problem.empty()) {
      held_back_.insert(name);
      fail(fmt::format(
          "nothing of machine '{}' is pruned: its newest automatic snapshot is not of the last day (the clock has "
          "jumped, the host stood still, or it was brought back), and {} of its {} automatic snapshots would go; look "
          "with 'kvm-snapshot {} --explain', accept with 'kvm-snapshot {} --prune'",
          name, caution.going, caution.automatic, name, name));
    }
    if (caution.mark) mark_held_back(one);
  }
  std::erase_if(look_->machines, [&](const auto& one) { return unmarked_.contains(one.machine.name); });
}

/// A new snapshot would hide that the clock has jumped: without the mark there is none.
void SnapshotRun::mark_held_back(const plan::AutoMachine& one) {
  const auto& name = one.machine.name;
  std::map<std::string, std::string> reasons;
  if (carry_out(plan::plan_hold_back(one.machine, look_->now, run::random_uuid()), reasons)) return;
  unmarked_.insert(name);
  drop(name, "failed", fmt::format("that its prune is held back could not be noted: {}", reasons[""]));
}

void SnapshotRun::take() {
  plan::AutoFacts facts;
  std::map<std::string, std::string> unreadable;
  {
    const Interruptible looking(run::interrupted);
    facts.definitions = run::definitions_of(look_->host, look_->view, look_->machines, unreadable);
    facts.freeze_problems = run::freeze_problems(look_->host, look_->machines);
  }
  auto machines = look_->machines;
  std::erase_if(machines, [&](const auto& one) { return unreadable.contains(one.machine.name); });
  for (const auto& [name, why] : unreadable) drop(name, "failed", why);
  for (const auto& [name, snapshots] : look_->snapshots) {
    for (const auto& one : snapshots) facts.taken[name].push_back(one.name);
  }
  auto groups = plan::group_auto_snapshots(look_->view, machines, facts, look_->now);
  for (const auto& one : groups.left_out) drop(one.machine, one.why.kind, in_words(one.why));
  for (auto& group : groups.groups) take_group(std::move(group));
}

/// Machines that were shut off when they were looked at, and are not any more: their snapshots say so.
std::set<std::string> SnapshotRun::lower_labels_of_started(const plan::AutoGroup& group) {
  std::set<std::string> started;
  if (context_.common.dry_run || (group.consistency != "offline" && group.consistency != "saved")) return started;
  try {
    std::set<std::string> active;
    for (const auto& domain : look_->host.libvirt().list(virt::Details::none)) {
      if (virt::is_active(domain.state)) active.insert(domain.uuid);
    }
    for (const auto& part : group.parts) {
      const auto machine = plan::find_machine(look_->view, part.machine);
      if (!machine || !machine->domain || !active.contains(machine->domain->uuid)) continue;
      started.insert(part.machine);
      run::lower_label({part.names, {}});
    }
  } catch (const Error& error) {
    fail(fmt::format("whether a machine was started meanwhile is not known: {}", error.message()));
  }
  return started;
}

/// Who is in the way of all is dropped, and the rest tried once more.
/// @param last there is no other attempt
void SnapshotRun::take_group(plan::AutoGroup group, bool last) {
  std::optional<plan::AutoGroup> rest = std::move(group);
  for (int attempt = last ? 1 : 0; attempt < 2 && rest; ++attempt) {
    const auto before = rest->parts.size();
    const auto plan = plan::plan_group(*rest, run::random_uuid());
    for (const auto& warning : plan.warnings) context_.warn(warning);
    std::map<std::string, std::string> reasons;
    if (carry_out(plan, reasons)) {
      ++calls_;
      const bool thawed_late =
          std::any_of(frozen_.begin(), frozen_.end(), [](const auto& f) { return !f.problem.empty(); });
      const auto started = lower_labels_of_started(*rest);
      for (const auto& part : rest->parts) {
        const bool lowered = thawed_late || started.contains(part.machine);
        taken_.push_back({{"machine", part.machine},
                          {"snapshot", part.snapshot},
                          {"consistency", lowered ? "crash" : rest->consistency}});
        look_->snapshots[part.machine].push_back(plan::as_taken(part.names, look_->now));
      }
      return;
    }
    const auto whole = take_whole(reasons);
    if (attempt == 0 && reasons.empty()) {
      // Nobody is named: it may be a definition that cannot be written.
      for (auto& apart : plan::set_apart(*rest)) take_group(std::move(apart), true);
      if (rest->parts.empty()) return;
      if (rest->parts.size() < before) continue;
    }
    const auto dropped = plan::blamed(*rest, reasons, whole, attempt == 1);
    for (const auto& [machine, why] : dropped) drop(machine, "failed", why);
    rest = plan::without(*rest, dropped);
  }
}

void SnapshotRun::prune() {
  const bool early_deletion = context_.config().early_deletion;
  auto machines = look_->machines;
  std::erase_if(machines, [&](const auto& one) { return !is_judged(one); });
  auto chosen = plan::choose_prune(look_->view, machines, look_->snapshots, look_->now, full_, early_deletion);
  if (chosen.more > 0) {
    context_.warn(fmt::format(
        "early deletion {} {} snapshots that only the hourly rule keeps; with all that goes by the "
        "rules that frees about {}{}",
        early_deletion ? "removes" : "is off; it would remove", chosen.more, format_size(run::space_of(chosen.early)),
        early_deletion ? "" : " (early_deletion = true in the configuration)"));
  }
  // They go in the order of their machines: who is through may be worked on again.
  auto& queue = chosen.queue;
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
    const auto whole = take_whole(reasons);
    for (const auto& [one, why] : plan::take_spared(batch, reasons, whole, attempt == 1)) {
      fail(fmt::format("{}@{} stays: {}", one.machine, one.snapshot.name, why));
      stays_.push_back({{"machine", one.machine}, {"snapshot", one.snapshot.name}, {"message", why}});
    }
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
  const auto& view = look_->view;
  const bool any = std::any_of(view.datasets.begin(), view.datasets.end(), [&](const zfs::Dataset& dataset) {
    return zfs::is_below(dataset.name, view.root + "/.kept");
  });
  // Another look, which costs as much as the first.
  if (!any) return;
  locks_.clear();
  const bool in_report = context_.common.json && !context_.common.dry_run;
  if (in_report) context_.begin_array();
  try {
    const auto failed = expire_kept(context_);
    if (!failed.empty() && exit_ == Exit::done) exit_ = Exit::failed;
    if (context_.outcome == Exit::needs_recovery) exit_ = Exit::needs_recovery;
  } catch (const Interrupted&) {
    if (in_report) expired_ = context_.take_array();
    throw;
  } catch (const Error& error) {
    // What was taken and pruned is told all the same.
    if (error.exit() == Exit::needs_recovery) exit_ = Exit::needs_recovery;
    fail(fmt::format("what is set aside was not looked at: {}", error.message()));
  }
  if (in_report) expired_ = context_.take_array();
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

}  // namespace kld::cmd
