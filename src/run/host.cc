// SPDX-License-Identifier: Apache-2.0
#include "run/host.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <thread>

#include "run/file.h"
#include "virt/definition.h"
#include "zfs/change.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// The root's children, the machines' state and, of the machine whose snapshots are wanted, where they lie for almost
/// every machine; what else it has is listed when asked for.
std::vector<std::string> shallow_names(const Root& root, const Look& wanted) {
  std::vector<std::string> names = {root.dataset};
  for (const auto& machine : wanted.machines) {
    if (machine != wanted.snapshots_of) names.push_back(plan::state_dataset(root.dataset, machine));
  }
  if (wanted.snapshots_of.empty()) return names;
  names.push_back(plan::disk_dataset(root.dataset, wanted.snapshots_of, plan::kFirstDisk));
  names.push_back(plan::state_dataset(root.dataset, wanted.snapshots_of));
  names.push_back(plan::tpm_dataset(root.dataset, wanted.snapshots_of));
  return names;
}

/// `listed`: the names whose snapshots are in it.
zfs::Listing list_wanted(const Root& root, const Look& wanted, std::vector<std::string>& listed,
                         const std::function<void()>& on_start) {
  if (!wanted.shallow) return {zfs::list_datasets(root.dataset, on_start).value_or(std::vector<zfs::Dataset>()), {}};
  const auto names = shallow_names(root, wanted);
  if (!wanted.snapshots_of.empty()) listed = names;
  return zfs::list_shallow(names, !wanted.snapshots_of.empty(), on_start);
}

/// Filesystems directly below the root that are not the layout's own.
std::vector<std::string> folders(const std::string& root, const std::vector<zfs::Dataset>& datasets) {
  std::vector<std::string> names;
  for (const auto& dataset : datasets) {
    if (dataset.kind != zfs::Kind::filesystem || zfs::parent_of(dataset.name) != root) continue;
    const auto name = zfs::last_component(dataset.name);
    if (!name.starts_with('.') && name != "isos") names.push_back(dataset.name);
  }
  return names;
}

bool names_machine(const std::vector<zfs::Dataset>& datasets, const std::string& machine) {
  return std::any_of(datasets.begin(), datasets.end(),
                     [&](const auto& dataset) { return dataset.property(zfs::property::machine) == machine; });
}

zfs::Listing list_root(const Root& root, const Look& wanted, std::vector<std::string>& listed,
                       const std::function<void()>& on_start) {
  auto listing = list_wanted(root, wanted, listed, on_start);
  auto& datasets = listing.datasets;
  if (datasets.empty() || datasets.front().name != root.dataset) {
    throw Refused({"root-missing",
                   fmt::format("the root dataset '{}' does not exist", root.dataset),
                   {},
                   "import its pool ('zpool import'), or name another root with --root"});
  }
  const auto& top = datasets.front();
  if (top.kind != zfs::Kind::filesystem) {
    throw Refused({"root-volume",
                   fmt::format("'{}' is a volume, not a filesystem", root.dataset),
                   {},
                   "name a filesystem with --root"});
  }
  if (root.guid && top.guid != *root.guid) {
    throw Refused(
        {"root-replaced",
         fmt::format("'{}' is not the root dataset it was", root.dataset),
         {fmt::format("guid {}, the configuration says {}", top.guid, *root.guid)},
         "was another pool imported under this name? When it is right, correct root_guid in the configuration"});
  }
  auto parents = wanted.folders ? folders(root.dataset, datasets) : std::vector<std::string>();
  const auto kept = root.dataset + "/.kept";
  const bool any_kept =
      std::any_of(datasets.begin(), datasets.end(), [&](const auto& dataset) { return dataset.name == kept; });
  const bool lost = !wanted.or_kept_of.empty() && !names_machine(datasets, wanted.or_kept_of);
  if (wanted.shallow && any_kept && (wanted.kept || lost)) parents.push_back(kept);
  if (!parents.empty()) {
    auto deeper = zfs::list_below(parents);
    datasets.insert(datasets.end(), deeper.begin(), deeper.end());
  }
  return listing;
}

std::string in_snapshot(const std::string& machine, const std::string& snapshot, const std::string& file) {
  return fmt::format("{}/.zfs/snapshot/{}/{}", plan::state_directory(machine), snapshot, file);
}

}  // namespace

Host Host::look(const Root& root, const std::string& uri, const Look& wanted) {
  Host host;
  host.view_.root = root.dataset;
  std::promise<void> promise;
  const auto listing_runs = promise.get_future();
  auto looking = std::async(std::launch::async, [&] {
    auto runs = std::move(promise);  // kept or broken at the end of this
    return list_root(root, wanted, host.listed_, [&] { runs.set_value(); });
  });
  // It takes longest. Loading libvirt beside it keeps a processor busy and would hold up its start.
  listing_runs.wait();
  std::exception_ptr libvirt_problem;
  try {
    host.connection_ = std::make_unique<virt::Connection>(virt::Connection::open(uri));
    host.view_.domains = wanted.pending_disks ? host.connection_->list_with_pending(wanted.domains)
                                              : host.connection_->list(wanted.domains);
    host.read_definition(wanted.definition_of);
    if (wanted.sync && host.rests_as_saved(wanted.definition_of)) {
      zfs::sync(zfs::pool_of(root.dataset));
      host.synced_ = true;
    }
  } catch (const Error&) {
    libvirt_problem = std::current_exception();
  }
  auto listing = looking.get();
  host.view_.datasets = std::move(listing.datasets);
  host.snapshots_ = std::move(listing.snapshots);
  host.find_covered();
  for (const auto& domain : host.view_.domains) {
    for (const auto& path : domain.block_paths) {
      if (!zfs::volume_in_path(path).empty() || !path.starts_with("/dev/")) continue;
      if (auto volume = zfs::volume_of_device(path); !volume.empty()) host.view_.volumes[path] = std::move(volume);
    }
  }
  if (libvirt_problem) std::rethrow_exception(libvirt_problem);
  host.find_holders(wanted.definition_of);
  return host;
}

std::map<std::string, std::string> pool_volumes(const virt::Connection& libvirt, const std::string& xml) {
  std::map<std::string, std::string> volumes;
  if (xml.find("type='volume'") == std::string::npos) return volumes;
  for (const auto& disk : virt::Definition::parse(xml).disks()) {
    const auto path = disk.type == "volume" ? libvirt.volume_path(disk.source) : std::nullopt;
    if (!path) continue;
    auto volume = zfs::volume_in_path(*path);
    if (volume.empty()) volume = zfs::volume_of_device(*path);
    if (!volume.empty()) volumes[disk.source] = std::move(volume);
  }
  return volumes;
}

std::vector<zfs::Snapshot> Host::snapshots(const plan::Machine& machine) const {
  std::vector<std::string> datasets;
  for (const auto& dataset : machine.datasets()) datasets.push_back(dataset.name);
  const bool all_listed = std::all_of(datasets.begin(), datasets.end(), [&](const std::string& name) {
    return std::find(listed_.begin(), listed_.end(), name) != listed_.end();
  });
  return all_listed ? snapshots_ : zfs::list_snapshots(datasets, true);
}

std::uint64_t Host::root_guid() const {
  const auto* root = plan::find_dataset(view_, view_.root);
  return root == nullptr ? 0 : root->guid;
}

void Host::read_definition(const std::string& machine) {
  const auto* domain = machine.empty() ? nullptr : plan::find_domain(view_, machine);
  if (domain == nullptr) return;
  definition_ = connection_->inactive_xml(domain->uuid);
  definition_of_ = domain->uuid;
  view_.volumes.merge(pool_volumes(*connection_, definition_));
}

bool Host::rests_as_saved(const std::string& machine) const {
  const auto* domain = plan::find_domain(view_, machine);
  return domain != nullptr && !virt::is_active(domain->state) &&
         read_file(plan::definition_path(machine)) == definition_;
}

void Host::find_holders(const std::string& name) {
  const auto machine = name.empty() ? std::nullopt : plan::find_machine(view_, name);
  if (!machine || machine->active()) return;
  std::vector<std::string> volumes;
  for (const auto& disk : machine->disks) volumes.push_back(disk.volume.name);
  for (const auto& holder : zfs::kernel_holders(volumes)) view_.held[holder.volume] = zfs::to_string(holder);
}

void Host::find_covered() {
  const auto mounts = zfs::mounts();
  for (auto& dataset : view_.datasets) {
    if (!dataset.mounted) continue;
    const auto there = mounts.find(dataset.mountpoint);
    if (there != mounts.end() && there->second != dataset.name) dataset.covered_by = there->second;
  }
}

plan::Definitions Host::definitions(const plan::Machine& machine) const {
  plan::Definitions definitions;
  if (machine.domain) {
    const auto& uuid = machine.domain->uuid;
    definitions.current = uuid == definition_of_ ? definition_ : connection_->inactive_xml(uuid);
    if (machine.active()) definitions.live = connection_->live_xml(uuid);
  }
  if (!machine.state) return definitions;
  if (const auto saved = read_file(plan::definition_path(machine.name))) {
    definitions.saved_exists = true;
    definitions.saved = *saved;
  }
  return definitions;
}

std::vector<std::string> Host::block_jobs(const plan::Machine& machine) const {
  if (!machine.active()) return {};
  std::vector<std::string> targets;
  for (const auto& disk : virt::Definition::parse(connection_->live_xml(machine.domain->uuid)).disks()) {
    if (disk.device == "disk") targets.push_back(disk.target);
  }
  return connection_->block_jobs(machine.domain->uuid, targets);
}

std::optional<std::string> Host::freeze_problem(const plan::Machine& machine) const {
  if (!machine.domain || machine.domain->state != virt::State::running) return std::nullopt;
  return connection_->freeze_problem(machine.domain->uuid, std::chrono::seconds(plan::kAgentSeconds));
}

plan::SeedDocuments read_seed(const std::string& machine, const std::optional<std::string>& snapshot) {
  const std::string directory = snapshot ? in_snapshot(machine, *snapshot, "seed") : plan::seed_directory(machine);
  plan::SeedDocuments documents;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(directory, none)) {
    if (!entry.is_regular_file() || entry.path().extension() == ".new") continue;
    if (auto content = read_file(entry.path())) documents[entry.path().filename()] = std::move(*content);
  }
  return documents;
}

std::string read_snapshot_definition(const std::string& machine, const std::string& snapshot) {
  return read_file(in_snapshot(machine, snapshot, "domain.xml")).value_or("");
}

bool has_snapshot(const plan::Machine& machine, const std::string& short_name) {
  const auto datasets = machine.datasets();
  return std::any_of(datasets.begin(), datasets.end(),
                     [&](const auto& dataset) { return zfs::exists(dataset.name + "@" + short_name); });
}

std::vector<std::string> taken_snapshot_names(const plan::Machine& machine, const std::string& kind, UnixTime now,
                                              SnapshotClaims& claims) {
  std::vector<std::string> taken;
  // Claimed before it is looked for: who made it and let it go in between is seen.
  const auto free = [&](const std::string& name) {
    return claims.take(machine.name, name, Lock::exclusive) && !has_snapshot(machine, name);
  };
  for (std::string name = plan::fresh_snapshot_name(kind, now, taken); !free(name);
       name = plan::fresh_snapshot_name(kind, now, taken)) {
    taken.push_back(name);
  }
  return taken;
}

bool keep_snapshot(const plan::Machine& machine, const std::string& short_name, SnapshotClaims& claims) {
  return claims.take(machine.name, short_name, Lock::shared) && has_snapshot(machine, short_name);
}

std::vector<std::string> taken_paths(const std::string& root, const std::vector<std::string>& names,
                                     const std::vector<std::string>& labels) {
  std::vector<std::string> taken;
  std::error_code none;
  for (const auto& name : names) {
    const auto state = plan::state_directory(name);
    // An empty directory is what an unmounted state filesystem leaves; anything else is in the way.
    if (fs::symlink_status(state, none).type() != fs::file_type::not_found &&
        !(fs::is_directory(fs::symlink_status(state, none)) && fs::is_empty(state, none))) {
      taken.push_back(state);
    }
    for (const auto& label : labels) {
      const auto volume = plan::disk_dataset(root, name, label);
      const auto device = zfs::device_path(volume);
      const auto is_there = [&] { return fs::symlink_status(device, none).type() != fs::file_type::not_found; };
      // udev removes the link of a volume that was just destroyed a moment later.
      for (int tries = 0; tries < 40 && is_there() && !zfs::exists(volume); ++tries) std::this_thread::sleep_for(50ms);
      if (is_there()) taken.push_back(device);
    }
  }
  return taken;
}

std::vector<std::string> host_bridges() {
  std::vector<std::string> bridges;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/sys/class/net", none)) {
    if (fs::exists(entry.path() / "bridge", none)) bridges.push_back(entry.path().filename());
  }
  std::sort(bridges.begin(), bridges.end());
  return bridges;
}

std::string random_uuid() {
  uuid_t raw;
  uuid_generate_random(raw);
  char text[37];
  uuid_unparse_lower(raw, text);
  return text;
}

plan::Fresh fresh() {
  return {random_uuid(), static_cast<UnixTime>(std::time(nullptr)), random_uuid, [] {
            unsigned char bytes[3];
            if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) throw Error("the system gives no random numbers");
            return virt::mac_from(bytes);
          }};
}

}  // namespace kld::run
