// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ctime>

#include "base/error.h"
#include "base/name.h"
#include "base/size.h"
#include "base/table.h"
#include "cli/flags.h"
#include "cmd/action_flags.h"
#include "cmd/commands.h"
#include "cmd/rollback.h"
#include "plan/snapshot.h"
#include "zfs/dataset.h"

namespace kld::cmd {
namespace {

struct SnapFlags {
  std::string machine, action, name, freeze;
  RollbackFlags rollback;
};

run::Look shallow_look(const std::string& machine, bool snapshots) {
  return {.snapshots_of = snapshots ? machine : "",
          .definition_of = snapshots ? "" : machine,
          .shallow = true,
          .machines = {machine},
          .or_kept_of = machine};
}

void take(cli::Context& context, const SnapFlags& flags) {
  const std::string given = flags.name.starts_with("@") ? flags.name.substr(1) : flags.name;
  if (!flags.name.empty()) {
    if (const auto problem = snapshot_name_problem(given))
      throw UsageError(fmt::format("snapshot name '{}' {}", given, *problem));
  }
  const auto freeze = cli::freeze_mode(flags.freeze);
  run::SnapshotClaims claims;
  context.dispose({{flags.machine, run::Lock::shared}}, shallow_look(flags.machine, false), [&](const run::Host& host) {
    const auto fresh = run::fresh();
    plan::Definitions definitions;
    std::vector<std::string> taken;
    std::vector<std::string> jobs;
    std::optional<std::string> problem;
    if (const auto machine = plan::find_machine(host.view(), flags.machine)) {
      definitions = host.definitions(*machine);
      jobs = host.block_jobs(*machine);
      if (freeze != plan::FreezeMode::never) problem = host.freeze_problem(*machine);
      if (given.empty()) taken = run::taken_snapshot_names(*machine, "", fresh.now, claims);
      const bool mine = given.empty() || claims.take(machine->name, given, run::Lock::exclusive);
      if (!given.empty() && (!mine || run::has_snapshot(*machine, given))) taken.push_back(given);
    }
    cli::Proposal proposal;
    proposal.result =
        plan::plan_snapshot(host.view(), {flags.machine, given, freeze}, definitions, taken, jobs, fresh, problem);
    proposal.report = [&](const run::Host&) {
      return fmt::format("Snapshot created in {:.2f} seconds.\n", context.seconds_since_start());
    };
    proposal.report_json = [&](const run::Host&) { return nlohmann::json{{"seconds", context.seconds_since_start()}}; };
    return proposal;
  });
}

std::string consistency(const plan::MachineSnapshot& snapshot) {
  if (!snapshot.missing.empty()) return "not whole";
  return snapshot.one_moment ? or_dash(snapshot.consistency) : "not one moment";
}

nlohmann::json to_json(const plan::MachineSnapshot& snapshot) {
  nlohmann::json parts = nlohmann::json::array();
  for (const auto& part : snapshot.parts) parts.push_back({{"name", part.name}, {"guid", std::to_string(part.guid)}});
  return {{"name", snapshot.name},
          {"created", format_utc(snapshot.creation)},
          {"createtxg", snapshot.createtxg},
          {"used_bytes", snapshot.used},
          {"written_bytes", snapshot.written},
          {"consistency", snapshot.consistency},
          {"by", snapshot.by},
          {"holds", snapshot.holds},
          {"clones", snapshot.clones},
          {"missing", snapshot.missing},
          {"one_moment", snapshot.one_moment},
          {"parts", parts}};
}

void list(cli::Context& context, const SnapFlags& flags) {
  cli::Context::require_root();
  cli::Context::require_machine_name(flags.machine);
  const auto host = context.look(shallow_look(flags.machine, true));
  const auto machine = plan::find_machine(host.view(), flags.machine);
  if (!machine) throw Refused(plan::no_such_machine(host.view(), flags.machine));
  const auto snapshots = plan::machine_snapshots(*machine, host.snapshots(*machine));
  if (context.common.json) {
    nlohmann::json array = nlohmann::json::array();
    for (const auto& snapshot : snapshots) array.push_back(to_json(snapshot));
    context.answer(array);
    return;
  }
  std::vector<std::vector<std::string>> rows;
  const auto now = static_cast<UnixTime>(std::time(nullptr));
  for (const auto& snapshot : snapshots) {
    const auto clones = plan::owners_of_clones(host.view(), snapshot.clones);
    rows.push_back({"@" + snapshot.name, format_age(now - snapshot.creation), format_size(snapshot.used),
                    format_size(snapshot.written), consistency(snapshot), or_dash(snapshot.by),
                    std::to_string(snapshot.holds), or_dash(fmt::format("{}", fmt::join(clones, ",")))});
  }
  context.answer(format_table({{"NAME"},
                               {"AGE", Align::right},
                               {"USED", Align::right},
                               {"WRITTEN", Align::right},
                               {"CONSISTENCY"},
                               {"BY"},
                               {"HOLDS", Align::right},
                               {"CLONES"}},
                              rows));
}

void remove_snapshot(cli::Context& context, const SnapFlags& flags) {
  if (flags.name.empty())
    throw UsageError("which snapshot?", fmt::format("kvm-snap {} delete SNAPSHOT", flags.machine));
  context.dispose(
      {{flags.machine, run::Lock::exclusive}}, shallow_look(flags.machine, true), [&](const run::Host& host) {
        std::vector<zfs::Snapshot> snapshots;
        if (const auto machine = plan::find_machine(host.view(), flags.machine)) {
          snapshots = host.snapshots(*machine);
        }
        cli::Proposal proposal;
        proposal.result = plan::plan_snapshot_delete(host.view(), flags.machine, flags.name, snapshots, run::fresh());
        proposal.question = {fmt::format("This destroys snapshot '{}' of machine '{}'.", flags.name, flags.machine)};
        proposal.report = [](const run::Host&) { return std::string("Snapshot destroyed.\n"); };
        return proposal;
      });
}

}  // namespace

cli::Command snap() {
  cli::Command command{"snap", "kvm-snap", "Snapshot a machine, go back to a snapshot, list and delete them",
                       "",     {},         nullptr};
  command.description =
      "A snapshot holds the whole machine: all disks, firmware variables, TPM and definition, in one transaction "
      "group. Of "
      "a running machine it is crash-consistent: what a power cut would have left, without the power cut. "
      "Without a name it is called by its time, @2026-04-04T14:35:00Z. "
      "A rollback goes back to any of them, the newest or an older one, and destroys nothing: the present is set aside "
      "below .kept with the snapshots that are newer, and undo brings it back. So it does with a machine that was "
      "deleted with --ghost or --keep-for. Only with --destroy-newer a rollback loses what is newer, after listing it.";
  command.examples = {{"kvm-snap web", "a snapshot named by the time"},
                      {"kvm-snap web snap before-upgrade", "a snapshot with a name"},
                      {"kvm-snap web list", "age, size, consistency, clones of each"},
                      {"kvm-snap web rollback before-upgrade --stop", "the machine as it was then"},
                      {"kvm-snap web rollback before-upgrade --destroy-newer", "the same, but what is newer is lost"},
                      {"kvm-snap web undo", "the present again, as it was before the rollback; or a deleted machine"},
                      {"kvm-snap web kept", "what is set aside, how long, how big"},
                      {"kvm-snap web delete @before-upgrade", "destroys it, after a question"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<SnapFlags>();
    app.add_option("MACHINE", flags->machine, "The machine")->required();
    app.add_option("ACTION", flags->action, "snap (default), list, rollback, undo, kept, drop or delete");
    app.add_option("SNAPSHOT", flags->name,
                   "Name of the snapshot, with or without @; for undo and drop, of what 'kept' lists");
    cli::add_freeze_flag(app, flags->freeze);
    add_rollback_flags(app, flags->rollback);
    return [flags, &app, &context] {
      require_fitting_flags(app, flags->action.empty() ? "snap" : flags->action);
      if (flags->action.empty() || flags->action == "snap") return take(context, *flags);
      if (!flags->freeze.empty()) throw UsageError("--freeze is for taking a snapshot");
      if (flags->action == "list") {
        if (flags->name.empty()) return list(context, *flags);
        throw UsageError(fmt::format("'{}' is too much: list shows all snapshots of a machine", flags->name),
                         fmt::format("kvm-snap {} list", flags->machine));
      }
      if (flags->action == "delete") return remove_snapshot(context, *flags);
      if (flags->action == "rollback") return roll_back(context, flags->machine, flags->name, flags->rollback);
      if (flags->action == "undo") return undo(context, flags->machine, flags->name, flags->rollback);
      if (flags->action == "drop") return drop(context, flags->machine, flags->name);
      if (flags->action == "kept" && flags->name.empty()) return list_kept(context, flags->machine);
      throw UsageError(fmt::format("'{}' is none of snap, list, rollback, undo, kept, drop, delete", flags->action),
                       "see 'kvm-snap --help'");
    };
  };
  return command;
}

}  // namespace kld::cmd
