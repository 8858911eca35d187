// SPDX-License-Identifier: Apache-2.0
#include "plan/create_refusals.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "base/name.h"
#include "base/size.h"

namespace kld::plan {
namespace {

constexpr std::uint64_t kLeastMemory = 32 * MiB;
constexpr unsigned kMostVcpus = 512;

Refusal usage(std::string message, std::string hint = "") { return {"usage", std::move(message), {}, std::move(hint)}; }

std::optional<Refusal> bad_blocksize(std::uint64_t size) {
  if (std::has_single_bit(size) && size >= 4 * KiB && size <= 128 * KiB) return std::nullopt;
  return usage(fmt::format("--volblocksize {} is not a power of two from 4K to 128K", exact_size(size)),
               "64K suits most machines");
}

std::string unpacker(const std::string& packed) {
  static const std::map<std::string, std::string> kCommands = {
      {"gzip", "gunzip -k"}, {"xz", "unxz -k"}, {"zstd", "unzstd"}, {"bzip2", "bunzip2 -k"},
      {"zip", "unzip"},      {"7z", "7z x"},    {"tar", "tar -xf"}};
  const auto found = kCommands.find(packed);
  return found == kCommands.end() ? "file" : found->second;
}

}  // namespace

std::optional<Refusal> bad_words(const CreateRequest& request) {
  if (request.memory < kLeastMemory) {
    return usage(fmt::format("--ram {} is less than {}", exact_size(request.memory), exact_size(kLeastMemory)),
                 "a bare number counts MiB: --ram 2048");
  }
  if (request.memory % MiB != 0) return usage("--ram must be a whole number of MiB");
  if (request.vcpus == 0) return usage("--cpus must be at least 1");
  if (request.vcpus > kMostVcpus) return usage(fmt::format("--cpus {} is more than {}", request.vcpus, kMostVcpus));
  if (!workload_blocksize(request.workload)) {
    return usage(fmt::format("--workload '{}' is none of general, postgres, mysql", request.workload));
  }
  if (request.volblocksize) {
    if (auto refusal = bad_blocksize(*request.volblocksize)) return refusal;
  }
  if (!request.os.empty() && !os_id(request.os)) {
    return usage(
        fmt::format("--os '{}' is not a known system", request.os),
        "write family and version, such as debian12, ubuntu24.04, rocky9, win11; 'linux' fits any other Linux");
  }
  if (request.sync != "standard" && request.sync != "always" && request.sync != "disabled") {
    return usage(fmt::format("--sync '{}' is none of standard, always, disabled", request.sync));
  }
  if (request.virt_type != "kvm" && request.virt_type != "qemu") {
    return usage(fmt::format("--virt-type '{}' is neither kvm nor qemu", request.virt_type));
  }
  if (request.bridge && request.network != "default") return usage("--bridge and --network exclude each other");
  if (request.iso && request.image) return usage("--iso and --image exclude each other");
  if (request.drivers && !is_windows(request.os)) return usage("--drivers goes with --os win…");
  if (const auto problem = seed_problem(request.seed)) return usage(*problem);
  std::set<std::string> labels;
  for (std::size_t i = 0; i < request.disks.size(); ++i) {
    const auto& disk = request.disks[i];
    if (i > 0 && disk.label.empty()) return usage("a further disk needs a label: --disk data=200G");
    const std::string label = disk.label.empty() ? kFirstDisk : disk.label;
    if (const auto problem = disk_label_problem(label))
      return usage(fmt::format("disk label '{}' {}", label, *problem));
    if (!labels.insert(label).second || (i > 0 && label == kFirstDisk)) {
      return usage(fmt::format("disk label '{}' is given twice", label));
    }
  }
  return std::nullopt;
}

std::optional<Refusal> bad_image(const CreateRequest& request, const CreateFacts& facts) {
  for (const auto& refusal : facts.unreadable) return refusal;
  if (!request.image || !facts.image) return std::nullopt;
  const auto& image = *facts.image;
  if (!image.packed.empty()) {
    return Refusal{"image-packed",
                   fmt::format("'{}' is a {} file, not the disk itself", *request.image, image.packed),
                   {},
                   fmt::format("unpack it first: {} '{}'", unpacker(image.packed), *request.image)};
  }
  if (image.format != "raw" && image.format != "qcow2") {
    return Refusal{"image-format",
                   fmt::format("'{}' is a {} image; raw and qcow2 are taken", *request.image, image.format),
                   {},
                   fmt::format("convert it first: qemu-img convert -O qcow2 '{}' image.qcow2", *request.image)};
  }
  if (!image.backing_file.empty()) {
    return Refusal{"backing-file",
                   fmt::format("'{}' is only what differs from a backing file", *request.image),
                   {fmt::format("its backing file is {}", image.backing_file)},
                   fmt::format("make it whole first: qemu-img convert -O qcow2 '{}' whole.qcow2", *request.image)};
  }
  if (!image.data_file.empty()) {
    return Refusal{"data-file",
                   fmt::format("'{}' keeps its data in another file", *request.image),
                   {fmt::format("its data file is {}", image.data_file)},
                   fmt::format("make it whole first: qemu-img convert -O qcow2 '{}' whole.qcow2", *request.image)};
  }
  if (image.encrypted) {
    return Refusal{"image-encrypted",
                   fmt::format("'{}' is encrypted", *request.image),
                   {},
                   "decrypt it first with qemu-img convert"};
  }
  if (image.virtual_size == 0)
    return Refusal{
        "image-empty", fmt::format("'{}' is empty", *request.image), {}, "check the path; for an empty disk give none"};
  if (!request.disks.empty() && request.disks.front().size < image.virtual_size) {
    return Refusal{
        "disk-too-small",
        fmt::format("--disk {} is smaller than the image", exact_size(request.disks.front().size)),
        {fmt::format("'{}' holds {} bytes ({})", *request.image, image.virtual_size, format_size(image.virtual_size))},
        "give a larger --disk, or none for the image's own size"};
  }
  return std::nullopt;
}

std::optional<Refusal> bad_network(const CreateRequest& request, const CreateFacts& facts) {
  if (request.bridge) {
    if (std::find(facts.bridges.begin(), facts.bridges.end(), *request.bridge) != facts.bridges.end())
      return std::nullopt;
    const auto near = nearest(*request.bridge, facts.bridges);
    return Refusal{
        "no-such-bridge",
        fmt::format("there is no bridge '{}' on this host", *request.bridge),
        {facts.bridges.empty() ? "the host has no bridge" : fmt::format("bridges: {}", fmt::join(facts.bridges, ", "))},
        near.empty() ? "use --network default for libvirt's own network, or --network none"
                     : fmt::format("did you mean '{}'?", near)};
  }
  if (request.network == "none") return std::nullopt;
  if (std::find(facts.networks.begin(), facts.networks.end(), request.network) == facts.networks.end()) {
    const auto near = nearest(request.network, facts.networks);
    return Refusal{
        "no-such-network",
        fmt::format("libvirt has no network '{}'", request.network),
        {facts.networks.empty() ? "it has none" : fmt::format("networks: {}", fmt::join(facts.networks, ", "))},
        near.empty() ? "use --bridge BR for a host bridge, or --network none"
                     : fmt::format("did you mean '{}'?", near)};
  }
  if (!facts.network_active && request.start) {
    return Refusal{"network-inactive",
                   fmt::format("network '{}' is not active", request.network),
                   {},
                   fmt::format("start it: virsh net-start {}", request.network)};
  }
  return std::nullopt;
}

}  // namespace kld::plan
