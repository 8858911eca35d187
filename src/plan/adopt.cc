// SPDX-License-Identifier: Apache-2.0
#include "plan/adopt.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/name.h"
#include "plan/adopt_disks.h"
#include "plan/layout.h"
#include "plan/limits.h"
#include "virt/definition.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

using Lines = std::vector<std::string>;

/// Datasets of the state that exist must be this machine's own.
std::optional<Refusal> state_refusal(const View& view, const virt::Definition& definition, const AdoptFacts& facts) {
  const auto name = definition.name();
  for (const auto& path : {state_dataset(view.root, name), tpm_dataset(view.root, name)}) {
    const auto* dataset = find_dataset(view, path);
    if (dataset == nullptr) continue;
    if (dataset->kind != zfs::Kind::filesystem || dataset->property(zfs::property::machine) != name) {
      return Refusal{"dataset-taken",
                     fmt::format("{} exists already and is not the state of machine '{}'", path, name),
                     {},
                     fmt::format("rename it first: zfs rename {} NEW", path)};
    }
  }
  if (find_dataset(view, state_dataset(view.root, name)) == nullptr) return std::nullopt;
  const auto taken = [&](std::string fact) {
    return Refusal{"state-taken",
                   fmt::format("{} holds the state of another machine '{}'", state_dataset(view.root, name), name),
                   {std::move(fact)},
                   fmt::format("give the domain another name: virsh domrename {} NEW", name)};
  };
  if (facts.saved_exists) {
    const auto uuid = virt::Definition::parse(facts.saved).uuid();
    if (uuid != definition.uuid()) {
      return taken(fmt::format("its saved definition has UUID {}, the domain {}", uuid, definition.uuid()));
    }
  }
  const auto variables = definition.variables();
  if (variables && *variables != nvram_path(name) && (definition.nvram() || facts.nvram_exists)) {
    return taken(fmt::format("the domain keeps its UEFI variables in {}", *variables));
  }
  return std::nullopt;
}

/// The definition with the layout's paths in it.
virt::Definition with_layout(virt::Definition definition, const std::vector<Incoming>& disks) {
  if (definition.uefi()) definition.set_nvram(nvram_path(definition.name()));
  for (const auto& disk : disks) definition.set_disk_source(disk.target, zfs::device_path(disk.name));
  return definition;
}

void add_mount(std::vector<MountPoint>& mounts, const zfs::Dataset* existing, const std::string& name,
               const std::string& directory) {
  if (existing == nullptr || !existing->mounted) mounts.push_back({name, directory});
}

Result take_in(const View& view, const virt::DomainInfo& domain, const AdoptFacts& facts, const Fresh& fresh) {
  const auto& name = domain.name;
  if (const auto problem = machine_name_problem(name)) {
    return Refusal{"bad-name",
                   fmt::format("domain name '{}' {}: it cannot name a machine", name, *problem),
                   {},
                   fmt::format("rename it: {}", shell_line({"virsh", "domrename", name, "NEW"}))};
  }
  Machine machine = find_machine(view, name).value_or(Machine{name, {}, {}, {}, domain});
  if (auto refusal = foreign_state(machine, facts.block_jobs, false)) return *refusal;
  if (auto refusal = layout_problem(view)) return *refusal;
  if (auto refusal = pool_full(view)) return *refusal;
  const auto definition = virt::Definition::parse(facts.inactive);
  if (auto refusal = partition_refusal(definition, facts.partitions)) return *refusal;
  if (auto refusal = disks_refusal(view, definition, facts.volumes)) return *refusal;
  if (auto refusal = state_refusal(view, definition, facts)) return *refusal;
  const auto disks = incoming_disks(view, definition, facts.volumes);
  const auto moves = renames(view, name, disks);
  if (const auto* refusal = std::get_if<Refusal>(&moves)) return *refusal;

  const auto adopted = with_layout(definition, disks);
  const bool has_tpm = definition.tpm() == virt::Tpm::emulator;
  Plan plan{"adopt", fresh.op, {name}, {}, 0, {}};
  std::vector<std::string> moved;
  for (const auto& disk : disks) {
    if (disk.renamed()) moved.push_back(disk.name);
  }
  std::vector<Step> ownership;
  for (const auto& disk : disks) {
    const zfs::Properties now = {{zfs::property::machine, name}, {zfs::property::disk, disk.label}};
    const zfs::Properties before = {{zfs::property::machine, disk.volume.property(zfs::property::machine)},
                                    {zfs::property::disk, disk.volume.property(zfs::property::disk)}};
    if (now != before) ownership.emplace_back(SetProperties{disk.volume.name, now, before});
  }
  if (moved.empty() && ownership.empty() && machine.state && (machine.tpm || !has_tpm) && facts.saved_exists &&
      adopted.same_as(definition)) {
    return Refusal{"already-adopted",
                   fmt::format("machine '{}' is in the layout already", name),
                   {},
                   fmt::format("nothing is left to do; see 'kvm-list {}'", name)};
  }
  if (machine.active()) {
    return Refusal{
        "running",
        fmt::format("machine '{}' is {}: it can be taken in only when shut off", name, virt::to_string(domain.state)),
        {},
        fmt::format("virsh shutdown {}", name)};
  }

  for (const auto& disk : disks) {
    const auto folder = zfs::parent_of(disk.volume.name);
    if (folder == view.root) continue;
    plan.warnings.push_back(fmt::format("{} leaves {}: what it inherits from there comes from {} then",
                                        disk.volume.name, folder, view.root));
  }

  const DomainName domain_name{name, definition.uuid()};
  // A host that starts anew in the middle must not start it.
  if (domain.autostart) plan.steps.emplace_back(SetAutostart{domain_name, false});
  AwaitUnused unused;
  for (const auto& disk : disks) unused.volumes.push_back(disk.volume.name);
  if (!unused.volumes.empty()) plan.steps.emplace_back(std::move(unused));
  if (auto step = ensure_state_root(view, fresh.op)) plan.steps.push_back(std::move(*step));
  const auto& rename_steps = std::get<std::vector<Step>>(moves);
  // By the names that the undo ends with: an undo that is repeated finds them whatever it had renamed back before.
  plan.steps.insert(plan.steps.end(), ownership.begin(), ownership.end());
  plan.steps.insert(plan.steps.end(), rename_steps.begin(), rename_steps.end());

  const zfs::Properties own = {{zfs::property::machine, name}, {zfs::property::op, fresh.op}};
  const auto state = state_dataset(view.root, name);
  const auto tpm = tpm_dataset(view.root, name);
  const auto tpm_home = tpm_directory(definition.uuid());
  const auto tpm_aside = fmt::format("{}.before-{}", tpm_home, fresh.op);
  std::vector<MountPoint> mounts;
  if (!machine.state) plan.steps.emplace_back(CreateFilesystem{state, own});
  add_mount(mounts, machine.state ? &*machine.state : nullptr, state, state_directory(name));
  if (has_tpm) {
    const bool covered = machine.tpm && machine.tpm->mounted;
    // First: a host that starts anew in between would mount the new filesystem over it.
    if (facts.tpm_state_exists && !covered) plan.steps.emplace_back(MoveAside{tpm_home, tpm_aside});
    if (!machine.tpm) {
      auto properties = own;
      properties["mountpoint"] = tpm_home;
      plan.steps.emplace_back(CreateFilesystem{tpm, std::move(properties)});
    }
    add_mount(mounts, machine.tpm ? &*machine.tpm : nullptr, tpm, tpm_home);
  }
  if (!mounts.empty()) plan.steps.emplace_back(MountFilesystems{std::move(mounts)});
  const auto variables = definition.variables();
  if (variables && *variables != nvram_path(name)) {
    if (facts.nvram_exists) {
      plan.steps.emplace_back(CopyFiles{*variables, nvram_path(name)});
    } else if (definition.nvram()) {  // else it has never started
      plan.warnings.push_back(fmt::format("{} is not there: the first start makes new UEFI variables", *variables));
    }
  }
  if (has_tpm && facts.tpm_state_exists && !machine.tpm) plan.steps.emplace_back(CopyFiles{tpm_aside, tpm_home});
  if (!facts.saved_exists || facts.saved != adopted.xml()) {
    plan.steps.emplace_back(
        WriteFiles{{{definition_path(name), adopted.xml(), facts.saved_exists, facts.saved}}, true});
  }
  if (!moved.empty()) plan.steps.emplace_back(AwaitDevices{std::move(moved)});
  // From here on it can be used as it lies now: what dies then is finished.
  plan.commit = plan.steps.size();
  if (!adopted.same_as(definition)) {
    plan.steps.emplace_back(
        RedefineDomain{{name, definition.uuid(), adopted.xml()}, {name, definition.uuid(), facts.inactive}});
  }
  if (domain.autostart) plan.steps.emplace_back(SetAutostart{domain_name, true});
  return plan;
}

Refusal no_definition(const Machine& machine) {
  Refusal refusal{"no-definition",
                  fmt::format("machine '{}' is unknown to libvirt and has no saved definition", machine.name),
                  {},
                  "see its datasets with 'kvm-list --json', or give its disk to a new domain: virt-install --import"};
  if (!machine.state) {
    refusal.evidence.push_back("it has no state filesystem");
  } else if (machine.state->key_missing) {
    refusal.evidence.push_back(fmt::format("the encryption key of {} is not loaded", machine.state->name));
    refusal.hint = fmt::format("zfs load-key {}", machine.state->encryption_root);
  } else if (!machine.state->mounted) {
    refusal.evidence.push_back(fmt::format("{} is not mounted", machine.state->name));
    refusal.hint = fmt::format("zfs mount {}", machine.state->name);
  } else {
    refusal.evidence.push_back(fmt::format("there is no {}", definition_path(machine.name)));
  }
  return refusal;
}

Result define_again(const View& view, const Machine& machine, const AdoptFacts& facts, const Fresh& fresh) {
  const auto& name = machine.name;
  if (auto refusal = layout_problem(view)) return *refusal;
  if (!facts.saved_exists) return no_definition(machine);
  const auto definition = virt::Definition::parse(facts.saved);
  if (definition.name() != name) {
    return Refusal{"bad-definition",
                   fmt::format("the saved definition of machine '{}' is that of '{}'", name, definition.name()),
                   {definition_path(name)},
                   {}};
  }
  const auto same = std::find_if(view.domains.begin(), view.domains.end(),
                                 [&](const auto& domain) { return domain.uuid == definition.uuid(); });
  if (same != view.domains.end()) {
    return Refusal{
        "uuid-taken",
        fmt::format("domain '{}' has the UUID of machine '{}'", same->name, name),
        {definition.uuid()},
        fmt::format("if it is the same machine, give it its name back: virsh domrename {} {}", same->name, name)};
  }
  Lines missing;
  for (const auto& disk : data_disks(definition)) {
    const auto volume = volume_of(disk.source, facts.volumes);
    if (zfs::is_below(volume, view.root) && find_dataset(view, volume) == nullptr) {
      missing.push_back(fmt::format("{}: there is no volume {}", disk.target, volume));
    }
  }
  if (!missing.empty()) {
    return Refusal{"missing-volume", fmt::format("a disk of machine '{}' is gone", name), std::move(missing), {}};
  }
  if (auto refusal = shared_refusal(view, definition, facts.volumes)) return *refusal;

  Plan plan{"adopt", fresh.op, {name}, {}, 0, {}};
  std::vector<MountPoint> mounts;
  if (machine.state) add_mount(mounts, &*machine.state, machine.state->name, state_directory(name));
  const auto tpm_home = tpm_directory(definition.uuid());
  if (definition.tpm() == virt::Tpm::emulator && !machine.tpm) {
    plan.warnings.push_back(
        fmt::format("there is no {}: the first start makes a new TPM", tpm_dataset(view.root, name)));
  } else if (machine.tpm && !machine.tpm->mounted) {
    if (facts.tpm_state_exists)
      plan.steps.emplace_back(MoveAside{tpm_home, fmt::format("{}.before-{}", tpm_home, fresh.op)});
    add_mount(mounts, &*machine.tpm, machine.tpm->name, tpm_home);
  }
  if (!mounts.empty()) plan.steps.emplace_back(MountFilesystems{std::move(mounts)});
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(DefineDomains{{{name, definition.uuid(), facts.saved}}});
  plan.warnings.push_back(fmt::format("whether it started with the host is not known: virsh autostart {}", name));
  if (!facts.saved_at.empty()) {
    plan.warnings.push_back(
        fmt::format("it is defined as it was saved at {}: what was changed since is lost", facts.saved_at));
  }
  for (const auto& disk : machine.disks) {
    const auto disks = definition.disks();
    const bool named = std::any_of(disks.begin(), disks.end(), [&](const auto& d) {
      return volume_of(d.source, facts.volumes) == disk.volume.name;
    });
    if (!named)
      plan.warnings.push_back(fmt::format("{} is its disk, and its definition does not name it", disk.volume.name));
  }
  return plan;
}

}  // namespace

Result plan_adopt(const View& view, const AdoptRequest& request, const AdoptFacts& facts, const Fresh& fresh) {
  if (const auto* domain = find_domain(view, request.machine)) return take_in(view, *domain, facts, fresh);
  if (const auto machine = find_machine(view, request.machine)) return define_again(view, *machine, facts, fresh);
  return no_such_machine(view, request.machine);
}

std::vector<std::string> originals(const Plan& plan) {
  std::vector<std::string> paths;
  for (const auto& step : plan.steps) {
    if (const auto* copy = std::get_if<CopyFiles>(&step)) paths.push_back(copy->from);
  }
  return paths;
}

std::vector<std::string> adoptable(const View& view, const std::map<std::string, std::string>& definitions,
                                   const Volumes& volumes) {
  const auto known = machines(view);
  std::vector<std::string> names;
  for (const auto& [name, machine] : known) {
    if (!machine.domain && machine.state) names.push_back(name);
  }
  for (const auto& domain : view.domains) {
    const auto xml = definitions.find(domain.name);
    if (known.contains(domain.name) || xml == definitions.end()) continue;
    const auto definition = virt::Definition::parse(xml->second);
    if (!data_disks(definition).empty() && disk_problems(view, definition, volumes).empty())
      names.push_back(domain.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace kld::plan
