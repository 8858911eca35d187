// SPDX-License-Identifier: Apache-2.0
// A volume's device node: where it is, when it is really there, and who has it open.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace kld::zfs {

/// "/dev/zvol/rpool/vms/web".
std::string device_path(const std::string& volume);

/// "rpool/vms/web" of "/dev/zvol/rpool/vms/web", by the name alone; empty for any other path.
std::string volume_in_path(const std::string& path);
/// The same of any path that leads to a volume's device (/dev/zd16, /dev/rpool/vms/web, a link), by asking the device.
std::string volume_of_device(const std::string& path);
/// What the device behind the path itself says that it is, whatever the path's own words: a zvol's name may have
/// blanks, which its link has not. Empty when it is no volume, or not there.
std::string volume_behind(const std::string& path);
/// True when the path leads to a partition of a disk, not to a whole one.
bool is_partition(const std::string& path);

/// Waits until the link of each volume leads to a device that says it is this volume (after a rename the link lags
/// and leads to the old one). A link that does not come is asked of udev again. Throws Error at the limit.
void await_devices(const std::vector<std::string>& volumes, std::chrono::milliseconds limit,
                   const std::function<bool()>& interrupted);

struct Holder {
  int pid = 0;  ///< 0: the kernel (device mapper, a mounted file system), named in `command`
  std::string command;
  std::string volume;
};

/// Who has these volumes or partitions of them open: processes, block devices stacked on them, loop devices, exports
/// over SCSI and NVMe, mounts in any mount namespace, swap space. For udev, which is done soon, it waits up to 5 s.
std::vector<Holder> holders(const std::vector<std::string>& volumes);
/// Those of them that this host's kernel knows without a look at every process.
std::vector<Holder> kernel_holders(const std::vector<std::string>& volumes);

/// "qemu-system-x86 (pid 4711) has rpool/vms/web open".
std::string to_string(const Holder& holder);

}  // namespace kld::zfs
