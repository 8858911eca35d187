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
#include <thread>

#include "base/error.h"

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

std::vector<Holder> holders(const std::vector<std::string>& volumes) {
  std::map<dev_t, std::string> devices;
  std::vector<Holder> result;
  for (const auto& volume : volumes) {
    for (const auto& [number, directory] : disk_and_partitions(volume)) {
      devices[number] = volume;
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(directory / "holders", ignored)) {
        result.push_back({0, fmt::format("block device {}", entry.path().filename().string()), volume});
      }
    }
  }
  if (devices.empty()) return result;
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    struct stat status {};
    if (::stat(line.substr(0, line.find_first_of(" \t")).c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) continue;
    const auto device = devices.find(status.st_rdev);
    if (device != devices.end()) result.push_back({0, "the host's swap space", device->second});
  }
  std::error_code ignored;
  for (const auto& process : fs::directory_iterator("/proc", ignored)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::vector<std::string> seen;
    std::error_code gone;
    for (const auto& open_file : fs::directory_iterator(process.path() / "fd", gone)) {
      struct stat status {};
      if (::stat(open_file.path().c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) continue;
      const auto device = devices.find(status.st_rdev);
      if (device == devices.end() || std::find(seen.begin(), seen.end(), device->second) != seen.end()) continue;
      seen.push_back(device->second);
      result.push_back({std::stoi(pid), process_name(pid), device->second});
    }
  }
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    unsigned device_major = 0;
    unsigned device_minor = 0;
    if (std::sscanf(line.c_str(), "%*d %*d %u:%u", &device_major, &device_minor) != 2) continue;
    const auto device = devices.find(makedev(device_major, device_minor));
    if (device != devices.end()) result.push_back({0, "a mounted file system", device->second});
  }
  return result;
}

std::string to_string(const Holder& holder) {
  if (holder.pid == 0) return fmt::format("{} has {} open", holder.command, holder.volume);
  return fmt::format("{} (pid {}) has {} open", holder.command, holder.pid, holder.volume);
}

}  // namespace kld::zfs
