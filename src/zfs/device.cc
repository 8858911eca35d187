// SPDX-License-Identifier: Apache-2.0
#include "zfs/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/fs/zfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/error.h"
#include "zfs/mount.h"

namespace kld::zfs {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// The volume that the open device says it is; empty when it is none.
std::string ask_name(const std::string& device) {
  // O_NONBLOCK | O_RDONLY: asking must not disturb a device in use. A missing one is an answer, too.
  const int fd = ::open(device.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return {};
  char name[ZFS_MAX_DATASET_NAME_LEN] = {};
  const int problem = ::ioctl(fd, BLKZNAME, name);
  ::close(fd);
  return problem == 0 ? std::string(name) : std::string();
}

std::vector<std::string> zvol_nodes() {
  std::vector<std::string> nodes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/sys/block", ignored)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("zd")) nodes.push_back(name);
  }
  return nodes;
}

/// Asks udev once more for the links of these volumes: in bulk creation an event is lost now and then.
void trigger_again(const std::vector<std::string>& volumes) {
  for (const auto& node : zvol_nodes()) {
    if (std::find(volumes.begin(), volumes.end(), ask_name("/dev/" + node)) == volumes.end()) continue;
    std::ofstream(fmt::format("/sys/block/{}/uevent", node)) << "change";
  }
}

/// The volume's device and its partitions: numbers, and their directories in sysfs. Empty without a device.
std::map<dev_t, fs::path> disk_and_partitions(const std::string& volume) {
  struct stat status {};
  if (::stat(device_path(volume).c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return {};
  const fs::path disk = fmt::format("/sys/dev/block/{}:{}", major(status.st_rdev), minor(status.st_rdev));
  std::map<dev_t, fs::path> found = {{status.st_rdev, disk}};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(disk, ignored)) {
    std::ifstream number(entry.path() / "dev");
    unsigned device_major = 0;
    unsigned device_minor = 0;
    char colon = 0;
    if (!fs::exists(entry.path() / "partition", ignored) || !(number >> device_major >> colon >> device_minor))
      continue;
    found[makedev(device_major, device_minor)] = entry.path();
  }
  return found;
}

std::string process_name(const std::string& pid) {
  std::ifstream file(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

std::string device_path(const std::string& volume) { return "/dev/zvol/" + volume; }

std::string volume_in_path(const std::string& path) {
  constexpr std::string_view kPrefix = "/dev/zvol/";
  return path.starts_with(kPrefix) ? path.substr(kPrefix.size()) : std::string();
}

std::string volume_of_device(const std::string& path) {
  if (auto volume = volume_in_path(path); !volume.empty()) return volume;
  return volume_behind(path);
}

std::string volume_behind(const std::string& path) {
  std::error_code none;
  const auto device = fs::canonical(path, none).string();
  return device.starts_with("/dev/zd") ? ask_name(device) : std::string();
}

bool is_partition(const std::string& path) {
  std::error_code none;
  const auto device = fs::canonical(path, none);
  return fs::exists(fs::path("/sys/class/block") / device.filename() / "partition", none);
}

void await_devices(const std::vector<std::string>& volumes, std::chrono::milliseconds limit,
                   const std::function<bool()>& interrupted) {
  std::vector<std::string> missing = volumes;
  const auto start = Clock::now();
  auto next_trigger = start + std::chrono::milliseconds(1500);
  auto pause = std::chrono::milliseconds(5);
  for (;;) {
    std::erase_if(missing, [](const std::string& volume) { return ask_name(device_path(volume)) == volume; });
    if (missing.empty()) return;
    if (interrupted && interrupted()) throw Interrupted();
    if (Clock::now() - start >= limit) {
      throw Error(
          fmt::format("the device of volume '{}' did not appear within {} s", missing.front(), limit.count() / 1000),
          "see 'udevadm monitor' and whether volmode of the volume is 'none'");
    }
    if (Clock::now() >= next_trigger) {
      trigger_again(missing);
      next_trigger = Clock::now() + std::chrono::seconds(2);
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(100));
  }
}

namespace {

using Devices = std::map<dev_t, std::string>;

/// The volume of a block device by its path, empty when it is none of these.
std::string volume_at(const Devices& devices, const std::string& path) {
  // Of a file of a server that is gone, nothing is asked that only the server knows.
  struct statx status {};
  const int how = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  if (::statx(AT_FDCWD, path.c_str(), how, STATX_TYPE, &status) != 0 || !S_ISBLK(status.stx_mode)) return {};
  const auto device = devices.find(makedev(status.stx_rdev_major, status.stx_rdev_minor));
  return device == devices.end() ? std::string() : device->second;
}

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// Those that hold a device by the kernel, with no descriptor left: each names it in a file of its directory.
void add_kernel_users(const Devices& devices, std::vector<Holder>& result) {
  const auto add = [&](const fs::path& file, const std::string& who) {
    const auto path = first_line(file);
    const auto volume = path.starts_with('/') ? volume_at(devices, path) : std::string();
    if (!volume.empty()) result.push_back({0, who, volume});
  };
  const auto below = [](const fs::path& directory) {
    std::vector<fs::path> entries;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(directory, none)) entries.push_back(entry.path());
    return entries;
  };
  for (const auto& disk : below("/sys/block")) {
    const std::string name = disk.filename();
    if (name.starts_with("loop")) add(disk / "loop/backing_file", fmt::format("loop device /dev/{}", name));
  }
  for (const auto& adapter : below("/sys/kernel/config/target/core")) {
    for (const auto& store : below(adapter))
      add(store / "udev_path", fmt::format("SCSI target {}", store.filename().string()));
  }
  for (const auto& subsystem : below("/sys/kernel/config/nvmet/subsystems")) {
    for (const auto& space : below(subsystem / "namespaces"))
      add(space / "device_path", fmt::format("NVMe target {}", subsystem.filename().string()));
  }
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    const auto volume = volume_at(devices, line.substr(0, line.find_first_of(" \t")));
    if (!volume.empty()) result.push_back({0, "the host's swap space", volume});
  }
}

void add_processes(const Devices& devices, std::vector<Holder>& result) {
  std::error_code ignored;
  for (const auto& process : fs::directory_iterator("/proc", ignored)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::vector<std::string> seen;
    std::error_code gone;
    for (const auto& open_file : fs::directory_iterator(process.path() / "fd", gone)) {
      const auto volume = volume_at(devices, open_file.path());
      if (volume.empty() || std::find(seen.begin(), seen.end(), volume) != seen.end()) continue;
      seen.push_back(volume);
      result.push_back({std::stoi(pid), process_name(pid), volume});
    }
  }
}

/// Numbers of the volumes' devices; what is stacked on them goes into `result`.
Devices devices_of(const std::vector<std::string>& volumes, std::vector<Holder>& result) {
  Devices devices;
  for (const auto& volume : volumes) {
    for (const auto& [number, directory] : disk_and_partitions(volume)) {
      devices[number] = volume;
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(directory / "holders", ignored)) {
        result.push_back({0, fmt::format("block device {}", entry.path().filename().string()), volume});
      }
    }
  }
  return devices;
}

void add_mounts(const Devices& devices, const std::vector<Mount>& mounts, std::vector<Holder>& result) {
  // One is enough: most mount namespaces see what this one sees.
  std::set<std::string> mounted;
  for (const auto& mount : mounts) {
    const auto device = devices.find(mount.device);
    // Btrfs gives its mounts numbers of their own, and tells the device by name alone.
    const auto volume = device != devices.end()             ? device->second
                        : mount.source.starts_with("/dev/") ? volume_at(devices, mount.source)
                                                            : std::string();
    if (volume.empty() || !mounted.insert(volume).second) continue;
    const auto whose =
        mount.pid == 0 ? "" : fmt::format(" of {} (pid {})", process_name(std::to_string(mount.pid)), mount.pid);
    result.push_back({0, "a mounted file system" + whose, volume});
  }
}

/// It looks into a volume that came, was renamed or written to, and is done with it soon.
bool is_udev(const Holder& holder) { return holder.command == "(udev-worker)" || holder.command == "systemd-udevd"; }

}  // namespace

std::vector<Holder> kernel_holders(const std::vector<std::string>& volumes) {
  std::vector<Holder> result;
  const auto devices = devices_of(volumes, result);
  if (devices.empty()) return result;
  add_kernel_users(devices, result);
  add_mounts(devices, own_mounts(), result);
  return result;
}

std::vector<Holder> holders(const std::vector<std::string>& volumes) {
  constexpr std::chrono::seconds kLimit{5};
  const auto give_up = Clock::now() + kLimit;
  while (true) {
    std::vector<Holder> result;
    const auto devices = devices_of(volumes, result);
    if (devices.empty()) return result;
    add_kernel_users(devices, result);
    add_processes(devices, result);
    add_mounts(devices, all_mounts(), result);
    const bool passes = !result.empty() && std::all_of(result.begin(), result.end(), is_udev);
    if (!passes || Clock::now() >= give_up) return result;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

std::string to_string(const Holder& holder) {
  if (holder.pid == 0) return fmt::format("{} has {} open", holder.command, holder.volume);
  return fmt::format("{} (pid {}) has {} open", holder.command, holder.pid, holder.volume);
}

}  // namespace kld::zfs
