// SPDX-License-Identifier: Apache-2.0
#include "plan/create.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"
#include "plan/create_refusals.h"
#include "plan/layout.h"
#include "plan/limits.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

constexpr std::uint64_t kDefaultDisk = 20 * GiB;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

/// What the words mean once defaults are filled in.
struct Wanted {
  std::vector<DiskRequest> disks;  ///< the first has the label kFirstDisk
  std::uint64_t volblocksize = 0;
  bool windows = false;
  bool boots = true;  ///< something to boot from
};

/// What the image will take of the pool, at most.
std::uint64_t image_needs(const ImageInfo& image) {
  return image.data == 0 ? image.virtual_size : std::min(image.virtual_size, image.data);
}

Wanted fill_in(const CreateRequest& request, const CreateFacts& facts, Plan& plan) {
  Wanted wanted;
  wanted.volblocksize = request.volblocksize.value_or(*workload_blocksize(request.workload));
  wanted.windows = is_windows(request.os);
  wanted.disks = request.disks;
  if (wanted.disks.empty()) wanted.disks.push_back({"", facts.image ? facts.image->virtual_size : kDefaultDisk});
  if (wanted.disks.front().label.empty()) wanted.disks.front().label = kFirstDisk;
  for (auto& disk : wanted.disks) {
    const auto rounded = round_up(disk.size, wanted.volblocksize);
    if (rounded != disk.size && !request.disks.empty()) {
      plan.warnings.push_back(
          fmt::format("disk '{}' is rounded up to {} bytes, a multiple of the block size", disk.label, rounded));
    }
    disk.size = rounded;
  }
  wanted.boots = request.iso || request.image;
  return wanted;
}

/// What the root can hold in all, parity and quotas counted, which the pool's own size knows nothing of.
std::uint64_t room_below(const View& view, const zfs::Pool& pool) {
  const auto* root = find_dataset(view, view.root);
  return root == nullptr || root->available == 0 ? pool.size : root->used + root->available;
}

void warn(const View& view, const CreateRequest& request, const CreateFacts& facts, const Wanted& wanted, Plan& plan) {
  const auto add = [&](std::string text) { plan.warnings.push_back(std::move(text)); };
  if (wanted.volblocksize == 128 * KiB)
    add("volblocksize 128K rewrites 128K for every small write; 64K suits machines better");
  if (request.volblocksize && request.workload != "general" &&
      *request.volblocksize != *workload_blocksize(request.workload)) {
    add(fmt::format("--volblocksize {} contradicts --workload {}, which is {}: the explicit size is used",
                    exact_size(*request.volblocksize), request.workload,
                    exact_size(*workload_blocksize(request.workload))));
  }
  if (request.sync == "disabled")
    add("sync=disabled loses the last seconds of writes at a power cut: for throwaway machines only");
  if (request.sync == "disabled" && request.workload != "general") {
    add(fmt::format("--sync disabled contradicts --workload {}: a database relies on its writes being on disk",
                    request.workload));
  }
  if (request.vnc_listen != "127.0.0.1" && request.vnc_listen != "::1" && request.vnc_listen != "localhost") {
    add(fmt::format("VNC listens on {} without a password: whoever reaches it has the console", request.vnc_listen));
  }
  if (wanted.windows && !request.drivers) {
    add("Windows finds no virtio disk without drivers: give virtio-win.iso with --drivers");
  }
  for (const auto& path : facts.unreachable) {
    add(fmt::format("'{}' lies in a directory that QEMU's user may not enter: put it below /var/lib/libvirt/images",
                    path));
  }
  if (request.virt_type == "qemu") add("--virt-type qemu emulates the CPU: many times slower than KVM");
  std::uint64_t volumes = 0;
  for (const auto& dataset : view.datasets) volumes += dataset.volsize;
  for (const auto& disk : wanted.disks) volumes += disk.size;
  const auto room = room_below(view, facts.pool);
  if (volumes > room) {
    add(fmt::format("the volumes add up to {}, '{}' has room for {}: watch its free space", format_size(volumes),
                    view.root, format_size(room)));
  }
  std::uint64_t memory = request.memory;
  for (const auto& domain : view.domains) memory += virt::is_active(domain.state) ? domain.memory : 0;
  if (memory > facts.host.memory) {
    add(fmt::format("running machines and this one want {} of memory, the host has {}", format_size(memory),
                    format_size(facts.host.memory)));
  }
  if (request.vcpus > facts.host.cpus) add(fmt::format("{} vCPUs, the host has {}", request.vcpus, facts.host.cpus));
}

virt::Spec domain_spec(const View& view, const CreateRequest& request, const Wanted& wanted, const Fresh& fresh) {
  virt::Spec spec;
  spec.name = request.name;
  spec.uuid = fresh.uuid();
  spec.genid = fresh.uuid();
  spec.virt_type = request.virt_type;
  spec.memory = request.memory;
  spec.vcpus = request.vcpus;
  spec.cpu = request.cpu;
  spec.firmware = request.firmware;
  if (request.firmware != virt::Firmware::bios) spec.nvram = nvram_path(request.name);
  spec.tpm = request.tpm;
  for (const auto& disk : wanted.disks)
    spec.disks.push_back(zfs::device_path(disk_dataset(view.root, request.name, disk.label)));
  if (request.seed.any()) spec.seed = seed_path(request.name);
  if (request.iso) spec.cdroms.push_back(*request.iso);
  if (request.drivers) spec.cdroms.push_back(*request.drivers);
  if (request.bridge) {
    spec.network = virt::Interface{"bridge", *request.bridge, fresh.mac()};
  } else if (request.network != "none") {
    spec.network = virt::Interface{"network", request.network, fresh.mac()};
  }
  if (!request.os.empty()) spec.os_id = *os_id(request.os);
  spec.windows = wanted.windows;
  spec.vnc_listen = request.vnc_listen;
  return spec;
}

zfs::Properties volume_properties(const View& view, const CreateRequest& request, const Wanted& wanted,
                                  const DiskRequest& disk, const std::string& op) {
  zfs::Properties properties = {{zfs::property::machine, request.name},
                                {zfs::property::disk, disk.label},
                                {zfs::property::op, op},
                                {"volblocksize", std::to_string(wanted.volblocksize)}};
  if (request.sync != "standard") properties["sync"] = request.sync;
  add_volmode(view, properties);
  return properties;
}

void add_steps(Plan& plan, const View& view, const CreateRequest& request, const CreateFacts& facts,
               const Wanted& wanted, const Fresh& fresh) {
  const virt::Spec spec = domain_spec(view, request, wanted, fresh);
  const std::string xml = virt::new_definition(spec);
  const zfs::Properties state = {{zfs::property::machine, request.name}, {zfs::property::op, fresh.op}};
  MountFilesystems mounts{{{state_dataset(view.root, request.name), state_directory(request.name)}}};

  if (auto step = ensure_state_root(view, fresh.op)) plan.steps.push_back(*step);
  plan.steps.emplace_back(CreateFilesystem{state_dataset(view.root, request.name), state});
  if (request.tpm) {
    zfs::Properties tpm = state;
    tpm["mountpoint"] = tpm_directory(spec.uuid);
    plan.steps.emplace_back(CreateFilesystem{tpm_dataset(view.root, request.name), tpm});
    mounts.mounts.push_back({tpm_dataset(view.root, request.name), tpm_directory(spec.uuid)});
  }
  AwaitDevices devices;
  for (const auto& disk : wanted.disks) {
    const auto name = disk_dataset(view.root, request.name, disk.label);
    plan.steps.emplace_back(CreateVolume{name, disk.size, volume_properties(view, request, wanted, disk, fresh.op)});
    // "auto" adds what the pool's layout costs beyond the volume's own size; only the tool knows it.
    if (request.thick)
      plan.steps.emplace_back(SetProperties{name, {{"refreservation", "auto"}}, {{"refreservation", "none"}}});
    devices.volumes.push_back(name);
  }
  plan.steps.emplace_back(devices);
  if (request.image && facts.image) {
    plan.steps.emplace_back(
        WriteImage{*request.image, facts.image->format, devices.volumes.front(), facts.image->virtual_size});
  }
  // From here on what dies is finished: soon libvirt knows it and somebody may use it, and what is written is on disk
  // no earlier than that.
  plan.commit = plan.steps.size();
  plan.steps.emplace_back(std::move(mounts));
  WriteFiles files{{{definition_path(request.name), xml, false, ""}}};
  DefineDomains define{{{request.name, spec.uuid, xml}}};
  const std::vector<std::string> sync = {state_directory(request.name)};
  if (request.seed.any()) {
    const auto documents = seed_documents(request.seed, {}, request.name, spec.uuid);
    const auto more = seed_files(request.name, documents);
    files.files.insert(files.files.end(), more.begin(), more.end());
    plan.steps.emplace_back(std::move(files));
    plan.steps.emplace_back(WriteSeeds{{seed_image(request.name, documents)}, sync});
  } else {
    plan.steps.emplace_back(std::move(files));
    define.sync = sync;
  }
  plan.steps.emplace_back(std::move(define));
  plan.steps.emplace_back(SaveDefinition{{request.name, spec.uuid}, definition_path(request.name)});
  if (request.start && wanted.boots) {
    plan.steps.emplace_back(StartDomain{{request.name, spec.uuid}});
  } else if (request.start) {
    plan.warnings.push_back("not started: its disk is empty and there is neither --iso nor --image");
  }
  // Last: a host that starts again in the middle must not start half a machine.
  if (request.autostart) plan.steps.emplace_back(SetAutostart{{request.name, spec.uuid}, true});
}

}  // namespace

Result plan_create(const View& view, const CreateRequest& request, const CreateFacts& facts, const Fresh& fresh) {
  std::vector<std::string> labels;
  for (const auto& disk : request.disks) labels.push_back(disk.label.empty() ? kFirstDisk : disk.label);
  if (labels.empty()) labels.emplace_back(kFirstDisk);
  if (labels.front() != kFirstDisk) {
    return Refusal{
        "usage",
        fmt::format("the first --disk is the system's and has no label, '{}' is for further ones", labels.front()),
        {},
        fmt::format("--disk SIZE --disk {}=SIZE", labels.front())};
  }
  if (auto refusal = bad_words(request)) return *refusal;
  if (auto refusal = name_taken(view, request.name, labels, facts.taken_paths)) return *refusal;
  if (auto refusal = bad_image(request, facts)) return *refusal;
  if (auto refusal = bad_network(request, facts)) return *refusal;
  if (request.memory > facts.host.memory) {
    return Refusal{"memory",
                   fmt::format("--ram {} is more than the host has", exact_size(request.memory)),
                   {fmt::format("the host has {}", format_size(facts.host.memory))},
                   "give less memory"};
  }
  if (request.virt_type == "kvm" && !facts.kvm_available) {
    return Refusal{"no-kvm",
                   "this host offers no KVM (/dev/kvm)",
                   {},
                   "load kvm_intel or kvm_amd, enable virtualization in the firmware, or use --virt-type qemu"};
  }
  if (auto refusal = layout_problem(view)) return *refusal;

  Plan plan{"create", fresh.op, {request.name}, {}, 0, {}};
  const Wanted wanted = fill_in(request, facts, plan);
  std::uint64_t more = request.image && facts.image ? image_needs(*facts.image) : 0;
  if (request.thick) {
    more = 0;
    for (const auto& disk : wanted.disks) more += disk.size;
  }
  if (auto refusal = pool_limit(facts.pool, more, request.over_limit)) return *refusal;
  if (auto refusal = no_room(view, more, request.over_limit)) return *refusal;
  if (auto refusal = pool_full(view)) return *refusal;
  warn(view, request, facts, wanted, plan);
  add_steps(plan, view, request, facts, wanted, fresh);
  return plan;
}

}  // namespace kld::plan
