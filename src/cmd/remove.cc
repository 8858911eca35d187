// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/size.h"
#include "cmd/commands.h"
#include "plan/delete.h"
#include "plan/kept.h"
#include "plan/snapshot.h"
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

void run_delete(cli::Context& context, const plan::DeleteRequest& request) {
  std::map<std::string, run::Lock> locks;
  for (const auto& name : request.machines) locks[name] = run::Lock::exclusive;
  run::SnapshotClaims claims;
  context.dispose(locks, {.pending_disks = true}, [&](const run::Host& host) {
    const auto facts = look(host, request, claims);
    cli::Proposal proposal;
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
      "datasets last.";
  command.examples = {{"kvm-delete web-1", "shows, asks, deletes"},
                      {"kvm-delete golden web-1 web-2 --yes", "a machine together with all its clones"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto request = std::make_shared<plan::DeleteRequest>();
    app.add_option("MACHINE", request->machines, "The machines")->required();
    app.add_flag("--force", request->force, "Stop those that run, at once, as by pulling the plug");
    app.add_flag("--discard-saved", request->discard_saved, "Delete managed save images, too");
    return [request, &context] { run_delete(context, *request); };
  };
  return command;
}

}  // namespace kld::cmd
