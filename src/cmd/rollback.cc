// SPDX-License-Identifier: Apache-2.0
#include "cmd/rollback.h"

#include <fmt/format.h>

#include <map>

#include "base/size.h"
#include "base/table.h"
#include "plan/drop.h"
#include "plan/revive.h"
#include "plan/rollback_classic.h"
#include "run/kept_facts.h"
#include "run/rollback_facts.h"
#include "zfs/dataset.h"

namespace kld::cmd {
namespace {

run::Look wanted_look(const std::string& machine) {
  return {.snapshots_of = machine, .definition_of = machine, .shallow = true, .machines = {machine}, .kept = true};
}

std::uint64_t timeout_of(const RollbackFlags& flags) {
  return static_cast<std::uint64_t>(parse_duration(flags.timeout, "--timeout"));
}

/// Disposes of one of them. `what`: the answer, behind which the time it took is put; `then`: what one can do then. A
/// proposal that has an answer of its own keeps it.
void change_version(cli::Context& context, const std::string& machine, const std::string& what, const std::string& then,
                    const std::function<cli::Proposal(const run::Host&)>& propose) {
  context.dispose({{machine, run::Lock::exclusive}}, wanted_look(machine), [&](const run::Host& host) {
    auto proposal = propose(host);
    if (proposal.report) return proposal;
    proposal.report = [&](const run::Host&) {
      return fmt::format("'{}' {} in {:.2f} seconds. {}\n", machine, what, context.seconds_since_start(), then);
    };
    proposal.report_json = [&](const run::Host&) { return nlohmann::json{{"seconds", context.seconds_since_start()}}; };
    return proposal;
  });
}

std::string how_to_undo(const std::string& machine) {
  return fmt::format("The present was set aside: 'kvm-snap {} undo' brings it back.", machine);
}

cli::Proposal revival(const cli::Context& context, const run::Host& host, const plan::ReviveRequest& request) {
  cli::Proposal proposal;
  proposal.result = plan::plan_revive(host.view(), request, run::revive_facts(host, request), run::fresh());
  proposal.report = [&context, name = request.machine](const run::Host&) {
    return fmt::format("'{0}' brought back in {1:.2f} seconds, shut off. Start it with: virsh start {0}\n", name,
                       context.seconds_since_start());
  };
  proposal.report_json = [&context](const run::Host&) {
    return nlohmann::json{{"seconds", context.seconds_since_start()}};
  };
  return proposal;
}

}  // namespace

void add_rollback_flags(CLI::App& app, RollbackFlags& flags) {
  app.add_flag("--stop", flags.stop, "rollback, undo: shut the machine down if it runs, and start it again");
  app.add_option("--timeout", flags.timeout, "How long it may take to shut down before it is stopped at once")
      ->capture_default_str();
  app.add_flag("--only-disks", flags.only_disks, "rollback: definition, firmware variables and TPM stay as they are");
  app.add_flag(
      "--destroy-newer", flags.destroy_newer,
      "rollback: the classic 'zfs rollback -r', which loses what is newer: it lists the snapshots and the data "
      "that go, asks, and sets nothing aside");
  app.add_option("--keep-for", flags.keep_for,
                 "rollback, undo: how long the present is kept; then 'kld expire' may remove it")
      ->capture_default_str();
}

void roll_back(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags) {
  plan::RollbackRequest request{
      {machine, flags.stop, timeout_of(flags), parse_duration(flags.keep_for, "--keep-for")}, {}, flags.only_disks};
  if (!name.empty()) request.snapshot = name;
  if (flags.destroy_newer && name.empty())
    throw UsageError("--destroy-newer wants the name of a snapshot", fmt::format("see 'kvm-snap {} list'", machine));
  request.destroy_newer = flags.destroy_newer;
  const auto then = flags.destroy_newer ? std::string("What was newer is gone.") : how_to_undo(machine);
  change_version(context, machine, "rolled back", then, [&](const run::Host& host) {
    cli::Proposal proposal;
    const auto facts = run::rollback_facts(host, request);
    const auto fresh = run::fresh();
    proposal.result = plan::plan_rollback(host.view(), request, facts, fresh);
    if (flags.destroy_newer) {
      proposal.always_told = true;
      proposal.question = plan::lost_with(host.view(), request, facts, fresh.now);
      proposal.question.insert(proposal.question.begin(), "This destroys, for good:");
      proposal.question.emplace_back(
          "Nothing is set aside and no safety snapshot is taken: there is no undo. Without --destroy-newer nothing is "
          "lost.");
    }
    return proposal;
  });
}

void undo(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags) {
  if (flags.only_disks) throw UsageError("--only-disks is for rollback: an undo brings back what was set aside");
  if (flags.destroy_newer) throw UsageError("--destroy-newer is for rollback: an undo destroys nothing");
  plan::UndoRequest request{{machine, flags.stop, timeout_of(flags), parse_duration(flags.keep_for, "--keep-for")}, {}};
  if (!name.empty()) request.kept = name;
  change_version(context, machine, "brought back", how_to_undo(machine), [&](const run::Host& host) {
    if (!plan::find_machine(host.view(), machine)) return revival(context, host, {machine, request.kept});
    cli::Proposal proposal;
    proposal.result = plan::plan_undo(host.view(), request, run::undo_facts(host, request), run::fresh());
    return proposal;
  });
}

void list_kept(cli::Context& context, const std::string& machine) {
  cli::Context::require_root();
  cli::Context::require_machine_name(machine);
  const auto host = context.look({.shallow = true, .machines = {machine}, .kept = true});
  const auto all = plan::all_kept_of(host.view(), machine);
  if (all.empty() && !plan::find_machine(host.view(), machine)) {
    throw Refused(plan::no_such_machine(host.view(), machine));
  }
  std::vector<std::string> containers;
  for (const auto& kept : all) containers.push_back(kept.container.name);
  std::map<std::string, std::string> expires;
  for (auto& [name, value] : zfs::local_property(zfs::property::expires, containers)) expires[name] = value;
  if (context.common.json) {
    nlohmann::json array = nlohmann::json::array();
    for (const auto& kept : all) {
      array.push_back({{"name", kept.name},
                       {"reason", kept.reason},
                       {"expires", expires[kept.container.name]},
                       {"used_bytes", kept.container.used},
                       {"dataset", kept.container.name}});
    }
    return context.answer(array);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& kept : all) {
    rows.push_back({kept.name, kept.reason, format_size(kept.container.used), or_dash(expires[kept.container.name])});
  }
  context.answer(format_table({{"NAME"}, {"REASON"}, {"USED", Align::right}, {"EXPIRES"}}, rows));
}

void drop(cli::Context& context, const std::string& machine, const std::string& name) {
  if (name.empty()) throw UsageError("which one?", fmt::format("see 'kvm-snap {} kept'", machine));
  // Somebody may have put a disk of it into the definition of a domain that runs.
  auto wanted = wanted_look(machine);
  wanted.pending_disks = true;
  context.dispose({{machine, run::Lock::exclusive}}, wanted, [&](const run::Host& host) {
    cli::Proposal proposal;
    plan::DropFacts facts;
    proposal.question = {"This destroys, for good:"};
    if (const auto named = plan::named_kept(host.view(), machine, name); std::holds_alternative<plan::Kept>(named)) {
      const auto& kept = std::get<plan::Kept>(named);
      std::vector<std::string> datasets;
      for (const auto& dataset : kept.datasets()) {
        datasets.push_back(dataset.name);
        proposal.question.push_back(fmt::format("  {} ({})", dataset.name, format_size(dataset.used)));
      }
      datasets.push_back(kept.container.name);
      facts.snapshots = zfs::list_snapshots(datasets, false);
      facts.origins = zfs::list_origins(zfs::pool_of(host.view().root));
      facts.holders = run::holders_of(kept);
    }
    proposal.result = plan::plan_drop(host.view(), {machine, name}, facts, run::fresh());
    proposal.report = [](const run::Host&) { return std::string("Destroyed.\n"); };
    return proposal;
  });
}

}  // namespace kld::cmd
