// SPDX-License-Identifier: Apache-2.0
#include "plan/clone.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/name.h"
#include "base/size.h"
#include "plan/layout.h"
#include "plan/limits.h"
#include "plan/whole.h"
#include "virt/definition.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

/// Of what every clone is made: a snapshot's name and the datasets that have it.
struct Source {
  Machine machine;
  std::string snapshot;  ///< the part after '@'
  bool take = false;     ///< it does not exist yet
  std::vector<MachineDisk> disks;
  bool has_state = false;
  bool has_tpm = false;
  virt::Definition definition;
  bool live = true;  ///< the definition is what libvirt says now
};

/// Of more clones the whole pool is synced.
constexpr std::size_t kSyncedEach = 4;

bool contains(const std::vector<std::string>& list, const std::string& entry) {
  return std::find(list.begin(), list.end(), entry) != list.end();
}

/// The newest @clone- when it is still the machine's present state: shut off, nothing written since on any dataset.
const MachineSnapshot* reusable(const Machine& machine, const CloneFacts& facts,
                                const std::vector<MachineSnapshot>& all) {
  if (machine.active() || consistency(machine) != "offline") return nullptr;
  if (!facts.definitions.saved_exists || facts.definitions.saved != facts.definitions.current) return nullptr;
  const auto* newest = newest_for_clones(all);
  if (newest == nullptr || !newest->missing.empty() || newest->consistency != "offline") return nullptr;
  if (contains(facts.going, newest->name)) return nullptr;
  // What came after it is the sum of what each later snapshot and the present wrote.
  std::uint64_t written = 0;
  for (const auto& dataset : machine.datasets()) written += dataset.written;
  for (auto later = all.rbegin(); &*later != newest; ++later) written += later->written;
  return written == 0 ? newest : nullptr;
}

/// Parts of the definition that cannot be cloned and were not named in --without.
std::vector<std::string> foreign_parts(const View& view, const Source& source, const CloneRequest& request) {
  std::vector<std::string> evidence;
  Machine machine = source.machine;
  machine.disks = source.disks;
  for (const auto& disk : foreign_disks(view, machine, source.definition)) {
    if (contains(request.without, disk.target)) continue;
    evidence.push_back(
        fmt::format("{}: {} is not a zvol of this machine (--without {})", disk.target, disk.what, disk.target));
  }
  if (!contains(request.without, "hostdev")) {
    for (const auto& device : source.definition.host_devices()) {
      evidence.push_back(fmt::format("{} belongs to one machine at a time (--without hostdev)", device));
    }
  }
  // Of a snapshot that lacks them it was said already what stands in.
  if (request.snapshot) return evidence;
  for (const auto& line : foreign_state_files(machine, source.definition)) {
    if (!(request.new_tpm && line.find("TPM") != std::string::npos))
      evidence.push_back(line + " (kvm-adopt takes it in)");
  }
  return evidence;
}

/// What --without names must be there: a slip would clone what was to be left out.
std::optional<Refusal> unknown_without(const Source& source, const std::vector<std::string>& without) {
  std::vector<std::string> targets;
  for (const auto& disk : source.definition.disks()) targets.push_back(disk.target);
  for (const auto& unwanted : without) {
    if (unwanted == "hostdev" || contains(targets, unwanted)) continue;
    return Refusal{"no-such-disk",
                   fmt::format("machine '{}' has no disk '{}' to leave out", source.machine.name, unwanted),
                   {},
                   fmt::format("it has {}", fmt::join(targets, ", "))};
  }
  return std::nullopt;
}

zfs::Properties clone_properties(const View& view, const Source& source, const std::string& target,
                                 const std::string& label, const std::string& op, bool full) {
  zfs::Properties properties = {
      {zfs::property::machine, target}, {zfs::property::disk, label}, {zfs::property::op, op}};
  if (!full) properties[zfs::property::clone_origin] = source.machine.name + "@" + source.snapshot;
  add_volmode(view, properties);
  return properties;
}

struct Target {
  std::string name;
  std::string uuid;
  virt::Definition definition;
  SeedDocuments seed;
};

Target make_target(const View& view, const Source& source, const CloneRequest& request, const CloneFacts& facts,
                   const std::string& name, const Fresh& fresh) {
  Target target{name, fresh.uuid(), source.definition, {}};
  auto& definition = target.definition;
  for (const auto& unwanted : request.without) {
    if (unwanted == "hostdev") {
      definition.remove_host_devices();
    } else {
      definition.remove_disk(unwanted);
    }
  }
  definition.make_portable();
  definition.set_name(name);
  definition.set_uuid(target.uuid);
  definition.set_genid(fresh.uuid());
  std::vector<std::string> macs;
  for (std::size_t i = 0; i < definition.interfaces().size(); ++i) macs.push_back(fresh.mac());
  definition.set_macs(macs);
  if (definition.uefi()) definition.set_nvram(nvram_path(name));
  bool has_seed_disk = false;
  for (const auto& disk : definition.disks()) {
    if (disk.source == seed_path(source.machine.name)) {
      definition.set_disk_source(disk.target, seed_path(name));
      has_seed_disk = true;
      continue;
    }
    const std::string volume = volume_of(view, disk.source);
    for (const auto& own : source.disks) {
      if (own.volume.name != volume) continue;
      definition.set_disk_source(disk.target, zfs::device_path(disk_dataset(view.root, name, own.label)));
    }
  }
  if (has_seed_disk || request.seed.any()) {
    target.seed = seed_documents(request.seed, facts.seed, name, target.uuid);
    if (!has_seed_disk) definition.add_seed(seed_path(name));
  }
  if (request.memory) definition.set_memory(*request.memory);
  if (request.vcpus) definition.set_vcpus(*request.vcpus);
  return target;
}

/// A cloud-config's own key, at the start of a line.
bool sets_host_name(const std::string& user_data) {
  for (const std::string key : {"hostname:", "fqdn:"}) {
    if (user_data.find("\n" + key) != std::string::npos) return true;
  }
  return false;
}

/// Clones (or copies) of all datasets of all targets; children after their parents.
void add_datasets(Plan& plan, const View& view, const Source& source, const std::vector<Target>& targets,
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

void add_state_and_domains(Plan& plan, const View& view, const Source& source, const std::vector<Target>& targets,
                           const CloneRequest& request) {
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

/// The named snapshot as a source, or why it cannot be one.
std::variant<Source, Refusal> from_snapshot(const Machine& machine, const CloneRequest& request,
                                            const CloneFacts& facts, const std::vector<MachineSnapshot>& all,
                                            Plan& plan) {
  const auto argument = snapshot_argument(machine, *request.snapshot);
  if (const auto* refusal = std::get_if<Refusal>(&argument)) return *refusal;
  const auto& name = std::get<std::string>(argument);
  const auto whole = std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.name == name; });
  if (whole == all.end()) {
    std::vector<std::string> names;
    for (const auto& snapshot : all) names.push_back(snapshot.name);
    const auto near = nearest(name, names);
    return Refusal{
        "no-such-snapshot",
        fmt::format("machine '{}' has no snapshot '@{}'", machine.name, name),
        {},
        near.empty() ? fmt::format("see 'kvm-snap {} list'", machine.name) : fmt::format("did you mean '@{}'?", near)};
  }
  if (contains(facts.going, name)) {
    return Refusal{"locked",
                   fmt::format("another command is destroying snapshot '{}@{}'", machine.name, name),
                   {},
                   fmt::format("see 'kvm-snap {} list'", machine.name)};
  }
  const auto has = [&](const std::string& dataset) { return !contains(whole->missing, dataset); };
  const bool own_definition = !facts.snapshot_definition.empty();
  Source source{machine,
                name,
                false,
                {},
                machine.state && has(machine.state->name),
                machine.tpm && has(machine.tpm->name),
                virt::Definition::parse(own_definition ? facts.snapshot_definition : facts.definitions.current),
                !own_definition};
  for (const auto& disk : machine.disks) {
    if (has(disk.volume.name)) source.disks.push_back(disk);
  }
  if (!own_definition) plan.warnings.push_back(fmt::format("'@{}' holds no definition: the present one is used", name));
  if (!source.has_state && source.definition.uefi()) {
    plan.warnings.push_back(fmt::format("'@{}' holds no firmware variables: the present ones are copied", name));
  }
  if (!source.has_tpm && source.definition.tpm() == virt::Tpm::emulator && !request.new_tpm) {
    plan.warnings.push_back(fmt::format("'@{}' holds no TPM state: the clones start with an empty TPM", name));
  }
  return source;
}

std::optional<Refusal> bad_targets(const View& view, const Source& source, const CloneRequest& request,
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

std::optional<Refusal> bad_copy(const View& view, const Source& source, const CloneRequest& request,
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
  return facts.pool ? pool_limit(*facts.pool, bytes * request.targets.size(), request.over_limit) : std::nullopt;
}

/// What every clone has of its source although it is one machine's alone.
void warn_of_what_is_shared(Plan& plan, const Source& source, const CloneRequest& request, const Target& target) {
  const auto& name = source.machine.name;
  if (target.seed.empty()) {
    plan.warnings.push_back(
        fmt::format("'{}' has no cloud-init seed: its clones keep its host name, machine-id and SSH host keys inside; "
                    "--hostname or another cloud-init flag gives them a seed",
                    name));
  }
  const auto inherited = [&](const char* document) {
    const auto found = target.seed.find(document);
    return found == target.seed.end() ? std::string() : found->second;
  };
  if (!request.seed.network_config && !inherited("network-config").empty()) {
    plan.warnings.push_back(
        fmt::format("the network-config of '{}' is its clones', too: an address in it would be given to each; "
                    "--network-config gives another",
                    name));
  }
  if (!request.seed.user_data && sets_host_name(inherited("user-data"))) {
    plan.warnings.push_back(fmt::format(
        "the user-data of '{}' sets a host name, which its clones take, too; --user-data gives another", name));
  }
  if (source.definition.has_qemu_arguments()) {
    plan.warnings.push_back(
        fmt::format("'{}' has arguments for QEMU itself (qemu:commandline): its clones get the same", name));
  }
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
  Source source{*machine,
                "",
                false,
                machine->disks,
                machine->state.has_value(),
                machine->tpm.has_value(),
                virt::Definition::parse(facts.definitions.current)};
  if (request.snapshot) {
    auto named = from_snapshot(*machine, request, facts, all, plan);
    if (const auto* refusal = std::get_if<Refusal>(&named)) return *refusal;
    source = std::get<Source>(std::move(named));
  } else if (const auto* reused = reusable(*machine, facts, all)) {
    source.snapshot = reused->name;
  } else {
    source.snapshot = fresh_snapshot_name("clone", fresh.now, facts.taken);
    source.take = true;
  }
  if (auto refusal = bad_targets(view, source, request, facts)) return *refusal;
  if (auto refusal = unknown_without(source, request.without)) return *refusal;
  if (const auto evidence = foreign_parts(view, source, request); !evidence.empty()) {
    return Refusal{"not-clonable", fmt::format("machine '{}' has parts that cannot be cloned", machine->name), evidence,
                   "leave them out with --without"};
  }
  if (request.full) {
    if (auto refusal = bad_copy(view, source, request, facts)) return *refusal;
  }

  std::vector<Target> targets;
  for (const auto& name : request.targets) targets.push_back(make_target(view, source, request, facts, name, fresh));
  warn_of_what_is_shared(plan, source, request, targets.front());
  if (auto step = ensure_state_root(view, fresh.op)) plan.steps.push_back(*step);
  if (source.take) {
    if (auto save = save_definition(*machine, facts.definitions)) plan.steps.push_back(*save);
    plan.steps.emplace_back(snapshot_all(*machine, source.snapshot, "clone", fresh.op));
  }
  add_datasets(plan, view, source, targets, request, fresh);
  add_state_and_domains(plan, view, source, targets, request);
  if (request.full && source.take) {
    // An independent copy needs its snapshot no more.
    DestroyOwn done{{}, {}, fresh.op};
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
