// SPDX-License-Identifier: Apache-2.0
#include "plan/clone.h"

#include <fmt/format.h>

#include <set>

#include "plan/clone_source.h"
#include "plan/clone_target.h"
#include "plan/layout.h"
#include "plan/limits.h"

namespace kld::plan {
namespace {

/// Of more clones the whole pool is synced.
constexpr std::size_t kSyncedEach = 4;

zfs::Properties clone_properties(const View& view, const CloneSource& source, const std::string& target,
                                 const std::string& label, const std::string& op, bool full) {
  zfs::Properties properties = {
      {zfs::property::machine, target}, {zfs::property::disk, label}, {zfs::property::op, op}};
  if (!full) properties[zfs::property::clone_origin] = source.machine.name + "@" + source.snapshot;
  add_volmode(view, properties);
  return properties;
}

/// Clones (or copies) of all datasets of all targets; children after their parents.
void add_datasets(Plan& plan, const View& view, const CloneSource& source, const std::vector<CloneTarget>& targets,
                  const CloneRequest& request, const Fresh& fresh) {
  CloneDatasets first;
  CloneDatasets children;
  std::vector<Step> singles;
  std::vector<Step> single_children;
  const auto add = [&](const std::string& from, const std::string& to, zfs::Properties properties, bool child) {
    const std::string snapshot = from + "@" + source.snapshot;
    if (request.full) {
      (child ? single_children : singles).emplace_back(CopyDataset{snapshot, to, std::move(properties)});
    } else {
      (child ? children : first).clones.push_back({snapshot, to, std::move(properties)});
    }
  };
  for (const auto& target : targets) {
    for (const auto& disk : source.disks) {
      add(disk.volume.name, disk_dataset(view.root, target.name, disk.label),
          clone_properties(view, source, target.name, disk.label, fresh.op, request.full), false);
    }
    const zfs::Properties state = {{zfs::property::machine, target.name}, {zfs::property::op, fresh.op}};
    const std::string state_name = state_dataset(view.root, target.name);
    if (source.has_state) {
      add(source.machine.state->name, state_name, state, false);
    } else {
      singles.emplace_back(CreateFilesystem{state_name, state});
    }
    if (target.definition.tpm() != virt::Tpm::emulator) continue;
    zfs::Properties tpm = state;
    tpm["mountpoint"] = tpm_directory(target.uuid);
    if (source.has_tpm && !request.new_tpm) {
      add(source.machine.tpm->name, tpm_dataset(view.root, target.name), tpm, true);
    } else {
      single_children.emplace_back(CreateFilesystem{tpm_dataset(view.root, target.name), tpm});
    }
  }
  if (!first.clones.empty()) plan.steps.emplace_back(std::move(first));
  plan.steps.insert(plan.steps.end(), singles.begin(), singles.end());
  if (!children.clones.empty()) plan.steps.emplace_back(std::move(children));
  plan.steps.insert(plan.steps.end(), single_children.begin(), single_children.end());
}

void add_state_and_domains(Plan& plan, const View& view, const CloneSource& source,
                           const std::vector<CloneTarget>& targets, const CloneRequest& request) {
  MountFilesystems mounts;
  WriteFiles files;
  WriteSeeds seeds;
  DefineDomains domains;
  AwaitDevices devices;
  for (const auto& target : targets) {
    mounts.mounts.push_back({state_dataset(view.root, target.name), state_directory(target.name)});
    if (target.definition.tpm() == virt::Tpm::emulator) {
      mounts.mounts.push_back({tpm_dataset(view.root, target.name), tpm_directory(target.uuid)});
    }
    const std::string xml = target.definition.xml();
    files.files.push_back({definition_path(target.name), xml, false, ""});
    if (!target.seed.empty()) {
      const auto documents = seed_files(target.name, target.seed);
      files.files.insert(files.files.end(), documents.begin(), documents.end());
      seeds.seeds.push_back(seed_image(target.name, target.seed));
    }
    domains.domains.push_back({target.name, target.uuid, xml});
    for (const auto& disk : source.disks) devices.volumes.push_back(disk_dataset(view.root, target.name, disk.label));
  }
  domains.validate = !source.live;
  std::vector<std::string> sync;
  if (targets.size() > kSyncedEach) {
    sync = {zfs::pool_of(view.root)};
  } else {
    for (const auto& target : targets) sync.push_back(state_directory(target.name));
  }
  (seeds.seeds.empty() ? domains.sync : seeds.sync) = std::move(sync);
  // From here on what dies is finished: soon libvirt knows them and somebody may use them, and what is written is on
  // disk no earlier than that.
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(std::move(mounts));
  if (!source.has_state && source.definition.uefi()) {
    for (const auto& target : targets) {
      plan.steps.emplace_back(CopyFiles{nvram_path(source.machine.name), nvram_path(target.name)});
    }
  }
  plan.steps.emplace_back(std::move(files));
  if (!seeds.seeds.empty()) plan.steps.emplace_back(std::move(seeds));
  plan.steps.emplace_back(std::move(domains));
  plan.steps.emplace_back(std::move(devices));
  if (!request.start) return;
  for (const auto& target : targets) plan.steps.emplace_back(StartDomain{{target.name, target.uuid}});
}

std::optional<Refusal> bad_targets(const View& view, const CloneSource& source, const CloneRequest& request,
                                   const CloneFacts& facts) {
  std::vector<std::string> labels;
  for (const auto& disk : source.disks) labels.push_back(disk.label);
  std::set<std::string> seen;
  for (const auto& target : request.targets) {
    if (!seen.insert(target).second) {
      return Refusal{
          "name-taken", fmt::format("the name '{}' is given twice", target), {}, "give each clone its own name"};
    }
    if (auto refusal = name_taken(view, target, labels, facts.taken_paths)) return refusal;
  }
  // "web" with a disk "data" and a machine "web-data" would want the same dataset.
  std::set<std::string> datasets;
  for (const auto& target : request.targets) {
    for (const auto& label : labels) {
      const auto dataset = disk_dataset(view.root, target, label);
      if (datasets.insert(dataset).second) continue;
      return Refusal{
          "name-taken", fmt::format("two of the clones would want dataset {}", dataset), {}, "choose other names"};
    }
  }
  return std::nullopt;
}

std::optional<Refusal> bad_copy(const View& view, const CloneSource& source, const CloneRequest& request,
                                const CloneFacts& facts) {
  const auto* root = find_dataset(view, view.root);
  std::uint64_t bytes = 0;
  for (const auto& disk : source.disks) {
    bytes += disk.volume.referenced;
    if (!disk.volume.encryption_root.empty() && (root == nullptr || root->encryption_root.empty())) {
      return Refusal{"encrypted",
                     fmt::format("a full copy of '{}' would be stored unencrypted", disk.volume.name),
                     {fmt::format("'{}' is not encrypted", view.root)},
                     "clone it without --full: a clone stays encrypted"};
    }
  }
  bytes *= request.targets.size();
  if (facts.pool) {
    if (auto refusal = pool_limit(*facts.pool, bytes, request.over_limit)) return refusal;
  }
  return no_room(view, bytes, request.over_limit);
}

}  // namespace

Result plan_clone(const View& view, const CloneRequest& request, const CloneFacts& facts, const Fresh& fresh) {
  const auto machine = find_machine(view, request.source);
  if (!machine) return no_such_machine(view, request.source);
  if (!machine->domain) {
    return Refusal{"no-domain",
                   fmt::format("machine '{}' has datasets but libvirt does not know it", machine->name),
                   {},
                   fmt::format("define it from its saved state with 'kvm-adopt {}'", machine->name)};
  }
  if (machine->disks.empty()) {
    return Refusal{"no-disk", fmt::format("machine '{}' has no zvol", machine->name), {}, "there is nothing to clone"};
  }
  if (auto refusal = foreign_state(*machine, facts.block_jobs, true)) return *refusal;
  auto own = machine->datasets();
  if (const auto* root = find_dataset(view, view.root)) own.push_back(*root);
  if (auto refusal = key_missing(own)) return *refusal;
  if (auto refusal = state_unmounted(*machine)) return *refusal;
  if (auto refusal = layout_problem(view)) return *refusal;
  if (auto refusal = pool_full(view)) return *refusal;

  Plan plan{"clone", fresh.op, {machine->name}, {}, 0, {}};
  plan.machines.insert(plan.machines.end(), request.targets.begin(), request.targets.end());
  const auto all = machine_snapshots(*machine, facts.snapshots);
  CloneSource source{*machine,
                     "",
                     false,
                     machine->disks,
                     machine->state.has_value(),
                     machine->tpm.has_value(),
                     virt::Definition::parse(facts.definitions.current)};
  if (request.snapshot) {
    auto named = source_from_snapshot(*machine, request, facts, all, plan);
    if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
    source = std::get<CloneSource>(std::move(named));
  } else if (const auto* reused = reusable_snapshot(*machine, facts, all)) {
    source.snapshot = reused->name;
  } else {
    source.snapshot = fresh_snapshot_name("clone", fresh.now, facts.taken);
    source.take = true;
  }
  if (auto refusal = unknown_without(source, request.without)) return *refusal;
  if (const auto evidence = foreign_parts(view, source, request, facts.definitions.live); !evidence.empty()) {
    return Refusal{"not-clonable", fmt::format("machine '{}' has parts that cannot be cloned", machine->name), evidence,
                   "leave them out with --without"};
  }
  leave_out(view, source, request.without);
  if (source.disks.empty()) {
    return Refusal{"no-disk",
                   fmt::format("no disk of machine '{}' would be left to clone", machine->name),
                   {},
                   "name fewer with --without"};
  }
  if (auto refusal = bad_targets(view, source, request, facts)) return *refusal;
  if (request.full) {
    if (auto refusal = bad_copy(view, source, request, facts)) return *refusal;
  }

  std::vector<CloneTarget> targets;
  for (const auto& name : request.targets)
    targets.push_back(make_clone_target(view, source, request, facts, name, fresh));
  warn_of_what_is_shared(plan, source, request, targets.front());
  if (auto step = ensure_state_root(view, fresh.op)) plan.steps.push_back(*step);
  if (machine->domain->has_managed_save && !request.snapshot) {
    plan.warnings.push_back(fmt::format(
        "machine '{}' sleeps in a managed save image, which clones do not get: they start as after a power cut",
        machine->name));
  }
  if (source.take) {
    const auto frozen = plan_freeze(*machine, request.freeze, facts.freeze_problem);
    if (const auto* refusal = std::get_if<Refusal>(&frozen)) return *refusal;
    const auto& freeze = std::get<FreezePlan>(frozen);
    plan.warnings.insert(plan.warnings.end(), freeze.warnings.begin(), freeze.warnings.end());
    const auto held = warn_of_holders(*machine);
    plan.warnings.insert(plan.warnings.end(), held.begin(), held.end());
    if (auto save = save_definition(*machine, facts.definitions)) plan.steps.push_back(*save);
    plan.steps.emplace_back(snapshot_all(*machine, source.snapshot, "clone", fresh.op, freeze.freezes));
  }
  add_datasets(plan, view, source, targets, request, fresh);
  add_state_and_domains(plan, view, source, targets, request);
  if (request.full && source.take) {
    // An independent copy needs its snapshot no more. Who sends or holds it by now may keep it: the copy is done.
    DestroyOwn done{{}, {}, fresh.op, true};
    for (const auto& dataset : machine->datasets()) done.snapshots.push_back(dataset.name + "@" + source.snapshot);
    plan.steps.emplace_back(std::move(done));
  }
  return plan;
}

std::vector<std::string> numbered(const std::string& prefix, unsigned count) {
  std::vector<std::string> names;
  for (unsigned i = 1; i <= count; ++i) names.push_back(fmt::format("{}{}", prefix, i));
  return names;
}

}  // namespace kld::plan
