// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/size.h"
#include "cmd/commands.h"
#include "plan/delete.h"
#include "plan/ghost.h"
#include "plan/kept.h"
#include "plan/snapshot.h"
#include "run/kept_facts.h"
#include "run/rollback_facts.h"
#include "virt/definition.h"
#include "zfs/dataset.h"
#include "zfs/mount.h"

namespace kld::cmd {
namespace {

plan::DeleteFacts look(const run::Host& host, const plan::DeleteRequest& request, run::SnapshotClaims& claims) {
  plan::DeleteFacts facts;
  const auto machines = plan::machines(host.view());
  std::vector<std::string> datasets;
  const auto add = [&](const std::string& name) {
    if (std::find(datasets.begin(), datasets.end(), name) == datasets.end()) datasets.push_back(name);
  };
  for (const auto& name : request.machines) {
    const auto found = machines.find(name);
    if (found == machines.end()) continue;
    const auto* machine = &found->second;
    for (const auto& dataset : machine->datasets()) {
      add(dataset.name);
      if (dataset.origin.empty()) continue;
      const std::string origin = zfs::dataset_of(dataset.origin);
      add(origin);
      // Of the machine that it belongs to, all: that one's snapshots are whole or not there.
      const auto owner = machines.find(plan::owner_of(host.view(), origin));
      if (owner == machines.end()) continue;
      for (const auto& part : owner->second.datasets()) add(part.name);
    }
    for (const auto& kept : plan::kept_of(host.view(), name)) {
      for (const auto& dataset : kept.datasets()) add(dataset.name);
      add(kept.container.name);
      facts.kept_holders[kept.name] = run::holders_of(kept);
    }
    if (!machine->domain) continue;
    facts.definitions[name] = host.libvirt().inactive_xml(machine->domain->uuid);
    facts.volumes.merge(run::pool_volumes(host.libvirt(), facts.definitions[name]));
    facts.block_jobs[name] = host.block_jobs(*machine);
    if (machine->active()) facts.holders[name] = run::other_holders(*machine);
  }
  for (const auto& domain : host.view().domains) {
    if (facts.definitions.contains(domain.name)) continue;
    const auto xml = host.libvirt().inactive_xml_if_any(domain.uuid);
    const auto nvram = xml ? virt::Definition::parse(*xml).nvram() : std::nullopt;
    if (nvram) facts.nvrams[domain.name] = *nvram;
  }
  facts.mounts = zfs::mounts();
  facts.snapshots = zfs::list_snapshots(datasets, false);
  // Those on origins that others are about to clone are left alone; the rest is kept from being cloned.
  std::erase_if(facts.snapshots, [&](const zfs::Snapshot& snapshot) {
    const auto name = plan::owner_of(host.view(), snapshot.dataset());
    if (name.empty() || !plan::is_named(snapshot.short_name(), "clone")) return false;
    const bool goes = std::find(request.machines.begin(), request.machines.end(), name) != request.machines.end();
    return !goes && !claims.take(name, snapshot.short_name(), run::Lock::exclusive);
  });
  facts.origins = zfs::list_origins(zfs::pool_of(host.view().root));
  return facts;
}

struct RemoveFlags {
  plan::DeleteRequest request;
  std::optional<std::string> keep_for;
};

void set_aside(const cli::Context& context, const run::Host& host, const plan::DeleteRequest& request,
               const plan::DeleteFacts& facts, cli::Proposal& proposal) {
  const auto fresh = run::fresh();
  proposal.result = plan::plan_ghost(host.view(), request, facts, run::ghost_facts(host, request), fresh);
  proposal.question = plan::describe_ghosts(host.view(), request, facts, fresh.now);
  proposal.question.insert(proposal.question.begin(), "This deletes, and sets aside:");
  proposal.report = [&context, request](const run::Host&) {
    return fmt::format("Done in {:.2f} seconds. {} set aside: 'kvm-snap {} undo' brings {} back.\n",
                       context.seconds_since_start(), fmt::join(request.machines, ", "),
                       request.machines.size() == 1 ? request.machines.front() : "NAME",
                       request.machines.size() == 1 ? "it" : "each");
  };
}

void run_delete(cli::Context& context, const RemoveFlags& flags) {
  auto request = flags.request;
  if (flags.keep_for) request.keep_for = parse_duration(*flags.keep_for, "--keep-for");
  std::map<std::string, run::Lock> locks;
  for (const auto& name : request.machines) locks[name] = run::Lock::exclusive;
  run::SnapshotClaims claims;
  context.dispose(locks, {.pending_disks = true}, [&](const run::Host& host) {
    const auto facts = look(host, request, claims);
    cli::Proposal proposal;
    if (request.is_set_aside()) {
      set_aside(context, host, request, facts, proposal);
      return proposal;
    }
    proposal.result = plan::plan_delete(host.view(), request, facts, run::fresh());
    const auto doom = plan::describe_deletion(host.view(), request, facts);
    proposal.question = doom.lines;
    proposal.question.insert(proposal.question.begin(), "This destroys, for good:");
    proposal.question.push_back(fmt::format("{} in all", format_size(doom.used)));
    proposal.report = [&](const run::Host&) {
      return fmt::format("Done. {} and all storage removed.\n", fmt::join(request.machines, ", "));
    };
    return proposal;
  });
}

}  // namespace

cli::Command remove() {
  cli::Command command{"delete", "kvm-delete", "Delete machines and their storage", "", {}, nullptr};
  command.description =
      "Shows what goes and asks. A running machine is refused without --force; one that others were cloned from is "
      "refused with their names, unless they are deleted in the same command. The definition goes last but one, the "
      "datasets last.\n\n"
      "With --ghost or --keep-for nothing is destroyed: libvirt forgets the machine, and its datasets are set aside "
      "below .kept, from where 'kvm-snap MACHINE undo' brings it back. What was cloned from it goes on working. It is "
      "removed by 'kld expire', which the hourly timer runs, too: a ghost as soon as nothing depends on it, any other "
      "not before the time that was asked for.";
  command.examples = {{"kvm-delete web-1", "shows, asks, deletes"},
                      {"kvm-delete golden web-1 web-2 --yes", "a machine together with all its clones"},
                      {"kvm-delete golden --ghost", "kept below .kept until its last clone is gone"},
                      {"kvm-delete web-1 --keep-for 24h", "for a day 'kvm-snap web-1 undo' brings it back"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<RemoveFlags>();
    auto* request = &flags->request;
    app.add_option("MACHINE", request->machines, "The machines")->required();
    app.add_flag("--force", request->force, "Stop those that run, at once, as by pulling the plug");
    app.add_flag("--discard-saved", request->discard_saved, "Delete managed save images, too");
    app.add_flag("--ghost", request->ghost, "Set them aside until nothing depends on them any more");
    app.add_option("--keep-for", flags->keep_for, "Set them aside for so long at least: 90s, 30m, 24h, 7d, 2w")
        ->type_name("DURATION");
    return [flags, &context] { run_delete(context, *flags); };
  };
  return command;
}

}  // namespace kld::cmd
