// SPDX-License-Identifier: Apache-2.0
#include "run/start_facts.h"

#include <map>

#include "base/error.h"
#include "base/name.h"
#include "run/file.h"
#include "run/open_entry.h"
#include "virt/definition.h"
#include "zfs/dataset.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

constexpr char kKept[] = "/.kept/";

/// The root that a machine with this volume lies below.
std::string root_of(const std::string& volume) {
  const auto kept = volume.find(kKept);
  return kept == std::string::npos ? zfs::parent_of(volume) : volume.substr(0, kept);
}

/// Whose name is not that of its domain, too.
void add_states(plan::View& view, const std::vector<std::string>& volumes, const std::string& domain) {
  std::vector<std::string> states;
  for (const auto& volume : volumes) {
    const auto owner = plan::owner_of(view, volume);
    if (!owner.empty() && owner != domain) states.push_back(plan::state_dataset(view.root, owner));
  }
  if (states.empty()) return;
  const auto more = zfs::list_shallow(states, false).datasets;
  view.datasets.insert(view.datasets.end(), more.begin(), more.end());
}

/// By what is saved with them.
void add_uuids(plan::StartFacts& facts) {
  for (const auto& volume : facts.volumes) {
    const auto owner = plan::owner_of(facts.view, volume);
    if (owner.empty()) continue;
    try {
      if (const auto saved = read_file(plan::definition_path(owner)))
        facts.uuids[owner] = virt::Definition::parse(*saved).uuid();
    } catch (const Error&) {
      continue;  // one that cannot be read tells nothing
    }
  }
}

/// Volumes behind its disks, by root.
std::map<std::string, std::vector<std::string>> volumes_by_root(const virt::Definition& domain,
                                                                const std::string& configured) {
  std::map<std::string, std::vector<std::string>> volumes;
  for (const auto& disk : domain.disks()) {
    if (disk.type == "volume" && !configured.empty() && !machine_name_problem(domain.name())) {
      volumes[configured].push_back(plan::disk_dataset(configured, domain.name(), plan::kFirstDisk));
    }
    if (disk.type != "block") continue;
    // A link that is not there now may be when QEMU opens it.
    auto volume = zfs::volume_behind(disk.source);
    if (volume.empty()) volume = zfs::volume_in_path(disk.source);
    if (!volume.empty()) volumes[root_of(volume)].push_back(volume);
  }
  return volumes;
}

}  // namespace

std::vector<plan::StartFacts> start_facts(const std::string& definition, const std::string& configured,
                                          const std::string& journal) {
  const auto domain = virt::Definition::parse(definition);
  std::vector<plan::StartFacts> all;
  for (auto& [root, volumes] : volumes_by_root(domain, configured)) {
    plan::StartFacts facts;
    facts.uuid = domain.uuid();
    facts.domain = domain.name();
    facts.volumes = std::move(volumes);
    facts.view.root = root;
    auto names = facts.volumes;
    // Others give their domains names that no dataset can have.
    if (!machine_name_problem(domain.name())) names.push_back(plan::state_dataset(root, domain.name()));
    facts.view.datasets = zfs::list_shallow(names, false).datasets;
    add_states(facts.view, facts.volumes, domain.name());
    add_uuids(facts);
    facts.mounts = zfs::mounts();
    for (auto& entry : all_entries(journal)) {
      facts.operations.push_back({std::move(entry.plan), entry.begun, std::move(entry.undone), entry.alive});
    }
    all.push_back(std::move(facts));
  }
  return all;
}

}  // namespace kld::run
