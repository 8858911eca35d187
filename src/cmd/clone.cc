// SPDX-License-Identifier: Apache-2.0
#include "plan/clone.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/name.h"
#include "cli/flags.h"
#include "cmd/commands.h"
#include "plan/clone_source.h"
#include "zfs/change.h"
#include "zfs/dataset.h"

namespace kld::cmd {
namespace {

struct CloneFlags {
  std::vector<std::string> names;  ///< the source, then the clones
  std::string count, prefix, ram, cpus, tpm = "copy", freeze;
  cli::SeedFlags seed;
  plan::CloneRequest request;
};

plan::CloneRequest make_request(const CloneFlags& flags) {
  plan::CloneRequest request = flags.request;
  request.source = flags.names.front();
  request.targets.assign(flags.names.begin() + 1, flags.names.end());
  if (!flags.count.empty() || !flags.prefix.empty()) {
    if (flags.count.empty() || flags.prefix.empty())
      throw UsageError("--count and --prefix go together: --count 50 --prefix web-");
    const auto more = plan::numbered(flags.prefix, cli::positive(flags.count, "--count", 10000));
    request.targets.insert(request.targets.end(), more.begin(), more.end());
  }
  if (request.targets.empty())
    throw UsageError("no clone is named", "kvm-clone SOURCE NAME..., or --count N --prefix P");
  for (const auto& target : request.targets) {
    if (const auto problem = machine_name_problem(target)) {
      throw UsageError(fmt::format("machine name '{}' {}", target, *problem),
                       "use letters, digits, '-', '_' and '.', starting with a letter or digit, at most 63");
    }
  }
  if (flags.tpm != "copy" && flags.tpm != "new")
    throw UsageError(fmt::format("--tpm '{}' is neither copy nor new", flags.tpm));
  request.new_tpm = flags.tpm == "new";
  request.freeze = cli::freeze_mode(flags.freeze);
  if (request.snapshot && request.freeze != plan::FreezeMode::never)
    throw UsageError("--freeze is for a clone of the present, --snap for one of a snapshot");
  if (!flags.ram.empty()) request.memory = cli::memory_size(flags.ram);
  if (!flags.cpus.empty()) request.vcpus = cli::positive(flags.cpus, "--cpus", 512);
  request.seed = cli::read_seed_flags(flags.seed);
  if (request.seed.hostname && request.targets.size() > 1) throw UsageError("--hostname fits one clone only");
  if (request.seed.instance_id && request.targets.size() > 1) throw UsageError("--instance-id fits one clone only");
  return request;
}

/// The snapshot that may be cloned, if another command is destroying it; else it is kept from that.
std::vector<std::string> going(const plan::Machine& machine, const std::vector<zfs::Snapshot>& snapshots,
                               const std::optional<std::string>& named, run::SnapshotClaims& claims) {
  const auto all = plan::machine_snapshots(machine, snapshots);
  const auto* newest = plan::newest_for_clones(all);
  const std::string candidate = named ? *named : newest == nullptr ? "" : newest->name;
  // A name that no snapshot has is the planner's to refuse.
  const bool exists = std::any_of(all.begin(), all.end(), [&](const auto& one) { return one.name == candidate; });
  if (!exists || run::keep_snapshot(machine, candidate, claims)) return {};
  return {candidate};
}

/// nullopt when there is no snapshot to clone again.
std::optional<std::uint64_t> written(const plan::Machine& machine, const plan::CloneFacts& facts) {
  const auto all = plan::machine_snapshots(machine, facts.snapshots);
  const auto* candidate = plan::reuse_candidate(machine, facts, all);
  if (candidate == nullptr) return std::nullopt;
  std::vector<std::string> datasets;
  for (const auto& dataset : machine.datasets()) datasets.push_back(dataset.name);
  return zfs::written_since(datasets, candidate->name);
}

plan::CloneFacts look(const run::Host& host, const plan::CloneRequest& request, UnixTime now,
                      run::SnapshotClaims& claims) {
  plan::CloneFacts facts;
  const auto machine = plan::find_machine(host.view(), request.source);
  if (!machine) return facts;
  facts.definitions = host.definitions(*machine);
  facts.block_jobs = host.block_jobs(*machine);
  facts.snapshots = host.snapshots(*machine);
  if (request.freeze != plan::FreezeMode::never) facts.freeze_problem = host.freeze_problem(*machine);
  facts.taken = run::taken_snapshot_names(*machine, "clone", now, claims);
  std::optional<std::string> snapshot;
  if (request.snapshot) snapshot = request.snapshot->substr(request.snapshot->find('@') + 1);
  facts.going = going(*machine, facts.snapshots, snapshot, claims);
  if (host.synced()) facts.written = written(*machine, facts);
  if (snapshot && !snapshot_name_problem(*snapshot))
    facts.snapshot_definition = run::read_snapshot_definition(machine->name, *snapshot);
  if (!snapshot || !snapshot_name_problem(*snapshot)) facts.seed = run::read_seed(machine->name, snapshot);
  std::vector<std::string> labels;
  for (const auto& disk : machine->disks) labels.push_back(disk.label);
  facts.taken_paths = run::taken_paths(host.view().root, request.targets, labels);
  if (request.full) facts.pool = zfs::find_pool(zfs::pool_of(host.view().root));
  return facts;
}

void run_clone(cli::Context& context, const CloneFlags& flags) {
  const auto request = make_request(flags);
  std::map<std::string, run::Lock> locks = {{request.source, run::Lock::shared}};
  for (const auto& target : request.targets) locks[target] = run::Lock::exclusive;
  run::Look wanted{.sync = !request.snapshot,
                   .snapshots_of = request.source,
                   .definition_of = request.source,
                   .shallow = true,
                   .machines = request.targets,
                   .or_kept_of = request.source};
  wanted.machines.push_back(request.source);
  run::SnapshotClaims claims;
  context.dispose(locks, wanted, [&](const run::Host& host) {
    const auto fresh = run::fresh();
    cli::Proposal proposal;
    proposal.result = plan::plan_clone(host.view(), request, look(host, request, fresh.now, claims), fresh);
    proposal.report = [&](const run::Host&) {
      const auto count = request.targets.size();
      return fmt::format("Done. {} in {:.2f} seconds.\n",
                         count == 1 ? "Clone completed" : fmt::format("{} clones completed", count),
                         context.seconds_since_start());
    };
    proposal.report_json = [&](const run::Host&) { return nlohmann::json{{"seconds", context.seconds_since_start()}}; };
    return proposal;
  });
}

}  // namespace

cli::Command clone() {
  cli::Command command{"clone", "kvm-clone", "Clone a machine, running or not, without copying its data",
                       "",      {},          nullptr};
  command.description =
      "Takes one atomic snapshot of the whole machine (all disks, firmware variables, TPM, definition) and clones it. "
      "Each "
      "clone gets its own UUID, MAC addresses, generation id, firmware variables and TPM, and a new instance-id when "
      "the "
      "source has a cloud-init seed. No data is copied; a shut-off machine that did not change since its last clone is "
      "not "
      "snapshotted again.\n\n"
      "The TPM's contents are copied by default, because a system that sealed its disk key in the TPM would not boot "
      "without them; --tpm new gives each clone an empty one, so that no two machines share their secrets.";
  command.examples = {
      {"kvm-clone golden web-1 web-2", "two clones of golden"},
      {"kvm-clone golden --count 50 --prefix worker-", "worker-1 to worker-50"},
      {"kvm-clone web web-test --snap @2026-04-04T14:35:00Z --start", "the state of a snapshot, started"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<CloneFlags>();
    auto& request = flags->request;
    app.add_option("MACHINE", flags->names, "The machine to clone, then the clones' names")->required();
    app.add_option("--snap", request.snapshot, "Clone this snapshot, not the present")->type_name("SNAPSHOT");
    app.add_option("--count", flags->count, "Number of clones, with --prefix")->type_name("N");
    app.add_option("--prefix", flags->prefix, "Names of the clones, with numbers behind")->type_name("P");
    cli::add_freeze_flag(app, flags->freeze);
    app.add_flag("--full", request.full, "An independent copy of all data instead of a clone");
    app.add_flag("--start", request.start, "Start the clones");
    app.add_option("--ram", flags->ram, "Another memory size")->type_name("SIZE");
    app.add_option("--cpus,--vcpus", flags->cpus, "Another number of virtual CPUs")->type_name("N");
    app.add_option("--tpm", flags->tpm, "copy (default) or new")->type_name("TPM");
    app.add_option("--without", request.without, "Leave out a disk by its target (vdb), or 'hostdev'")
        ->type_name("DISK")
        ->allow_extra_args(false);
    app.add_flag("--over-limit", request.over_limit, "With --full: go ahead although the pool would pass 80 %");
    cli::add_seed_flags(app, flags->seed);
    return [flags, &context] { run_clone(context, *flags); };
  };
  return command;
}

}  // namespace kld::cmd
