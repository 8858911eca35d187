// SPDX-License-Identifier: Apache-2.0
#include "cmd/rollback.h"

#include <fmt/format.h>

#include <map>

#include "base/size.h"
#include "base/table.h"
#include "plan/drop.h"
#include "plan/revive.h"
#include "plan/rollback.h"
#include "run/kept_facts.h"
#include "run/rollback_facts.h"
#include "zfs/dataset.h"
#include "zfs/device.h"

namespace kld::cmd {
namespace {

run::Look wanted_look(const std::string& machine) {
  return {.snapshots_of = machine, .definition_of = machine, .shallow = true, .machines = {machine}, .kept = true};
}

std::uint64_t timeout_of(const RollbackFlags& flags) {
  return static_cast<std::uint64_t>(parse_duration(flags.timeout, "--timeout"));
}

/// What an answer to a rollback or an undo says: how to go back.
std::function<std::string(const run::Host&)> report_of(const cli::Context& context, const std::string& machine,
                                                       const std::string& what) {
  return [&context, machine, what](const run::Host&) {
    return fmt::format("{} in {:.2f} seconds. The present was set aside: 'kvm-snap {} undo' brings it back.\n", what,
                       context.seconds_since_start(), machine);
  };
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
  app.add_option("--keep-for", flags.keep_for,
                 "rollback, undo: how long the present is kept; then 'kld expire' may remove it")
      ->capture_default_str();
}

void roll_back(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags) {
  plan::RollbackRequest request{
      machine, {}, flags.stop, timeout_of(flags), flags.only_disks, parse_duration(flags.keep_for, "--keep-for")};
  if (!name.empty()) request.snapshot = name;
  context.dispose({{machine, run::Lock::exclusive}}, wanted_look(machine), [&](const run::Host& host) {
    cli::Proposal proposal;
    proposal.result = plan::plan_rollback(host.view(), request, run::rollback_facts(host, request), run::fresh());
    proposal.report = report_of(context, machine, fmt::format("'{}' rolled back", machine));
    proposal.report_json = [&](const run::Host&) { return nlohmann::json{{"seconds", context.seconds_since_start()}}; };
    return proposal;
  });
}

void undo(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags) {
  plan::UndoRequest request{machine, {}, flags.stop, timeout_of(flags), parse_duration(flags.keep_for, "--keep-for")};
  if (!name.empty()) request.kept = name;
  context.dispose({{machine, run::Lock::exclusive}}, wanted_look(machine), [&](const run::Host& host) {
    if (!plan::find_machine(host.view(), machine)) return revival(context, host, {machine, request.kept});
    cli::Proposal proposal;
    proposal.result = plan::plan_undo(host.view(), request, run::undo_facts(host, request), run::fresh());
    proposal.report = report_of(context, machine, fmt::format("'{}' brought back", machine));
    proposal.report_json = [&](const run::Host&) { return nlohmann::json{{"seconds", context.seconds_since_start()}}; };
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
  context.dispose({{machine, run::Lock::exclusive}}, wanted_look(machine), [&](const run::Host& host) {
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
      facts.snapshots = zfs::list_snapshots(datasets, false);
      for (const auto& holder : zfs::holders(datasets)) facts.holders.push_back(zfs::to_string(holder));
      facts.origins = zfs::list_origins(zfs::pool_of(host.view().root));
    }
    proposal.result = plan::plan_drop(host.view(), {machine, name}, facts, run::fresh());
    proposal.report = [](const run::Host&) { return std::string("Destroyed.\n"); };
    return proposal;
  });
}

}  // namespace kld::cmd
