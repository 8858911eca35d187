// SPDX-License-Identifier: Apache-2.0
// A host in memory that carries out every kind of step by the real runner's rules: what tolerates being repeated there
// does so here, what looks at guids or at the operation's mark looks here, too. A step is a row of acts, each atomic,
// so that a test can stop between any two of them.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "plan/view.h"
#include "run/executor.h"
#include "zfs/dataset.h"

namespace kld::run::test {

using Acts = std::vector<std::function<void()>>;

struct FakeDataset {
  std::uint64_t guid = 0;
  bool filesystem = false;
  std::string origin;      ///< snapshot it was cloned from; empty: none
  std::string mountpoint;  ///< where a boot mounts it; empty: nowhere
  std::string content;     ///< of a volume
  zfs::Properties properties;
  std::map<std::string, std::string> files;  ///< by path below the mount point
  bool operator==(const FakeDataset&) const = default;
};

struct FakeSnapshot {
  std::uint64_t guid = 0;
  zfs::Properties properties;
  std::string content;
  std::map<std::string, std::string> files;
  std::uint64_t holds = 0;
  std::uint64_t createtxg = 0;
  bool operator==(const FakeSnapshot&) const = default;
};

struct FakeDomain {
  std::string name;
  std::string xml;
  bool running = false;
  bool autostart = false;
  bool managed_save = false;
  bool operator==(const FakeDomain&) const = default;
};

/// All that steps can change. Equality is the whole state, guids included.
struct FakeHost {
  std::map<std::string, FakeDataset> datasets;
  std::map<std::string, FakeSnapshot> snapshots;
  std::map<std::string, std::string> mounts;  ///< directory to filesystem
  std::set<std::string> guarded;              ///< directories made for a mount
  std::map<std::string, std::string> files;   ///< outside of these filesystems
  std::map<std::string, FakeDomain> domains;  ///< by UUID
  bool operator==(const FakeHost&) const = default;

  /// What a view shows, each guid as there.
  static FakeHost of(const plan::View& view) {
    FakeHost host;
    for (const auto& dataset : view.datasets) {
      FakeDataset fake;
      fake.guid = dataset.guid;
      fake.filesystem = dataset.kind == zfs::Kind::filesystem;
      fake.origin = dataset.origin;
      fake.properties = dataset.user;
      if (!fake.filesystem) fake.content = "disk of " + dataset.name;
      if (fake.filesystem && dataset.can_mount) fake.mountpoint = dataset.mountpoint;
      if (fake.filesystem && dataset.mounted) {
        host.mounts[dataset.mountpoint] = dataset.name;
        host.guarded.insert(dataset.mountpoint);
      }
      host.datasets[dataset.name] = fake;
    }
    for (const auto& domain : view.domains) {
      host.domains[domain.uuid] = {domain.name, "", virt::is_active(domain.state), domain.autostart,
                                   domain.has_managed_save};
    }
    return host;
  }

  void add(const std::vector<zfs::Snapshot>& list) {
    for (const auto& snapshot : list) {
      const auto& dataset = datasets.at(snapshot.dataset());
      snapshots[snapshot.name] = {snapshot.guid, snapshot.user,  dataset.content,
                                  dataset.files, snapshot.holds, snapshot.createtxg};
    }
  }

  /// Where a path lies: in the filesystem mounted nearest above it, else outside.
  std::string& file(const std::string& path) {
    if (const auto mount = mount_above(path)) return datasets.at(mounts.at(*mount)).files[path.substr(mount->size())];
    return files[path];
  }
  std::optional<std::string> read(const std::string& path) const {
    const auto mount = mount_above(path);
    const auto& where = mount ? datasets.at(mounts.at(*mount)).files : files;
    const auto found = where.find(mount ? path.substr(mount->size()) : path);
    return found == where.end() ? std::nullopt : std::optional(found->second);
  }
  void remove_file(const std::string& path) {
    const auto mount = mount_above(path);
    (mount ? datasets.at(mounts.at(*mount)).files : files).erase(mount ? path.substr(mount->size()) : path);
  }
  /// All files at or below a path.
  std::map<std::string, std::string> below(const std::string& path) const {
    std::map<std::string, std::string> found;
    const auto take = [&](const std::string& name, const std::string& content) {
      if (name == path || name.starts_with(path + "/")) found[name.substr(path.size())] = content;
    };
    const auto mount = mount_above(path);
    if (!mount) {
      for (const auto& [name, content] : files) take(name, content);
    } else {
      for (const auto& [name, content] : datasets.at(mounts.at(*mount)).files) take(*mount + name, content);
    }
    return found;
  }

  /// Takes back what had not reached the disk.
  void lose(const std::vector<std::pair<std::string, std::optional<std::string>>>& unsynced) {
    for (auto lost = unsynced.rbegin(); lost != unsynced.rend(); ++lost) {
      if (lost->second) {
        file(lost->first) = *lost->second;
      } else {
        remove_file(lost->first);
      }
    }
  }

  /// The host starts anew: nothing runs, every filesystem that wants to be mounted is.
  void boot() {
    mounts.clear();
    for (auto& [uuid, domain] : domains) domain.running = false;
    for (const auto& [name, dataset] : datasets) {
      const auto canmount = dataset.properties.find("canmount");
      if (dataset.mountpoint.empty() || (canmount != dataset.properties.end() && canmount->second != "on")) continue;
      mounts[dataset.mountpoint] = name;
      guarded.insert(dataset.mountpoint);
    }
  }

 private:
  std::optional<std::string> mount_above(const std::string& path) const {
    std::optional<std::string> best;
    for (const auto& [directory, filesystem] : mounts) {
      if (path != directory && !path.starts_with(directory + "/")) continue;
      if (!best || directory.size() > best->size()) best = directory;
    }
    return best;
  }
};

/// Readable differences of two hosts, for a failed test.
inline std::string difference(const FakeHost& expected, const FakeHost& actual) {
  std::string text;
  const auto compare = [&](const std::string& what, const auto& left, const auto& right) {
    for (const auto& [key, value] : left) {
      const auto other = right.find(key);
      if (other == right.end()) text += fmt::format("{} {} is missing\n", what, key);
      if (other != right.end() && !(other->second == value)) text += fmt::format("{} {} differs\n", what, key);
    }
    for (const auto& [key, value] : right) {
      if (left.find(key) == left.end()) text += fmt::format("{} {} is left over\n", what, key);
    }
  };
  compare("dataset", expected.datasets, actual.datasets);
  compare("snapshot", expected.snapshots, actual.snapshots);
  compare("mount", expected.mounts, actual.mounts);
  compare("file", expected.files, actual.files);
  compare("domain", expected.domains, actual.domains);
  for (const auto& directory : actual.guarded) {
    if (!expected.guarded.contains(directory)) text += fmt::format("directory {} is left over\n", directory);
  }
  for (const auto& directory : expected.guarded) {
    if (!actual.guarded.contains(directory)) text += fmt::format("directory {} is missing\n", directory);
  }
  return text;
}

class FakeRunner : public Runner {
 public:
  explicit FakeRunner(FakeHost& host) : host_(host) {}

  /// Asked before each act, and once more behind the last one (`act` is then their number). It may throw.
  std::function<void(const plan::Step&, std::size_t act, std::size_t acts)> trouble;
  /// Acts that the real runner does in parallel are done last first.
  bool backwards = false;
  /// As the real runner that recovers what another process left.
  bool recovering = false;
  /// What a power cut would take: files by path, with what they held before, in the order of writing.
  std::vector<std::pair<std::string, std::optional<std::string>>> unsynced;

  void require_unused_since(const std::vector<plan::Started>& started) override {
    for (const auto& [domain, defined] : started) {
      const auto found = host_.domains.find(domain.uuid);
      if (found != host_.domains.end() && (defined || found->second.running))
        throw Error(domain.name + " may be in use");
    }
  }
  bool any_exists(const std::vector<std::string>& datasets) override {
    return std::any_of(datasets.begin(), datasets.end(),
                       [&](const auto& name) { return host_.datasets.contains(name); });
  }

  void run(const plan::Step& step) override {
    Acts acts = std::visit([this](const auto& one) { return acts_of(one); }, step);
    const bool parallel =
        std::holds_alternative<plan::CloneDatasets>(step) || std::holds_alternative<plan::WriteFiles>(step) ||
        std::holds_alternative<plan::WriteSeeds>(step) || std::holds_alternative<plan::DefineDomains>(step) ||
        std::holds_alternative<plan::UndefineDomains>(step);
    // What is written is synced when all of it is there.
    const auto* seeds = std::get_if<plan::WriteSeeds>(&step);
    const auto last = acts.end() - (seeds == nullptr ? 0 : static_cast<std::ptrdiff_t>(seeds->sync.size()));
    if (backwards && parallel) std::reverse(acts.begin(), last);
    for (std::size_t i = 0; i <= acts.size(); ++i) {
      if (trouble) trouble(step, i, acts.size());
      if (i < acts.size()) acts[i]();
    }
  }

 private:
  using Names = std::vector<std::string>;

  void add_dataset(const std::string& name, FakeDataset dataset) {
    if (host_.datasets.contains(name)) throw Error(fmt::format("cannot create '{}': it exists already", name));
    if (!host_.datasets.contains(zfs::parent_of(name)))
      throw Error(fmt::format("cannot create '{}': its parent does not exist", name));
    dataset.guid = ++next_guid_;
    const auto mountpoint = dataset.properties.find("mountpoint");
    const auto canmount = dataset.properties.find("canmount");
    if (dataset.filesystem && (canmount == dataset.properties.end() || canmount->second != "off")) {
      dataset.mountpoint =
          mountpoint == dataset.properties.end()
              ? fmt::format("{}/{}", plan::kStateDirectory, zfs::last_component(name))  // inherited from `.state`
              : mountpoint->second;
    }
    host_.datasets[name] = std::move(dataset);
  }

  void destroy_dataset(const std::string& name) {
    const auto found = host_.datasets.find(name);
    if (found == host_.datasets.end()) return;
    for (const auto& [other, dataset] : host_.datasets) {
      if (zfs::is_below(other, name)) throw Error(fmt::format("cannot destroy '{}': it has children", name));
    }
    for (const auto& [snapshot, ignored] : host_.snapshots) {
      if (snapshot.starts_with(name + "@")) throw Error(fmt::format("cannot destroy '{}': it has snapshots", name));
    }
    for (const auto& [directory, filesystem] : host_.mounts) {
      if (filesystem == name) throw Error(fmt::format("cannot destroy '{}': it is mounted", name));
    }
    host_.datasets.erase(found);
  }

  Names clones_of(const std::string& snapshot) const {
    Names clones;
    for (const auto& [name, dataset] : host_.datasets) {
      if (dataset.origin == snapshot) clones.push_back(name);
    }
    return clones;
  }

  /// One call: all or none; those that are gone count as destroyed.
  void destroy_snapshots(const Names& names) {
    for (const auto& name : names) {
      const auto found = host_.snapshots.find(name);
      if (found == host_.snapshots.end()) continue;
      if (!clones_of(name).empty()) throw Error(fmt::format("cannot destroy snapshot '{}': it has clones", name));
      if (found->second.holds > 0) throw Error(fmt::format("cannot destroy snapshot '{}': it is busy", name));
    }
    for (const auto& name : names) host_.snapshots.erase(name);
  }

  Names snapshots_of(const std::string& dataset) const {
    Names names;
    for (const auto& [name, snapshot] : host_.snapshots) {
      if (name.starts_with(dataset + "@")) names.push_back(name);
    }
    return names;
  }

  static std::string op_of(const zfs::Properties& properties) {
    const auto found = properties.find(zfs::property::op);
    return found == properties.end() ? std::string() : found->second;
  }

  void mount(const plan::MountPoint& at) {
    host_.guarded.insert(at.directory);
    if (!host_.datasets.contains(at.filesystem)) throw Error(fmt::format("cannot mount '{}'", at.filesystem));
    host_.mounts[at.directory] = at.filesystem;
  }

  void check_mount(const plan::MountPoint& at) const {
    const auto there = host_.mounts.find(at.directory);
    if (there != host_.mounts.end() && there->second != at.filesystem)
      throw Error(fmt::format("'{}' is mounted at {}", there->second, at.directory));
    for (const auto& [path, content] : host_.files) {
      if (path.starts_with(at.directory + "/")) throw Error(fmt::format("'{}' holds files", at.directory));
    }
  }

  void unmount(const std::string& filesystem, const std::string& directory) {
    const auto there = host_.mounts.find(directory);
    if (there != host_.mounts.end() && there->second != filesystem) return;
    if (there != host_.mounts.end()) host_.mounts.erase(there);
    host_.guarded.erase(directory);
  }

  void write(const std::string& path, const std::string& content, bool synced = true) {
    const auto parent = path.substr(0, path.rfind('/'));
    // The empty directory under a mount is immutable.
    if (host_.guarded.contains(parent) && !host_.mounts.contains(parent))
      throw Error(fmt::format("cannot write '{}': its filesystem is not mounted", path));
    if (!synced) unsynced.emplace_back(path, host_.read(path));
    host_.file(path) = content;
  }

  void add_syncs(Acts& acts, const Names& sync) {
    for (const auto& what : sync) {
      acts.emplace_back([=, this] {
        std::erase_if(unsynced,
                      [&](const auto& file) { return !what.starts_with('/') || file.first.starts_with(what + "/"); });
      });
    }
  }

  FakeDomain& required(const std::string& uuid) {
    const auto found = host_.domains.find(uuid);
    if (found == host_.domains.end()) throw Error(fmt::format("there is no domain {}", uuid));
    return found->second;
  }

  void define(const plan::DomainDefinition& domain) {
    for (const auto& [uuid, other] : host_.domains) {
      if (other.name == domain.name && uuid != domain.uuid)
        throw Error(fmt::format("domain '{}' exists with another UUID", domain.name));
    }
    auto& defined = host_.domains[domain.uuid];
    defined.name = domain.name;
    defined.xml = domain.xml;
  }

  void undefine(const std::string& uuid) {
    const auto found = host_.domains.find(uuid);
    if (found == host_.domains.end()) return;
    if (found->second.running) throw Error(fmt::format("'{}' runs: it would become transient", found->second.name));
    if (found->second.managed_save) throw Error(fmt::format("'{}' has a managed save image", found->second.name));
    host_.domains.erase(found);
  }

  Acts acts_of(const plan::CreateFilesystem& step) {
    return {[=, this] { add_dataset(step.name, {0, true, "", "", "", step.properties, {}}); }};
  }
  Acts acts_of(const plan::CreateVolume& step) {
    return {[=, this] { add_dataset(step.name, {0, false, "", "", "", step.properties, {}}); }};
  }
  Acts acts_of(const plan::CloneDatasets& step) {
    Acts acts;
    for (const auto& clone : step.clones) {
      acts.emplace_back([=, this] {
        const auto from = host_.snapshots.find(clone.snapshot);
        if (from == host_.snapshots.end()) throw Error(fmt::format("'{}' does not exist", clone.snapshot));
        const bool filesystem = host_.datasets.at(clone.snapshot.substr(0, clone.snapshot.find('@'))).filesystem;
        add_dataset(clone.name,
                    {0, filesystem, clone.snapshot, "", from->second.content, clone.properties, from->second.files});
      });
    }
    return acts;
  }
  Acts acts_of(const plan::TakeSnapshots& step) {
    return {[=, this] {
      if (recovering) {
        for (const auto& name : step.names) {
          const auto found = host_.snapshots.find(name);
          if (found == host_.snapshots.end() || op_of(found->second.properties) != op_of(step.properties))
            throw Error("the snapshot was not taken");
        }
        return;
      }
      for (const auto& name : step.names) {
        if (host_.snapshots.contains(name)) throw Error(fmt::format("'{}' exists already", name));
        if (!host_.datasets.contains(name.substr(0, name.find('@'))))
          throw Error(fmt::format("no dataset of {}", name));
      }
      for (const auto& name : step.names) {
        const auto& dataset = host_.datasets.at(name.substr(0, name.find('@')));
        host_.snapshots[name] = {++next_guid_, step.properties, dataset.content, dataset.files, 0, next_guid_};
      }
      unsynced.clear();
    }};
  }
  Acts acts_of(const plan::CopyDataset& step) {
    const auto received = step.name + step.snapshot.substr(step.snapshot.find('@'));
    return {
        [=, this] {
          const auto from = host_.snapshots.find(step.snapshot);
          if (from == host_.snapshots.end()) throw Error(fmt::format("'{}' does not exist", step.snapshot));
          const bool filesystem = host_.datasets.at(step.snapshot.substr(0, step.snapshot.find('@'))).filesystem;
          add_dataset(step.name, {0, filesystem, "", "", from->second.content, step.properties, from->second.files});
          // Without our mark: a plain stream carries no properties of snapshots.
          host_.snapshots[received] = {from->second.guid,  {}, from->second.content,
                                       from->second.files, 0,  ++next_guid_};
        },
        [=, this] { destroy_snapshots({received}); }};
  }
  Acts acts_of(const plan::MountFilesystems& step) {
    Acts acts;
    for (const auto& at : step.mounts) {
      acts.emplace_back([=, this] {
        check_mount(at);
        host_.guarded.insert(at.directory);
      });
      acts.emplace_back([=, this] { mount(at); });
    }
    return acts;
  }
  Acts acts_of(const plan::UnmountFilesystems& step) {
    Acts acts;
    for (const auto& at : step.mounts) acts.emplace_back([=, this] { unmount(at.filesystem, at.directory); });
    return acts;
  }
  Acts acts_of(const plan::AwaitDevices& step) {
    return {[=, this] {
      for (const auto& volume : step.volumes) {
        if (!host_.datasets.contains(volume)) throw Error(fmt::format("the device of '{}' did not appear", volume));
      }
    }};
  }
  Acts acts_of(const plan::AwaitUnused&) { return {}; }
  Acts acts_of(const plan::WriteFiles& step) {
    Acts acts;
    for (const auto& file : step.files) acts.emplace_back([=, this] { write(file.path, file.content, step.synced); });
    return acts;
  }
  Acts acts_of(const plan::WriteSeeds& step) {
    Acts acts;
    for (const auto& seed : step.seeds) {
      acts.emplace_back([=, this] {
        std::string image;
        for (const auto& [name, content] : seed.documents) image += name + ":" + content;
        write(seed.path, image, false);
      });
    }
    add_syncs(acts, step.sync);
    return acts;
  }
  Acts acts_of(const plan::WriteImage& step) {
    const auto put = [this, volume = step.volume](const std::string& content) {
      const auto found = host_.datasets.find(volume);
      if (found == host_.datasets.end()) throw Error(fmt::format("'{}' does not exist", volume));
      found->second.content = content;
    };
    return {[=] { put("half of " + step.image); }, [=] { put(step.image); }};
  }
  Acts acts_of(const plan::CopyFiles& step) {
    Acts acts;
    for (const auto& [name, content] : host_.below(step.from)) {
      acts.emplace_back([=, this] { write(step.to + name, content); });
    }
    return acts;
  }
  Acts acts_of(const plan::MoveAside& step) {
    return {[=, this] {
      const auto moving = host_.below(step.from);
      const bool directory = host_.guarded.contains(step.from);
      if (moving.empty() && !directory) return;
      if (!host_.below(step.to).empty()) throw Error(fmt::format("'{}' exists", step.to));
      // Mounted or immutable: no name to give away.
      if (host_.guarded.contains(step.to)) throw Error(fmt::format("'{}' is a mount point", step.to));
      for (const auto& [name, content] : moving) host_.file(step.to + name) = content;
      for (const auto& [name, content] : moving) host_.remove_file(step.from + name);
    }};
  }
  Acts acts_of(const plan::RenameDataset& step) {
    return {[=, this] {
      const auto guid = [this](const std::string& name) {
        const auto found = host_.datasets.find(name);
        return found == host_.datasets.end() ? 0 : found->second.guid;
      };
      if (guid(step.from) != step.guid) {
        if (guid(step.to) == step.guid) return;
        throw Error(fmt::format("'{}' is not the dataset it was", step.from));
      }
      if (host_.datasets.contains(step.to)) throw Error(fmt::format("'{}' exists already", step.to));
      Names moving = {step.from};
      for (const auto& [name, dataset] : host_.datasets) {
        if (zfs::is_below(name, step.from)) moving.push_back(name);
      }
      const auto mounts = host_.mounts;
      for (const auto& [directory, filesystem] : mounts) {
        if (std::find(moving.begin(), moving.end(), filesystem) != moving.end()) unmount(filesystem, directory);
      }
      for (const auto& name : moving) rename(name, step.to + name.substr(step.from.size()));
    }};
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = host_.datasets.extract(from);
    node.key() = to;
    auto& dataset = host_.datasets.insert(std::move(node)).position->second;
    // Inherited, but for a TPM's.
    if (dataset.filesystem && zfs::last_component(to) != "tpm") {
      const auto parent = zfs::last_component(zfs::parent_of(to));
      dataset.mountpoint =
          parent == ".state" ? fmt::format("{}/{}", plan::kStateDirectory, zfs::last_component(to)) : std::string();
    }
    for (const auto& name : snapshots_of(from)) rename_snapshot(name, to + name.substr(name.find('@')));
  }
  void rename_snapshot(const std::string& from, const std::string& to) {
    auto snapshot = host_.snapshots.extract(from);
    snapshot.key() = to;
    host_.snapshots.insert(std::move(snapshot));
    for (auto& [name, dataset] : host_.datasets) {
      if (dataset.origin == from) dataset.origin = to;
    }
  }
  /// The origin and all older snapshots go over to the clone, with their clones.
  void promote(const std::string& clone) {
    auto& promoted = host_.datasets.at(clone);
    const auto origin = promoted.origin;
    const auto other = zfs::dataset_of(origin);
    const auto born = host_.snapshots.at(origin).createtxg;
    for (const auto& name : snapshots_of(other)) {
      if (host_.snapshots.at(name).createtxg > born) continue;
      const auto moved = clone + name.substr(name.find('@'));
      if (host_.snapshots.contains(moved)) throw Error(fmt::format("'{}' exists already", moved));
      rename_snapshot(name, moved);
    }
    promoted.origin = std::exchange(host_.datasets.at(other).origin, clone + origin.substr(origin.find('@')));
  }
  Acts acts_of(const plan::PromoteDatasets& step) {
    Acts acts;
    for (const auto& one : step.promotions) {
      acts.emplace_back([=, this] {
        const auto is_present = [&](const std::string& name) {
          const auto found = host_.datasets.find(name);
          return found != host_.datasets.end() && found->second.guid == one.guid;
        };
        const auto& clone = step.back ? one.present : one.past;
        const auto& other = step.back ? one.past : one.present;
        const auto found = host_.datasets.find(clone);
        const bool hangs = found != host_.datasets.end() && !found->second.origin.empty() &&
                           zfs::dataset_of(found->second.origin) == other;
        if (step.back && !is_present(one.present) && !is_present(one.present_was))
          throw Error(one.present + " is gone");
        if (!step.back && !hangs) throw Error(clone + " is no clone of " + other);
        if (hangs) promote(clone);
      });
    }
    return acts;
  }
  Acts acts_of(const plan::SetProperties& step) {
    Acts acts;
    for (const auto& [name, value] : step.properties) {
      acts.emplace_back([=, this] {
        auto found = host_.datasets.find(step.dataset);
        const auto is_it = [&] {
          return found != host_.datasets.end() && (step.guid == 0 || found->second.guid == step.guid);
        };
        if (!is_it()) found = host_.datasets.find(step.or_at);
        if (!is_it()) return;
        if (value.empty()) {
          found->second.properties.erase(name);
        } else {
          found->second.properties[name] = value;
        }
      });
    }
    return acts;
  }
  Acts acts_of(const plan::DefineDomains& step) {
    Acts acts;
    for (const auto& domain : step.domains) {
      acts.emplace_back([=, this] {
        const auto known = host_.domains.find(domain.uuid);
        if (!recovering || known == host_.domains.end() || known->second.name != domain.name) define(domain);
      });
    }
    add_syncs(acts, step.sync);
    return acts;
  }
  Acts acts_of(const plan::UndefineDomains& step) {
    Acts acts;
    for (const auto& domain : step.domains)
      acts.emplace_back([=, this] {
        const auto found = host_.domains.find(domain.uuid);
        if (found != host_.domains.end() && step.stop_first && !recovering) found->second.running = false;
        undefine(domain.uuid);
      });
    return acts;
  }
  Acts acts_of(const plan::RedefineDomain& step) {
    return {[=, this] {
      const auto found = host_.domains.find(step.now.uuid);
      if (recovering && found != host_.domains.end() && found->second.xml == step.now.xml) return;
      if (found != host_.domains.end() && found->second.running) throw Error(step.now.name + " is in use");
      define(step.now);
    }};
  }
  Acts acts_of(const plan::SaveDefinition& step) {
    return {[=, this] {
      if (recovering && !host_.domains.contains(step.domain.uuid)) return;
      write(step.path, required(step.domain.uuid).xml);
    }};
  }
  Acts acts_of(const plan::SetAutostart& step) {
    return {[=, this] {
      if (!step.autostart && !host_.domains.contains(step.domain.uuid)) return;
      required(step.domain.uuid).autostart = step.autostart;
    }};
  }
  Acts acts_of(const plan::StartDomain& step) {
    return {[=, this] { required(step.domain.uuid).running = true; }};
  }
  Acts acts_of(const plan::StopDomain& step) {
    return {[=, this] {
      if (host_.domains.contains(step.domain.uuid)) required(step.domain.uuid).running = false;
    }};
  }
  Acts acts_of(const plan::DiscardSaved& step) {
    return {[=, this] {
      if (host_.domains.contains(step.domain.uuid)) required(step.domain.uuid).managed_save = false;
    }};
  }
  Acts acts_of(const plan::DestroyDatasets& step) {
    Acts acts;
    for (const auto& doomed : step.datasets) {
      const auto is_other = [=, this] {
        const auto found = host_.datasets.find(doomed.name);
        return found != host_.datasets.end() && found->second.guid != doomed.guid;
      };
      acts.emplace_back([=, this] {
        if (!is_other() && !doomed.directory.empty()) unmount(doomed.name, doomed.directory);
      });
      acts.emplace_back([=, this] {
        if (!is_other()) destroy_snapshots(snapshots_of(doomed.name));
      });
      acts.emplace_back([=, this] {
        if (!is_other()) destroy_dataset(doomed.name);
      });
    }
    return acts;
  }
  Acts acts_of(const plan::DestroySnapshots& step) {
    return {[=, this] {
      Names names;
      for (const auto& doomed : step.snapshots) {
        const auto found = host_.snapshots.find(doomed.name);
        if (found == host_.snapshots.end() || found->second.guid != doomed.guid) continue;
        if (step.if_unused && (!clones_of(doomed.name).empty() || found->second.holds > 0)) continue;
        names.push_back(doomed.name);
      }
      destroy_snapshots(names);
    }};
  }
  Acts acts_of(const plan::CheckNewer& step) {
    return {[=, this] {
      for (const auto& one : step.datasets) {
        const auto target = host_.snapshots.find(one.snapshot);
        if (target == host_.snapshots.end() || target->second.guid != one.guid)
          throw Error(fmt::format("'{}' is not the snapshot it was", one.snapshot));
      }
    }};
  }
  Acts acts_of(const plan::RollbackDatasets& step) {
    Acts acts;
    for (const auto& one : step.datasets) {
      acts.emplace_back([=, this] {
        const auto target = host_.snapshots.find(one.snapshot);
        if (target == host_.snapshots.end() || target->second.guid != one.guid)
          throw Error(fmt::format("'{}' is not the snapshot it was", one.snapshot));
        for (const auto& name : snapshots_of(one.dataset)) {
          if (host_.snapshots.at(name).createtxg > target->second.createtxg)
            throw Error(fmt::format("'{}' is newer than '{}'", name, one.snapshot));
        }
        auto& dataset = host_.datasets.at(one.dataset);
        dataset.content = target->second.content;
        dataset.files = target->second.files;
      });
    }
    return acts;
  }
  Acts acts_of(const plan::DestroyOwn& step) {
    Acts acts;
    acts.emplace_back([=, this] {
      Names names;
      for (const auto& name : step.snapshots) {
        const auto found = host_.snapshots.find(name);
        if (found == host_.snapshots.end() || op_of(found->second.properties) != step.op) continue;
        // Somebody else cloned it meanwhile: it goes with its last user.
        if (clones_of(name).empty()) names.push_back(name);
      }
      destroy_snapshots(names);
    });
    for (const auto& name : step.datasets) {
      acts.emplace_back([=, this] {
        const auto found = host_.datasets.find(name);
        if (found == host_.datasets.end() || op_of(found->second.properties) != step.op) return;
        for (const auto& [other, dataset] : host_.datasets) {
          if (zfs::is_below(other, name)) return;
        }
        for (const auto& snapshot : snapshots_of(name)) {
          if (!clones_of(snapshot).empty() || host_.snapshots.at(snapshot).holds > 0)
            throw Error(fmt::format("'{}' is used: snapshot '{}' has clones or holds", name, snapshot));
        }
        const auto mounts = host_.mounts;
        for (const auto& [directory, filesystem] : mounts) {
          if (filesystem == name) unmount(filesystem, directory);
        }
        destroy_snapshots(snapshots_of(name));
        destroy_dataset(name);
      });
    }
    return acts;
  }
  Acts acts_of(const plan::RestoreFiles& step) {
    Acts acts;
    for (const auto& file : step.files) {
      acts.emplace_back([=, this] {
        if (host_.read(file.path) != file.content) return;  // never written, or by now another's
        if (file.existed) {
          write(file.path, file.previous);
        } else {
          host_.remove_file(file.path);
        }
      });
    }
    return acts;
  }

  FakeHost& host_;
  std::uint64_t next_guid_ = 1ULL << 40;
};

}  // namespace kld::run::test
