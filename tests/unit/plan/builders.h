// SPDX-License-Identifier: Apache-2.0
// Hosts for planner tests, built in a line or two. Everything is a function of the names given, so that a plan for
// such a host is the same text on every run.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/size.h"
#include "plan/plan.h"
#include "plan/view.h"
#include "virt/definition.h"
#include "zfs/device.h"

namespace kld::plan::test {

inline constexpr char kRoot[] = "rpool/vms";
inline constexpr char kOp[] = "0b000000-0000-4000-8000-000000000001";
inline constexpr char kEarlierOp[] = "0b000000-0000-4000-8000-00000000000e";
inline constexpr UnixTime kHour = 3600;
inline constexpr UnixTime kDay = 24 * kHour;
inline constexpr UnixTime kNow = 1775313300;  // 2026-04-04T14:35:00Z

/// Ten digits at most, the same for the same text: guids that one can read in a golden file.
inline std::uint64_t number_of(const std::string& text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

inline std::uint64_t guid_of(const std::string& dataset_or_snapshot) { return number_of(dataset_or_snapshot); }
inline std::string uuid_of(const std::string& machine) {
  return fmt::format("{:08x}-0000-4000-8000-000000000000", number_of(machine));
}
inline std::string mac_of(const std::string& machine) {
  const auto number = number_of(machine);
  return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", (number >> 16U) & 0xffU, (number >> 8U) & 0xffU, number & 0xffU);
}

/// Op kOp at kNow; UUIDs ffffffff-…-000000000001, …2, MACs 52:54:00:ff:00:01, …2. Each call starts again at 1.
inline Fresh fresh() {
  auto uuids = std::make_shared<int>(0);
  auto macs = std::make_shared<int>(0);
  return {kOp, kNow, [uuids] { return fmt::format("ffffffff-0000-4000-8000-{:012}", ++*uuids); },
          [macs] { return fmt::format("52:54:00:ff:00:{:02x}", ++*macs); }};
}

/// The same for an operation a minute later.
inline Fresh fresh_again() {
  auto later = fresh();
  later.op = "0b000000-0000-4000-8000-000000000002";
  later.now += 60;
  auto uuids = std::make_shared<int>(100);
  later.uuid = [uuids] { return fmt::format("ffffffff-0000-4000-8000-{:012}", ++*uuids); };
  return later;
}

inline zfs::Dataset filesystem(const std::string& name, const std::string& mountpoint = {}) {
  zfs::Dataset dataset;
  dataset.name = name;
  dataset.kind = zfs::Kind::filesystem;
  dataset.guid = guid_of(name);
  dataset.createtxg = 100;
  dataset.used = 128 * KiB;
  dataset.referenced = 96 * KiB;
  dataset.available = 800 * GiB;
  dataset.mountpoint = mountpoint.empty() ? "/" + name : mountpoint;
  dataset.mounted = true;
  return dataset;
}

inline zfs::Dataset volume(const std::string& name, std::uint64_t size = 20 * GiB) {
  zfs::Dataset dataset;
  dataset.name = name;
  dataset.kind = zfs::Kind::volume;
  dataset.guid = guid_of(name);
  dataset.createtxg = 100;
  dataset.used = 2 * GiB;
  dataset.referenced = 2 * GiB;
  dataset.available = 800 * GiB;
  dataset.volsize = size;
  dataset.volblocksize = 64 * KiB;
  dataset.compressratio = 1.5;
  dataset.volmode = "dev";
  return dataset;
}

inline zfs::Snapshot snapshot(const std::string& name, std::uint64_t createtxg, const std::string& by = "hand",
                              const std::string& consistency = "offline") {
  zfs::Snapshot result;
  result.name = name;
  result.guid = guid_of(name);
  result.createtxg = createtxg;
  result.creation = kNow - 3600 + static_cast<UnixTime>(createtxg);
  result.used = MiB;
  result.referenced = 2 * GiB;
  result.written = 2 * MiB;
  if (!by.empty())
    result.user = {{zfs::property::by, by}, {zfs::property::consistency, consistency}, {zfs::property::op, kEarlierOp}};
  return result;
}

inline virt::DomainInfo domain(const std::string& name, virt::State state = virt::State::shut_off,
                               std::vector<std::string> block_paths = {}) {
  virt::DomainInfo info;
  info.name = name;
  info.uuid = uuid_of(name);
  info.state = state;
  info.memory = 2 * GiB;
  info.vcpus = 2;
  info.block_paths = std::move(block_paths);
  return info;
}

/// How a machine in a Host looks. The defaults are what kvm-create makes.
struct MachineOptions {
  virt::State state = virt::State::shut_off;
  std::vector<std::string> labels = {};  ///< of further disks
  bool tpm = true;
  bool defined = true;  ///< libvirt knows it
  bool golden = false;
};

/// What libvirt and ZFS hold. Starts as an empty root with its `.state`.
struct Host {
  View view;

  explicit Host(bool with_state_root = true) {
    view.root = kRoot;
    add(filesystem(kRoot));
    if (!with_state_root) return;
    add(filesystem(std::string(kRoot) + "/.state", kStateDirectory));
    view.datasets.back().can_mount = false;
    view.datasets.back().mounted = false;
  }

  Host& add(zfs::Dataset dataset) {
    view.datasets.push_back(std::move(dataset));
    return *this;
  }
  Host& add(virt::DomainInfo info) {
    view.domains.push_back(std::move(info));
    return *this;
  }

  /// A whole machine: disks, state, TPM, domain.
  Host& machine(const std::string& name, const MachineOptions& options = {}) {
    auto labels = options.labels;
    labels.insert(labels.begin(), kFirstDisk);
    std::vector<std::string> paths;
    for (const auto& label : labels) {
      auto disk = volume(disk_dataset(kRoot, name, label));
      disk.user = {{zfs::property::machine, name}, {zfs::property::disk, label}, {zfs::property::op, kEarlierOp}};
      if (options.golden && label == kFirstDisk) disk.user[zfs::property::golden] = "true";
      paths.push_back(zfs::device_path(disk.name));
      add(std::move(disk));
    }
    auto state = filesystem(state_dataset(kRoot, name), state_directory(name));
    state.user = {{zfs::property::machine, name}, {zfs::property::op, kEarlierOp}};
    add(std::move(state));
    if (options.tpm) {
      auto tpm = filesystem(tpm_dataset(kRoot, name), tpm_directory(uuid_of(name)));
      tpm.user = {{zfs::property::machine, name}, {zfs::property::op, kEarlierOp}};
      add(std::move(tpm));
    }
    if (options.defined) add(domain(name, options.state, std::move(paths)));
    return *this;
  }

  /// A whole machine whose datasets are clones of `source`'s at `short_name`.
  Host& clone(const std::string& source, const std::string& short_name, const std::string& name,
              MachineOptions options = {}) {
    const auto from = require(source);
    options.labels.clear();
    for (const auto& disk : from.disks) {
      if (disk.label != kFirstDisk) options.labels.push_back(disk.label);
    }
    options.tpm = from.tpm.has_value();
    machine(name, options);
    for (const auto& disk : from.disks) {
      auto& copy = dataset(disk_dataset(kRoot, name, disk.label));
      copy.origin = disk.volume.name + "@" + short_name;
      copy.user[zfs::property::clone_origin] = source + "@" + short_name;
      copy.used = MiB;
    }
    if (from.state) dataset(state_dataset(kRoot, name)).origin = from.state->name + "@" + short_name;
    if (from.tpm) dataset(tpm_dataset(kRoot, name)).origin = from.tpm->name + "@" + short_name;
    return *this;
  }

  /// To change what a builder made. Throws when there is none.
  zfs::Dataset& dataset(const std::string& name) {
    for (auto& candidate : view.datasets) {
      if (candidate.name == name) return candidate;
    }
    throw std::out_of_range("no dataset " + name);
  }
  virt::DomainInfo& domain_of(const std::string& name) {
    for (auto& candidate : view.domains) {
      if (candidate.name == name) return candidate;
    }
    throw std::out_of_range("no domain " + name);
  }
  Machine require(const std::string& name) const {
    auto found = find_machine(view, name);
    if (!found) throw std::out_of_range("no machine " + name);
    return *found;
  }

  /// The snapshots that one atomic snapshot of the machine leaves, on all its datasets. `clones` names machines.
  std::vector<zfs::Snapshot> snapshots(const std::string& name, const std::string& short_name, std::uint64_t createtxg,
                                       const std::string& by = "hand",
                                       const std::vector<std::string>& clones = {}) const {
    std::vector<zfs::Snapshot> result;
    const auto machine = require(name);
    for (const auto& dataset : machine.datasets()) {
      result.push_back(snapshot(dataset.name + "@" + short_name, createtxg, by, consistency_word(machine)));
      for (const auto& other : view.datasets) {
        for (const auto& clone : clones) {
          if (other.origin == result.back().name && other.property(zfs::property::machine) == clone) {
            result.back().clones.push_back(other.name);
          }
        }
      }
    }
    return result;
  }

 private:
  static std::string consistency_word(const Machine& machine) { return machine.active() ? "crash" : "offline"; }
};

/// The definition kvm-create would give a machine of this name with these disks (paths of devices).
inline std::string definition(const std::string& name, const std::vector<std::string>& disks, bool tpm = true,
                              bool uefi = true) {
  virt::Spec spec;
  spec.name = name;
  spec.uuid = uuid_of(name);
  spec.genid = uuid_of(name + "-genid");
  spec.memory = 2 * GiB;
  spec.vcpus = 2;
  spec.firmware = uefi ? virt::Firmware::uefi : virt::Firmware::bios;
  spec.nvram = nvram_path(name);
  spec.tpm = tpm;
  spec.disks = disks;
  spec.network = virt::Interface{"bridge", "br0", mac_of(name)};
  return virt::new_definition(spec);
}

/// The same for a machine of a Host.
inline std::string definition(const Host& host, const std::string& name) {
  const auto machine = host.require(name);
  std::vector<std::string> paths;
  for (const auto& disk : machine.disks) paths.push_back(zfs::device_path(disk.volume.name));
  return definition(name, paths, machine.tpm.has_value());
}

/// The kind of a refusal.
inline std::string kind_of(const Result& result) {
  return refused(result) ? std::get<Refusal>(result).kind : std::string("a plan");
}

/// A plan or a refusal as text to review: warnings, then each step's sentence with its commands beneath; a line
/// marks the commit point.
inline std::string to_text(const Result& result) {
  std::string text;
  if (const auto* refusal = std::get_if<Refusal>(&result)) {
    text = fmt::format("refused ({}): {}\n", refusal->kind, refusal->message);
    for (const auto& line : refusal->evidence) text += "  " + line + "\n";
    if (!refusal->hint.empty()) text += "hint: " + refusal->hint + "\n";
    return text;
  }
  const auto& plan = std::get<Plan>(result);
  for (const auto& warning : plan.warnings) text += "warning: " + warning + "\n";
  for (std::size_t index = 0; index <= plan.steps.size(); ++index) {
    if (index == plan.commit) text += "---- commit\n";
    if (index == plan.steps.size()) break;
    text += describe(plan.steps[index]) + "\n";
    for (const auto& line : commands(plan.steps[index])) text += "    " + shell_line(line) + "\n";
  }
  return text;
}

/// Of what must not be refused.
inline const Plan& plan_of(const Result& result) {
  if (refused(result)) throw std::runtime_error(to_text(result));
  return std::get<Plan>(result);
}

/// The plan's steps of one kind, in their order.
template <typename Kind>
std::vector<Kind> steps_of(const Plan& plan) {
  std::vector<Kind> found;
  for (const auto& step : plan.steps) {
    if (const auto* one = std::get_if<Kind>(&step)) found.push_back(*one);
  }
  return found;
}

}  // namespace kld::plan::test
