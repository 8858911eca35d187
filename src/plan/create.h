// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/plan.h"
#include "plan/seed.h"
#include "plan/view.h"
#include "virt/definition.h"

namespace kld::plan {

struct DiskRequest {
  std::string label;
  std::uint64_t size = 0;  ///< bytes
};

struct CreateRequest {
  std::string name;
  std::uint64_t memory = 2048ULL << 20;  ///< bytes
  unsigned vcpus = 2;
  std::vector<DiskRequest> disks;  ///< the first is the first disk; empty: one of the default size
  std::optional<std::string> iso;
  std::optional<std::string> image;
  std::optional<std::string> drivers;  ///< a second CD: virtio-win.iso
  std::string os;
  std::optional<std::string> bridge;
  std::string network = "default";  ///< used without a bridge; "none": no NIC
  std::string cpu = "host-model";
  virt::Firmware firmware = virt::Firmware::uefi;
  bool tpm = true;
  std::optional<std::uint64_t> volblocksize;  ///< bytes
  std::string workload = "general";
  bool thick = false;
  std::string sync = "standard";
  std::string vnc_listen = "127.0.0.1";
  std::string virt_type = "kvm";
  bool autostart = false;
  bool start = true;
  bool over_limit = false;
  SeedRequest seed;
};

/// What `qemu-img info` says of an image file.
struct ImageInfo {
  std::string format;
  std::uint64_t virtual_size = 0;  ///< bytes
  std::string backing_file;
  bool encrypted = false;
  std::string data_file = {};  ///< a qcow2 whose data lie in another file
  std::string packed = {};     ///< "gzip", "tar": no disk at all, though qemu-img takes it for a raw one
  std::uint64_t data = 0;      ///< bytes without holes, nor what a qcow2 leaves out; 0: not known
};

struct CreateFacts {
  zfs::Pool pool;
  virt::HostInfo host;
  std::vector<std::string> networks;     ///< libvirt's
  bool network_active = true;            ///< the one asked for
  std::vector<std::string> bridges;      ///< of the host
  std::optional<ImageInfo> image;        ///< of --image, when it could be read
  std::vector<Refusal> unreadable;       ///< files asked for that are missing or cannot be read
  std::vector<std::string> taken_paths;  ///< of the paths the machine would use, those that exist already
  bool kvm_available = true;
  std::vector<std::string> unreachable;  ///< media in directories that QEMU's user may not enter
};

/// libosinfo's id of "debian12", "rocky9", "win11" and the like; nullopt when the word is not known.
std::optional<std::string> os_id(const std::string& os);
bool is_windows(const std::string& os);

/// Volume block size by workload: postgres 8K, mysql 16K, general 64K; nullopt for another word.
std::optional<std::uint64_t> workload_blocksize(const std::string& workload);

/// State, zvols, image, seed, definition, start.
Result plan_create(const View& view, const CreateRequest& request, const CreateFacts& facts, const Fresh& fresh);

}  // namespace kld::plan
