// SPDX-License-Identifier: Apache-2.0
#include "plan/list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "cmd/commands.h"
#include "plan/snapshot.h"
#include "run/open_entry.h"

namespace kld::cmd {
namespace {

struct ListFlags {
  bool wide = false;
  plan::ListRequest request;
};

/// One listing for all machines, however many there are.
std::map<std::string, plan::SnapshotSummary> summaries(const plan::View& view) {
  const auto machines = plan::machines(view);
  std::vector<std::string> datasets;
  for (const auto& [name, machine] : machines) {
    for (const auto& dataset : machine.datasets()) datasets.push_back(dataset.name);
  }
  const auto snapshots = zfs::list_snapshots(datasets, false);
  std::map<std::string, std::vector<zfs::Snapshot>> by_dataset;
  for (const auto& snapshot : snapshots) by_dataset[snapshot.dataset()].push_back(snapshot);
  std::map<std::string, plan::SnapshotSummary> result;
  for (const auto& [name, machine] : machines) {
    std::vector<zfs::Snapshot> own;
    for (const auto& dataset : machine.datasets()) {
      const auto& some = by_dataset[dataset.name];
      own.insert(own.end(), some.begin(), some.end());
    }
    const auto whole = plan::machine_snapshots(machine, own);
    auto& summary = result[name];
    summary.count = whole.size();
    if (whole.empty()) continue;
    summary.newest = whole.back().name;
    summary.created = whole.back().creation;
    summary.consistency = whole.back().consistency;
  }
  return result;
}

/// True when a domain uses a volume that the first look did not reach.
bool lies_deeper(const plan::View& view) {
  for (const auto& domain : view.domains) {
    for (const auto& path : domain.block_paths) {
      const auto volume = plan::volume_of(view, path);
      const bool reached = zfs::parent_of(volume) == view.root || plan::find_dataset(view, volume) != nullptr;
      if (zfs::is_below(volume, view.root) && !reached) return true;
    }
  }
  return false;
}

void run_list(cli::Context& context, const ListFlags& flags) {
  plan::check_sort(flags.request.sort);
  cli::Context::require_root();
  const auto details = flags.wide || context.common.json ? virt::Details::autostart : virt::Details::none;
  const bool kept = flags.request.tree || !flags.request.names.empty();
  auto host = context.look({.shallow = !flags.wide, .kept = kept, .folders = true, .domains = details});
  if (!flags.wide && lies_deeper(host.view())) host = context.look({.domains = details});
  auto request = flags.request;
  request.volumes = host.view().volumes;
  for (const auto& entry : run::open_entries()) {
    request.interrupted.insert(entry.plan.machines.begin(), entry.plan.machines.end());
  }
  if (flags.wide) request.snapshots = summaries(host.view());
  const auto listing = plan::list_machines(host.view(), request);
  if (const auto* refusal = std::get_if<Refusal>(&listing)) throw Refused(*refusal);
  const auto& rows = std::get<std::vector<plan::Row>>(listing);
  if (context.common.json) {
    context.answer(plan::to_json(rows));
  } else {
    context.answer(plan::list_table(rows, flags.wide));
  }
}

}  // namespace

cli::Command list() {
  cli::Command command{"list", "kvm-list", "List machines with their state and storage", "", {}, nullptr};
  command.description =
      "One line a machine, and one for each domain that was never adopted, each volume that no domain uses and each "
      "replica below the root. STATE is libvirt's word, or: locked (an encryption key is not loaded), no domain, no "
      "disk, "
      "replica, interrupted (run 'kld recover').";
  command.examples = {{"kvm-list", "all"},
                      {"kvm-list --tree", "by what was cloned from what"},
                      {"kvm-list --sort -used", "largest first"},
                      {"kvm-list web --json", "one machine, for programs"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<ListFlags>();
    app.add_option("MACHINE", flags->request.names, "These machines only");
    app.add_flag("--wide", flags->wide, "Also memory, vCPUs, snapshots, newest snapshot, consistency, autostart");
    app.add_flag("--tree", flags->request.tree, "As a tree of clones");
    app.add_option("--sort", flags->request.sort,
                   fmt::format("Sort by this column, -COL for the reverse: {}", fmt::join(plan::list_columns(), " ")))
        ->type_name("COL");
    return [flags, &context] { run_list(context, *flags); };
  };
  return command;
}

}  // namespace kld::cmd
