// SPDX-License-Identifier: Apache-2.0
#include "run/real_runner.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <future>
#include <thread>

#include "base/process.h"
#include "plan/view.h"
#include "run/file.h"
#include "run/interrupt.h"
#include "run/journal.h"
#include "run/parallel.h"
#include "virt/definition.h"
#include "zfs/change.h"
#include "zfs/dataset.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;

constexpr auto kDeviceLimit = 60s;
constexpr int kHoldersWaitMs = 5000;

/// True when a run or an undo that got further than this step has undefined the domain.
bool is_gone(const virt::Connection& libvirt, const plan::DomainName& domain) {
  const auto found = libvirt.find(domain.name);
  return !found || found->uuid != domain.uuid;
}

Error in_use(const std::string& name) {
  return Error(fmt::format("machine '{}' was started meanwhile: it may be in use", name),
               fmt::format("shut it down, then run 'kld recover': virsh shutdown {}", name));
}

/// Mount points one by one, a pool by its name.
void bring_to_disk(const std::vector<std::string>& sync) {
  for_each_parallel(sync, kThreads, [](const std::string& what) {
    if (what.starts_with('/')) {
      sync_filesystem(what);
    } else {
      zfs::sync(what);
    }
  });
}

/// libvirt syncs the content of a definition, not its name. The journal's next record brings that to disk, where both
/// lie in one filesystem.
void definitions_to_disk() {
  constexpr char kDefinitions[] = "/etc/libvirt";
  struct stat definitions {};
  struct stat journal {};
  if (::stat(kDefinitions, &definitions) != 0 || ::stat(kJournalDirectory, &journal) != 0) return;
  if (definitions.st_dev != journal.st_dev) sync_filesystem(kDefinitions);
}

}  // namespace

void RealRunner::run(const plan::Step& step) {
  while_doing(plan::describe(step), [&] {
    try {
      std::visit([this](const auto& one) { act(one); }, step);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& problem) {
      throw Error(problem.what());
    }
  });
}

void RealRunner::require_unused(const plan::AtStake& stake) {
  const auto contains = [](const std::vector<std::string>& all, const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (const auto& domain : libvirt().list_with_pending(virt::Details::none)) {
    if (contains(stake.undefined, domain.uuid)) continue;
    for (const auto& path : domain.block_paths) {
      const auto named = zfs::volume_in_path(path);
      const auto volume = named.empty() ? zfs::volume_of_device(path) : named;
      for (const auto& doomed : stake.datasets) {
        if (volume != doomed && !plan::may_be_volume(path, doomed)) continue;
        throw Error(
            fmt::format("domain '{}' uses {} again: take it from it to have the deletion finished, remove the journal "
                        "to keep it",
                        domain.name, volume.empty() ? path : volume));
      }
    }
  }
  if (const auto holders = zfs::holders(stake.datasets); !holders.empty()) throw Error(zfs::to_string(holders.front()));
}

void RealRunner::require_unused_since(const std::vector<plan::Started>& started) {
  for (const auto& [domain, defined] : started) {
    if (is_gone(libvirt(), domain)) continue;
    if (!defined && virt::is_active(libvirt().find(domain.name)->state)) throw in_use(domain.name);
    if (!defined) continue;
    throw Error(
        fmt::format("machine '{}' had been started and may be in use: undefine it to have it taken back, remove the "
                    "journal to keep it",
                    domain.name));
  }
}

bool RealRunner::any_exists(const std::vector<std::string>& datasets) {
  return std::any_of(datasets.begin(), datasets.end(), [](const std::string& name) { return zfs::exists(name); });
}

const virt::Connection& RealRunner::libvirt() const {
  if (connection_ == nullptr) throw Error("this step needs libvirt, which is not connected");
  return *connection_;
}

void RealRunner::act(const plan::MountFilesystems& step) const {
  for_each_parallel(step.mounts, kThreads, [&](const plan::MountPoint& mount) {
    zfs::mount_if_needed(mount.filesystem, mount.directory, recovering_);
  });
}

void RealRunner::act(const plan::UnmountFilesystems& step) const {
  for (const auto& mount : step.mounts) {
    const auto device = zfs::mounted_at(mount.directory) == mount.filesystem ? zfs::device_at(mount.directory) : 0;
    zfs::unmount_if_mounted(mount.filesystem, mount.directory);
    // It could not be destroyed, which would come to light behind the point of no return.
    const bool looks = device != 0 && !undoing_ && !recovering_;
    const auto users = looks ? zfs::still_used_by(mount.filesystem, device) : std::vector<std::string>();
    if (users.empty()) continue;
    throw Error(fmt::format("'{}' is in use: {}", mount.filesystem, users.front()),
                "end that program or mount, or wait until it is done");
  }
}

void RealRunner::act(const plan::AwaitDevices& step) const {
  zfs::await_devices(step.volumes, kDeviceLimit, interrupted_);
}

void RealRunner::act(const plan::AwaitUnused& step) const {
  for (int tries = 0;; ++tries) {
    const auto holders = zfs::holders(step.volumes);
    if (holders.empty()) return;
    if (interrupted_ && interrupted_()) throw Interrupted();
    if (tries >= kHoldersWaitMs / 200) {
      throw Error(zfs::to_string(holders.front()), "end that program, or wait until it is done");
    }
    std::this_thread::sleep_for(200ms);
  }
}

void RealRunner::act(const plan::WriteFiles& step) const {
  for_each_parallel(step.files, kThreads, [&](const plan::File& file) {
    if (recovering_) remove_unfinished(file.path);
    write_file(file.path, file.content, step.synced);
  });
}

void RealRunner::act(const plan::RestoreFiles& step) const {
  for (const auto& file : step.files) {
    const bool others = std::any_of(shared_.begin(), shared_.end(), [&](const std::string& machine) {
      return file.path.starts_with(plan::state_directory(machine) + "/");
    });
    if (others) continue;
    // Recovery has the machine for itself: what another left half written goes, too.
    if (recovering_) remove_unfinished(file.path);
    const auto now = read_file(file.path);
    if (!now || *now != file.content) continue;  // never written, or by now another's
    if (file.existed) {
      write_file(file.path, file.previous, true);
    } else {
      remove_file(file.path);
    }
  }
}

void RealRunner::act(const plan::WriteSeeds& step) const {
  for_each_parallel(step.seeds, kThreads, [&](const plan::Seed& seed) {
    if (recovering_) remove_unfinished(seed.path);
    write_seed(seed.path, seed.documents);
  });
  bring_to_disk(step.sync);
}

void RealRunner::act(const plan::WriteImage& step) const {
  ProcessOptions options;
  options.limit = std::chrono::hours(24 * 7);
  options.stop = interrupted_;
  options.dies_with_us = true;
  options.kept_fds = locks_;
  // "    (12.34/100%)\r"
  options.on_output = [&](std::string_view piece) {
    const auto open = piece.rfind('(');
    if (open == std::string_view::npos || !progress_) return;
    const std::string number(piece.substr(open + 1, piece.find('/', open) - open - 1));
    progress_(step.volume, std::strtod(number.c_str(), nullptr) / 100.0, step.size);
  };
  run_checked(plan::commands(step).front(), options);
}

void RealRunner::act(const plan::CopyFiles& step) const { copy_files(step.from, step.to); }
void RealRunner::act(const plan::MoveAside& step) const {
  // What a mount was made on is immutable, should the mount have gone without us.
  zfs::remove_mount_point(step.to);
  move_aside(step.from, step.to);
}

void RealRunner::act(const plan::DefineDomains& step) const {
  // Waited for also when a definition fails.
  std::future<void> synced;
  if (!step.sync.empty()) synced = std::async(std::launch::async, [&] { bring_to_disk(step.sync); });
  for_each_parallel(step.domains, kThreads, [&](const plan::DomainDefinition& domain) {
    // What is known already may have been changed since by whom it belongs to.
    if (recovering_ && !is_gone(libvirt(), {domain.name, domain.uuid})) return;
    libvirt().define(domain.xml, step.validate);
  });
  if (synced.valid()) synced.get();
  definitions_to_disk();
}

void RealRunner::act(const plan::UndefineDomains& step) const {
  for_each_parallel(step.domains, kThreads, [&](const plan::DomainDefinition& domain) {
    const auto known = libvirt().find(domain.name);
    if (!known || known->uuid != domain.uuid) return;
    if (virt::is_active(known->state)) {
      if (recovering_ && step.stop_first) throw in_use(domain.name);
      if (!step.stop_first) throw Error(fmt::format("machine '{}' was started meanwhile", domain.name));
      libvirt().stop(domain.uuid, std::chrono::seconds(0), nullptr);
    }
    libvirt().undefine(domain.uuid);
  });
  definitions_to_disk();
}

void RealRunner::act(const plan::RedefineDomain& step) {
  if (edited_ == step.now.name) return;
  const auto known = libvirt().find(step.now.name);
  // What was edited since it was done stays.
  if (known && recovering_ && plan::is_done(step, libvirt().inactive_xml(known->uuid))) return;
  if (known && virt::is_active(known->state)) throw in_use(step.now.name);
  // While it was asked to shut down, somebody had it saved: that memory would go on with other disks.
  if (known && !recovering_ && !undoing_ && libvirt().has_managed_save(known->uuid)) {
    throw Error(fmt::format("the memory of domain '{}' was saved meanwhile", step.now.name),
                fmt::format("start it, or discard that with 'virsh managedsave-remove {}'", step.now.name));
  }
  // A question may have stood for long. Not in a recovery: libvirt words a definition anew when it starts anew.
  if (known && !recovering_ && !undoing_) {
    const auto present = virt::Definition::parse(libvirt().inactive_xml(known->uuid));
    if (!present.same_as(virt::Definition::parse(step.before.xml))) {
      edited_ = step.now.name;
      throw Error(fmt::format("the definition of '{}' was changed meanwhile", step.now.name), "try again");
    }
  }
  libvirt().define(step.now.xml, step.validate);
  definitions_to_disk();
}

void RealRunner::act(const plan::SaveDefinition& step) const {
  if (recovering_ && is_gone(libvirt(), step.domain)) return;
  if (recovering_) remove_unfinished(step.path);
  write_file(step.path, libvirt().inactive_xml(step.domain.uuid), true);
}

void RealRunner::act(const plan::SetAutostart& step) const {
  if ((recovering_ || !step.autostart) && is_gone(libvirt(), step.domain)) return;
  libvirt().set_autostart(step.domain.uuid, step.autostart);
  definitions_to_disk();
}
/// How long a guest may still take to go off that was asked to by whom we recover.
std::chrono::seconds RealRunner::asked_still(const plan::StartDomain& step) const {
  // The button was pressed a little after the operation began.
  constexpr std::int64_t kBefore = 30;
  const auto asked = static_cast<std::int64_t>(step.asked_seconds);
  if (!recovering_ || asked == 0) return std::chrono::seconds(0);
  const auto left = began_ + asked + kBefore - static_cast<std::int64_t>(std::time(nullptr));
  return std::chrono::seconds(std::clamp<std::int64_t>(left, 0, asked));
}

void RealRunner::act(const plan::StartDomain& step) const {
  // Whoever was killed when it had pressed the power button waits for nothing any more.
  if (const auto left = asked_still(step); left.count() > 0 && !is_gone(libvirt(), step.domain)) {
    libvirt().await_off(step.domain.uuid, left, interrupted);
  }
  // Also for a run that is repeated.
  const auto known = libvirt().find(step.domain.name);
  if (known && known->uuid == step.domain.uuid && virt::is_active(known->state)) return;
  libvirt().start(step.domain.uuid);
}

void RealRunner::act(const plan::StopDomain& step) const {
  if (is_gone(libvirt(), step.domain)) return;
  const auto say = [&](const std::string& what) {
    if (warn_) warn_(fmt::format("machine '{}' was asked to shut down {}", step.domain.name, what));
  };
  try {
    libvirt().stop(step.domain.uuid, std::chrono::seconds(step.graceful_seconds), interrupted_, [&] {
      say(fmt::format("and cannot be asked not to: waiting until it is off, {} s at most", step.graceful_seconds));
    });
  } catch (const Interrupted&) {
    say("and still runs: should it go off, start it again");
    throw;
  }
}

void RealRunner::act(const plan::DiscardSaved& step) const {
  if (!is_gone(libvirt(), step.domain)) libvirt().remove_managed_save(step.domain.uuid);
}

}  // namespace kld::run
