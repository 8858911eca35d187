// SPDX-License-Identifier: Apache-2.0
#include "plan/create.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "base/name.h"
#include "base/size.h"
#include "cli/flags.h"
#include "cmd/commands.h"
#include "run/media.h"
#include "zfs/dataset.h"

namespace kld::cmd {
namespace {

struct CreateFlags {
  std::string name;
  std::string ram = "2048", cpus = "2", firmware = "uefi", volblocksize;
  std::vector<std::string> disks;
  bool no_tpm = false, no_start = false;
  cli::SeedFlags seed;
  plan::CreateRequest request;
};

/// "20", "100G", "data=200G".
plan::DiskRequest parse_disk(const std::string& text) {
  const auto equals = text.find('=');
  const std::string size = equals == std::string::npos ? text : text.substr(equals + 1);
  return {equals == std::string::npos ? "" : text.substr(0, equals), parse_size(size, GiB, "--disk")};
}

virt::Firmware parse_firmware(const std::string& word) {
  if (word == "uefi") return virt::Firmware::uefi;
  if (word == "uefi-secure") return virt::Firmware::uefi_secure;
  if (word == "bios") return virt::Firmware::bios;
  throw UsageError(fmt::format("--firmware '{}' is none of uefi, uefi-secure, bios", word));
}

std::optional<std::string> absolute(const std::optional<std::string>& path) {
  // libvirt wants absolute paths; a relative one means the caller's directory, not the daemon's.
  return path ? std::optional(std::filesystem::absolute(*path).lexically_normal().string()) : std::nullopt;
}

plan::CreateRequest make_request(const CreateFlags& flags) {
  plan::CreateRequest request = flags.request;
  request.name = flags.name;
  if (const auto problem = machine_name_problem(flags.name)) {
    throw UsageError(fmt::format("machine name '{}' {}", flags.name, *problem),
                     "use letters, digits, '-', '_' and '.', starting with a letter or digit, at most 63");
  }
  request.memory = cli::memory_size(flags.ram);
  request.vcpus = cli::positive(flags.cpus, "--cpus", 512);
  for (const auto& disk : flags.disks) request.disks.push_back(parse_disk(disk));
  request.firmware = parse_firmware(flags.firmware);
  if (!flags.volblocksize.empty()) request.volblocksize = parse_size(flags.volblocksize, 1, "--volblocksize");
  request.tpm = !flags.no_tpm;
  request.start = !flags.no_start;
  request.iso = absolute(request.iso);
  request.image = absolute(request.image);
  request.drivers = absolute(request.drivers);
  request.seed = cli::read_seed_flags(flags.seed);
  return request;
}

plan::CreateFacts look(const run::Host& host, const plan::CreateRequest& request) {
  plan::CreateFacts facts;
  const auto pool = zfs::find_pool(zfs::pool_of(host.view().root));
  if (!pool) throw Error(fmt::format("pool '{}' is gone", zfs::pool_of(host.view().root)));
  facts.pool = *pool;
  facts.host = host.libvirt().host();
  facts.networks = host.libvirt().networks();
  facts.bridges = run::host_bridges();
  facts.kvm_available = ::access("/dev/kvm", R_OK | W_OK) == 0;
  if (!request.bridge && request.network != "none" && host.libvirt().has_network(request.network)) {
    facts.network_active = host.libvirt().network_active(request.network);
  }
  if (request.iso) {
    if (auto refusal = run::unreadable("ISO image", *request.iso)) facts.unreadable.push_back(*refusal);
  }
  if (request.drivers) {
    if (auto refusal = run::unreadable("drivers image", *request.drivers)) facts.unreadable.push_back(*refusal);
  }
  for (const auto& medium : {request.iso, request.drivers}) {
    if (medium && !run::reachable_for_qemu(*medium)) facts.unreachable.push_back(*medium);
  }
  if (request.image) facts.image = run::inspect_image(*request.image);
  std::vector<std::string> labels = {plan::kFirstDisk};
  for (const auto& disk : request.disks) labels.push_back(disk.label.empty() ? plan::kFirstDisk : disk.label);
  facts.taken_paths = run::taken_paths(host.view().root, {request.name}, labels);
  return facts;
}

std::string how_to_reach(const run::Host& host, const std::string& name) {
  const auto domain = host.libvirt().find(name);
  if (!domain) return {};
  std::string text = fmt::format("Machine {} created ({}).\n", name, virt::to_string(domain->state));
  if (!virt::is_active(domain->state)) return text + fmt::format("Start it with: virsh start {}\n", name);
  text += fmt::format("Serial console: virsh console {}\n", name);
  if (const auto vnc = host.libvirt().vnc_address(domain->uuid)) {
    text += fmt::format("Display: VNC at {}, or virt-viewer {}\n", *vnc, name);
  }
  return text + fmt::format("Address, once it runs: virsh domifaddr {} --source agent\n", name);
}

void run_create(cli::Context& context, const CreateFlags& flags) {
  const auto request = make_request(flags);
  const run::Look wanted{.shallow = true, .machines = {request.name}, .folders = true};
  context.dispose({{request.name, run::Lock::exclusive}}, wanted, [&](const run::Host& host) {
    cli::Proposal proposal;
    proposal.result = plan::plan_create(host.view(), request, look(host, request), run::fresh());
    proposal.report = [&](const run::Host& after) { return how_to_reach(after, request.name); };
    return proposal;
  });
}

}  // namespace

cli::Command create() {
  cli::Command command{"create", "kvm-create", "Create a machine on ZFS volumes", "", {}, nullptr};
  command.description =
      "Creates the machine's volumes and state filesystem, defines it in libvirt (q35, virtio, UEFI, TPM 2.0) and "
      "starts "
      "it. Everything is checked before the first change; what fails is undone.\n\n"
      "Sizes: a bare number counts MiB for memory and GiB for disks; 512M, 4G, 1T are binary.";
  command.examples = {
      {"kvm-create web --ram 4096 --cpus 4 --disk 40 --iso debian-12.iso --os debian12", "install from an ISO"},
      {"kvm-create web --image debian.qcow2 --disk 20G --user ann --ssh-key ~/.ssh/id_ed25519.pub",
       "from a cloud image, with a user"},
      {"kvm-create db --disk 20 --disk data=200G --workload postgres", "two disks, 8K blocks"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<CreateFlags>();
    auto& request = flags->request;
    app.add_option("NAME", flags->name, "Name of the machine")->required();
    app.add_option("--ram", flags->ram, "Memory (2048)")->type_name("SIZE");
    app.add_option("--cpus,--vcpus", flags->cpus, "Virtual CPUs (2)")->type_name("N");
    app.add_option("--disk", flags->disks, "Disk size (20), or LABEL=SIZE for further disks; repeatable")
        ->type_name("[LABEL=]SIZE")
        ->allow_extra_args(false);
    app.add_option("--iso", request.iso, "Installation medium")->type_name("FILE");
    app.add_option("--image", request.image, "Disk image (raw or qcow2) to write to the first disk")->type_name("FILE");
    app.add_option("--os", request.os, "Operating system: debian12, rocky9, win11, linux ...")->type_name("OS");
    app.add_option("--drivers", request.drivers, "virtio-win.iso, as a second CD for Windows")->type_name("FILE");
    app.add_option("--bridge", request.bridge, "Host bridge to connect to")->type_name("BR");
    app.add_option("--network", request.network, "libvirt network to connect to (default), or none")
        ->type_name("NETWORK");
    app.add_option("--cpu", request.cpu,
                   "CPU model (host-model); host is fastest and cannot migrate between unlike hosts")
        ->type_name("MODEL");
    app.add_option("--firmware", flags->firmware, "uefi (default), uefi-secure or bios")->type_name("FIRMWARE");
    app.add_flag("--no-tpm", flags->no_tpm, "No TPM 2.0");
    app.add_option("--volblocksize", flags->volblocksize, "Volume block size, 4K to 128K (64K); it can never change")
        ->type_name("SIZE");
    app.add_option("--workload", request.workload, "general (64K blocks), postgres (8K) or mysql (16K)")
        ->type_name("WORKLOAD");
    app.add_flag("--thick", request.thick, "Reserve the disks' whole size in the pool");
    app.add_option("--sync", request.sync, "ZFS sync property: standard, always or disabled")->type_name("SYNC");
    app.add_option("--vnc-listen", request.vnc_listen, "Address VNC listens on (127.0.0.1)")->type_name("ADDRESS");
    app.add_option("--virt-type", request.virt_type, "kvm (default), or qemu for slow emulation")->type_name("TYPE");
    app.add_flag("--autostart", request.autostart, "Start it with the host");
    app.add_flag("--no-start", flags->no_start, "Do not start it now");
    app.add_flag("--over-limit", request.over_limit, "Go ahead although the pool would pass 80 %");
    cli::add_seed_flags(app, flags->seed);
    return [flags, &context] { run_create(context, *flags); };
  };
  return command;
}

}  // namespace kld::cmd
