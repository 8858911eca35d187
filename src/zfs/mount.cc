// SPDX-License-Identifier: Apache-2.0
#include "zfs/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.h"

namespace kld::zfs {
namespace {

namespace fs = std::filesystem;

/// Some file systems know no such flag: then the guard is missing, no more, and the mount goes on.
void set_immutable(const std::string& directory, bool immutable) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  int flags = 0;
  if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
    const int wanted = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    if (wanted != flags) (void)::ioctl(fd, FS_IOC_SETFLAGS, &wanted);
  }
  ::close(fd);
}

void make_directory(const std::string& directory) {
  std::error_code problem;
  fs::create_directories(fs::path(directory).parent_path(), problem);
  if (::mkdir(directory.c_str(), 0711) != 0 && errno != EEXIST) {
    throw Error(fmt::format("cannot make directory '{}': {}", directory, std::strerror(errno)));
  }
  if (!fs::is_directory(directory, problem)) throw Error(fmt::format("'{}' is not a directory", directory));
  if (!fs::is_empty(directory, problem)) {
    throw Error(fmt::format("'{}' holds files that a mount would hide", directory),
                fmt::format("move them away, then try again: ls -la {}", directory));
  }
  set_immutable(directory, true);
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(const std::string& field) {
  std::string result;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      result += static_cast<char>(std::stoi(field.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      result += field[i];
    }
  }
  return result;
}

}  // namespace

namespace {

std::vector<Mount> mounts_in(const std::string& table, int pid) {
  std::ifstream info(table);
  std::vector<Mount> found;
  for (std::string line; std::getline(info, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    const auto dash = line.find(" - ");
    unsigned device_major = 0;
    unsigned device_minor = 0;
    if (dash == std::string::npos || std::sscanf(device.c_str(), "%u:%u", &device_major, &device_minor) != 2) continue;
    std::istringstream tail(line.substr(dash + 3));
    std::string type, source;
    tail >> type >> source;
    found.push_back({makedev(device_major, device_minor), unescape(source), unescape(point), pid});
  }
  return found;
}

}  // namespace

std::vector<Mount> own_mounts() { return mounts_in("/proc/self/mountinfo", 0); }

std::vector<Mount> all_mounts() {
  auto found = own_mounts();
  std::error_code none;
  std::set<std::string> seen = {fs::read_symlink("/proc/self/ns/mnt", none)};
  for (const auto& process : fs::directory_iterator("/proc", none)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    const auto space = fs::read_symlink(process.path() / "ns/mnt", gone).string();
    if (space.empty() || !seen.insert(space).second) continue;
    auto theirs = mounts_in(process.path() / "mountinfo", std::stoi(pid));
    found.insert(found.end(), theirs.begin(), theirs.end());
  }
  return found;
}

std::uint64_t device_at(const std::string& directory) {
  // What a server that is gone would have to answer is not asked.
  struct statx status {};
  const int how = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  if (::statx(AT_FDCWD, directory.c_str(), how, STATX_TYPE, &status) != 0) return 0;
  return makedev(status.stx_dev_major, status.stx_dev_minor);
}

std::vector<std::string> still_used_by(const std::string& filesystem, std::uint64_t device) {
  std::vector<std::string> who;
  for (const auto& mount : all_mounts()) {
    if (mount.device != device) continue;
    // The number was free, and another one has it by now.
    if (mount.source != filesystem) return {};
    who.push_back(mount.pid == 0 ? fmt::format("it is mounted at {}, too", mount.directory)
                                 : fmt::format("it is mounted at {} for pid {}", mount.directory, mount.pid));
  }
  std::error_code none;
  for (const auto& process : fs::directory_iterator("/proc", none)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    bool uses = device_at(process.path() / "cwd") == device || device_at(process.path() / "root") == device;
    std::error_code gone;
    for (const auto& open_file : fs::directory_iterator(process.path() / "fd", gone)) {
      uses = uses || device_at(open_file.path()) == device;
    }
    if (!uses) continue;
    std::ifstream comm(process.path() / "comm");
    std::string name;
    std::getline(comm, name);
    who.push_back(fmt::format("{} (pid {}) uses it in a mount namespace of its own", name, pid));
  }
  return who;
}

std::map<std::string, std::string> mounts() {
  std::map<std::string, std::string> found;
  for (auto& mount : own_mounts()) {
    found[mount.directory] = std::move(mount.source);  // the last one wins: it lies on top
  }
  return found;
}

std::string mounted_at(const std::string& directory) {
  const auto all = mounts();
  const auto found = all.find(directory);
  return found == all.end() ? std::string() : found->second;
}

namespace {

/// Passable for the machine's own process, readable for root alone.
void open_to_pass(const std::string& directory) {
  if (::chmod(directory.c_str(), 0711) != 0) {
    throw Error(fmt::format("cannot change the mode of {}: {}", directory, std::strerror(errno)));
  }
}

}  // namespace

void mount_if_needed(const std::string& filesystem, const std::string& directory, bool anew) {
  std::string there = mounted_at(directory);
  if (there == filesystem && anew && ::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) there = mounted_at(directory);
  if (there == filesystem) return open_to_pass(directory);
  if (!there.empty())
    throw Error(fmt::format("cannot mount '{}': '{}' is mounted at {}", filesystem, there, directory));
  make_directory(directory);
  // What mount.zfs passes: without "mntpoint" the .zfs directory cannot mount its snapshots.
  const std::string options = "zfsutil,mntpoint=" + directory;
  if (::mount(filesystem.c_str(), directory.c_str(), "zfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, options.c_str()) != 0) {
    throw Error(fmt::format("cannot mount '{}' at {}: {}", filesystem, directory, std::strerror(errno)));
  }
  open_to_pass(directory);
}

void unmount_if_mounted(const std::string& filesystem, const std::string& directory) {
  using namespace std::chrono_literals;
  for (int tries = 0; mounted_at(directory) == filesystem; ++tries) {
    if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) break;
    if (errno != EBUSY || tries >= 50) {
      throw Error(fmt::format("cannot unmount {}: {}", directory, std::strerror(errno)),
                  fmt::format("see who uses it with 'fuser -vm {}'", directory));
    }
    std::this_thread::sleep_for(100ms);
  }
  if (mounted_at(directory).empty()) remove_mount_point(directory);
}

std::optional<std::string> read_inside(const std::string& filesystem, const std::string& file) {
  // A thread may leave the mounts that it shares with the others; nobody else sees what it mounts then, or is kept busy
  // by it.
  return std::async(std::launch::async,
                    [&]() -> std::optional<std::string> {
                      constexpr char kPlace[] = "/tmp";
                      const auto check = [&](int result) {
                        if (result != 0)
                          throw Error(fmt::format("cannot look into '{}': {}", filesystem, std::strerror(errno)));
                      };
                      check(::unshare(CLONE_NEWNS));
                      check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
                      check(::mount(filesystem.c_str(), kPlace, "zfs", MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC,
                                    "zfsutil"));
                      std::optional<std::string> content;
                      {
                        std::ifstream stream(fs::path(kPlace) / file, std::ios::binary);
                        if (stream)
                          content.emplace(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
                      }
                      check(::umount2(kPlace, UMOUNT_NOFOLLOW));
                      return content;
                    })
      .get();
}

void remove_mount_point(const std::string& directory) {
  std::error_code problem;
  if (!fs::is_directory(fs::symlink_status(directory, problem)) || !fs::is_empty(directory, problem)) return;
  set_immutable(directory, false);
  ::rmdir(directory.c_str());
}

}  // namespace kld::zfs
