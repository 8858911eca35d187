// SPDX-License-Identifier: Apache-2.0
// What a planner is given: the host's state as plain values, filled by readers in run/.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "virt/connection.h"
#include "zfs/dataset.h"

namespace kld::plan {

/// Where machines' state filesystems are mounted.
inline constexpr char kStateDirectory[] = "/var/lib/kldload/state";
/// Where libvirt 9 keeps the running TPM of the machine with this UUID.
inline constexpr char kTpmDirectory[] = "/var/lib/libvirt/swtpm";
/// Label of the first disk, the zvol `<root>/NAME`.
inline constexpr char kFirstDisk[] = "root";

/// Datasets and domains, as one look found them.
struct View {
  std::string root;                    ///< the VM root dataset
  std::vector<zfs::Dataset> datasets;  ///< at and below root, filesystems and volumes
  std::vector<virt::DomainInfo> domains;
  /// Volumes behind block paths that are not named under /dev/zvol/: {"/dev/zd16", "rpool/vms/web"}; also those that
  /// a definition names by libvirt's storage pool: {"zvols/web", "rpool/vms/web"}.
  std::map<std::string, std::string> volumes = {};
  /// Of the machine that the command is about: "a mounted file system has rpool/vms/web open". By volume.
  std::map<std::string, std::string> held = {};
};

/// It is no machine's own as it lies there: set aside, or a replica.
bool is_aside(const View& view, const zfs::Dataset& dataset);

/// Fresh values: time and random names are arguments, so that a plan is a function of its inputs.
struct Fresh {
  std::string op;  ///< the operation's UUID
  UnixTime now = 0;
  std::function<std::string()> uuid;  ///< a new one at each call
  std::function<std::string()> mac;
};

struct MachineDisk {
  std::string label;
  zfs::Dataset volume;
};

/// A machine: a domain with the datasets that say they are its own. Either half may be missing.
struct Machine {
  std::string name;
  std::vector<MachineDisk> disks;  ///< the first disk first, then by label
  std::optional<zfs::Dataset> state;
  std::optional<zfs::Dataset> tpm;
  std::optional<virt::DomainInfo> domain;
  std::vector<std::string> held = {};  ///< what of the host itself has disks of it open

  /// All its datasets: disks, state, TPM.
  std::vector<zfs::Dataset> datasets() const;
  bool active() const { return domain && virt::is_active(domain->state); }
};

/// All machines of the layout by name, replicas and set-aside datasets left out.
std::map<std::string, Machine> machines(const View& view);
/// The machine of this name, nullopt when no dataset says it belongs to it.
std::optional<Machine> find_machine(const View& view, const std::string& name);
/// The machine that this dataset is part of, by mark and place; state that the view does not reach, by its place alone.
/// Empty when it is no machine's.
std::string owner_of(const View& view, const std::string& dataset);
const zfs::Dataset* find_dataset(const View& view, const std::string& name);
const virt::DomainInfo* find_domain(const View& view, const std::string& name);
/// The volume behind a path that a definition names, empty when it is none.
std::string volume_of(const View& view, const std::string& path);

/// True for a disk in a storage pool that libvirt could not look into, when it may be this volume by its name.
bool may_be_volume(const std::string& path, const std::string& volume);

/// "<root>/web" for the first disk, "<root>/web-data" for the disk labelled data.
std::string disk_dataset(const std::string& root, const std::string& machine, const std::string& label);
std::string state_dataset(const std::string& root, const std::string& machine);
std::string tpm_dataset(const std::string& root, const std::string& machine);
std::string state_directory(const std::string& machine);
std::string tpm_directory(const std::string& uuid);
std::string nvram_path(const std::string& machine);
std::string seed_path(const std::string& machine);
std::string definition_path(const std::string& machine);

/// Why this machine cannot be touched by what needs its disks at rest in libvirt's eyes: libvirt snapshots,
/// checkpoints, a running block job, a transient domain; unless `saved_allowed`, a managed save image.
std::optional<Refusal> foreign_state(const Machine& machine, const std::vector<std::string>& block_jobs,
                                     bool saved_allowed);
/// The refusal that says there is no such machine, with the nearest name as a hint, or how to adopt it.
Refusal no_such_machine(const View& view, const std::string& name);

}  // namespace kld::plan
