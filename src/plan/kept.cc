// SPDX-License-Identifier: Apache-2.0
#include "plan/kept.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/name.h"
#include "plan/layout.h"
#include "plan/snapshot.h"

namespace kld::plan {
namespace {

std::string kept_root(const View& view) { return view.root + "/.kept"; }

void add_part(Kept& kept, const zfs::Dataset& dataset) {
  const auto& container = kept.container.name;
  if (dataset.kind == zfs::Kind::volume) {
    auto label = dataset.property(zfs::property::disk);
    if (label.empty()) label = kFirstDisk;
    // As it was named below the root.
    if (dataset.name == disk_dataset(container, kept.machine, label)) kept.disks.push_back({label, dataset});
  } else if (dataset.name == container + "/.state") {
    kept.state = dataset;
  } else if (dataset.name == container + "/.state/tpm") {
    kept.tpm = dataset;
  }
}

}  // namespace

std::vector<zfs::Dataset> Kept::datasets() const {
  std::vector<zfs::Dataset> all;
  for (const auto& disk : disks) all.push_back(disk.volume);
  if (state) all.push_back(*state);
  if (tpm) all.push_back(*tpm);
  return all;
}

std::vector<Kept> all_kept(const View& view) {
  std::vector<Kept> all;
  for (const auto& dataset : view.datasets) {
    const auto machine = dataset.property(zfs::property::machine);
    const bool is_container =
        dataset.kind == zfs::Kind::filesystem && !machine.empty() && zfs::parent_of(dataset.name) == kept_root(view);
    if (!is_container) continue;
    all.push_back(
        {zfs::last_component(dataset.name), machine, dataset.property(zfs::property::kept), dataset, {}, {}, {}});
  }
  for (const auto& dataset : view.datasets) {
    for (auto& kept : all) {
      if (zfs::is_below(dataset.name, kept.container.name)) add_part(kept, dataset);
    }
  }
  for (auto& kept : all) {
    std::sort(kept.disks.begin(), kept.disks.end(), [](const MachineDisk& a, const MachineDisk& b) {
      return (a.label == kFirstDisk) != (b.label == kFirstDisk) ? a.label == kFirstDisk : a.label < b.label;
    });
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Kept& a, const Kept& b) { return a.container.createtxg < b.container.createtxg; });
  return all;
}

std::vector<Kept> all_kept_of(const View& view, const std::string& machine) {
  auto all = all_kept(view);
  std::erase_if(all, [&](const Kept& kept) { return kept.machine != machine; });
  return all;
}

std::vector<Kept> kept_of(const View& view, const std::string& machine) {
  auto all = all_kept_of(view, machine);
  const auto ghost = std::find_if(all.rbegin(), all.rend(), [](const Kept& kept) { return kept.is_ghost(); });
  all.erase(all.begin(), ghost.base());
  return all;
}

std::vector<Kept> kept_before(const View& view, const Kept& ghost) {
  std::vector<Kept> older;
  for (auto& kept : all_kept_of(view, ghost.machine)) {
    if (kept.name == ghost.name) break;
    if (kept.is_ghost()) {
      older.clear();
    } else {
      older.push_back(std::move(kept));
    }
  }
  return older;
}

std::string machine_of_kept(const std::string& kept) {
  for (auto dash = kept.find('-'); dash != std::string::npos; dash = kept.find('-', dash + 1)) {
    if (is_named(kept.substr(dash + 1), "")) return kept.substr(0, dash);
  }
  return {};
}

std::variant<Kept, Refusal> named_kept(const View& view, const std::string& machine,
                                       const std::optional<std::string>& given) {
  const auto all = all_kept_of(view, machine);
  const auto own = find_machine(view, machine) ? kept_of(view, machine) : all;
  std::vector<std::string> names;
  if (all.empty() || (!given && own.empty())) {
    for (const auto& kept : all) names.push_back(fmt::format("'{}' is of a deleted machine of this name", kept.name));
    return Refusal{"nothing-kept", fmt::format("nothing of machine '{}' is set aside", machine), std::move(names),
                   fmt::format("a rollback sets the present aside: kvm-snap {} rollback SNAPSHOT", machine)};
  }
  if (!given) return own.back();
  for (const auto& kept : all) {
    if (kept.name == *given || kept.name == machine + "-" + *given) return kept;
    names.push_back(kept.name);
  }
  return Refusal{"no-such-kept", fmt::format("'{}' is nothing that is set aside of machine '{}'", *given, machine),
                 names, fmt::format("see 'kvm-snap {} kept'", machine)};
}

std::string kept_with(const View& view, const std::string& dataset) {
  const auto root = kept_root(view) + "/";
  if (!dataset.starts_with(root)) return {};
  return dataset.substr(root.size(), dataset.find('/', root.size()) - root.size());
}

std::optional<Refusal> foreign_in(const View& view, const Kept& kept) {
  const auto own = kept.datasets();
  for (const auto& dataset : view.datasets) {
    if (!zfs::is_below(dataset.name, kept.container.name)) continue;
    if (std::any_of(own.begin(), own.end(), [&](const auto& part) { return part.name == dataset.name; })) continue;
    return Refusal{"foreign-dataset",
                   fmt::format("{} lies in '{}' and is not part of the machine", dataset.name, kept.name),
                   {},
                   fmt::format("move it away first: zfs rename {} ...", dataset.name)};
  }
  return std::nullopt;
}

std::string Aside::place_of(const std::string& root, const std::string& machine, const std::string& dataset) const {
  const auto state = state_dataset(root, machine);
  if (dataset == state || zfs::is_below(dataset, state)) return container + "/.state" + dataset.substr(state.size());
  return container + "/" + zfs::last_component(dataset);
}

Aside aside(const View& view, const std::string& machine, std::vector<zfs::Dataset> parts, UnixTime now) {
  const auto base = fmt::format("{}/{}-{}", kept_root(view), machine, format_utc(now));
  std::string name = base;
  for (int repeat = 2; find_dataset(view, name) != nullptr; ++repeat) name = fmt::format("{}.{}", base, repeat);
  return {std::move(name), std::move(parts)};
}

void add_aside(Plan& plan, const View& view, const std::string& machine, const Aside& aside, const std::string& reason,
               UnixTime expires, const std::string& op, const zfs::Properties& more) {
  if (auto step = ensure_kept_root(view, op)) plan.steps.push_back(*step);
  zfs::Properties marks = {{"canmount", "off"},
                           {"mountpoint", "none"},
                           {zfs::property::machine, machine},
                           {zfs::property::kept, reason},
                           {zfs::property::expires, format_utc(expires)},
                           {zfs::property::op, op}};
  marks.insert(more.begin(), more.end());
  plan.steps.emplace_back(CreateFilesystem{aside.container, std::move(marks)});
  const auto tpm = tpm_dataset(view.root, machine);
  UnmountFilesystems unmounts;
  std::vector<Step> renames;
  for (const auto& part : aside.parts) {
    // Inner mounts first; what lies below another part goes along with it.
    if (part.mounted) unmounts.mounts.insert(unmounts.mounts.begin(), {part.name, part.mountpoint});
    if (part.name != tpm) {
      renames.emplace_back(RenameDataset{part.name, aside.place_of(view.root, machine, part.name), part.guid});
    }
  }
  if (!unmounts.mounts.empty()) plan.steps.emplace_back(std::move(unmounts));
  for (const auto& part : aside.parts) {
    // It has its mount point from its own property: a host that starts would mount it over the machine's.
    if (part.name == tpm)
      plan.steps.emplace_back(SetProperties{
          tpm, {{"canmount", "noauto"}}, {{"canmount", ""}}, part.guid, aside.place_of(view.root, machine, tpm)});
  }
  plan.steps.insert(plan.steps.end(), renames.begin(), renames.end());
}

}  // namespace kld::plan
