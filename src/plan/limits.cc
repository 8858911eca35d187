// SPDX-License-Identifier: Apache-2.0
#include "plan/limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/name.h"
#include "base/size.h"
#include "zfs/device.h"

namespace kld::plan {

Refusal pool_readonly(const std::string& pool) {
  return {"pool-readonly",
          fmt::format("pool '{}' is imported read-only", pool),
          {},
          fmt::format("unless that is on purpose, import it writable: zpool export {0} && zpool import {0}", pool)};
}

std::optional<Refusal> pool_limit(const zfs::Pool& pool, std::uint64_t more, bool over_limit) {
  if (pool.readonly) return pool_readonly(pool.name);
  const double limit = kPoolLimit * static_cast<double>(pool.size);
  if (over_limit || static_cast<double>(pool.allocated) + static_cast<double>(more) <= limit) return std::nullopt;
  const double percent =
      100.0 * static_cast<double>(pool.allocated) / static_cast<double>(std::max<std::uint64_t>(pool.size, 1));
  std::vector<std::string> evidence = {fmt::format("{} of {} are allocated ({:.0f} %), {} free",
                                                   format_size(pool.allocated), format_size(pool.size), percent,
                                                   format_size(pool.free))};
  if (more > 0) evidence.push_back(fmt::format("this needs about {} more", format_size(more)));
  return Refusal{"pool-limit", fmt::format("pool '{}' would be more than {:.0f} % full", pool.name, kPoolLimit * 100),
                 evidence, "free space or add disks; --over-limit goes ahead all the same"};
}

std::optional<Refusal> no_room(const View& view, std::uint64_t more, std::optional<bool> over_limit) {
  const auto* root = find_dataset(view, view.root);
  if (root == nullptr || over_limit.value_or(false) || more <= root->available) return std::nullopt;
  const std::string hint = "free space or add disks";
  return Refusal{"no-room",
                 fmt::format("'{}' has not enough space left", view.root),
                 {fmt::format("{} available, quotas and reservations counted", format_size(root->available)),
                  fmt::format("this needs about {} more", format_size(more))},
                 over_limit ? hint + "; --over-limit goes ahead all the same" : hint};
}

std::optional<Refusal> pool_full(const View& view) {
  const auto* root = find_dataset(view, view.root);
  if (root == nullptr || root->available >= 16 * MiB) return std::nullopt;
  return Refusal{"pool-full",
                 fmt::format("'{}' is out of space: {} available", view.root, format_size(root->available)),
                 {},
                 "free space first: 'kvm-snap NAME list' shows what snapshots hold"};
}

std::optional<Refusal> name_taken(const View& view, const std::string& name, const std::vector<std::string>& labels,
                                  const std::vector<std::string>& taken_paths) {
  if (const auto problem = machine_name_problem(name)) {
    return Refusal{"bad-name",
                   fmt::format("machine name '{}' {}", name, *problem),
                   {},
                   "use letters, digits, '-', '_' and '.', starting with a letter or digit, at most 63"};
  }
  const auto taken = [&](const std::string& by, const std::string& hint) {
    return Refusal{"name-taken", fmt::format("the name '{}' is taken", name), {by}, hint};
  };
  if (const auto* domain = find_domain(view, name)) {
    return taken(fmt::format("domain '{}' ({})", domain->name, virt::to_string(domain->state)), "choose another name");
  }
  std::vector<std::string> datasets = {state_dataset(view.root, name)};
  for (const auto& label : labels) datasets.push_back(disk_dataset(view.root, name, label));
  for (const auto& dataset : datasets) {
    const auto* there = find_dataset(view, dataset);
    if (there == nullptr) continue;
    const auto owner = there->property(zfs::property::machine);
    return taken(owner.empty() || owner == name ? fmt::format("dataset {}", dataset)
                                                : fmt::format("dataset {}, a disk of machine '{}'", dataset, owner),
                 "choose another name");
  }
  for (const auto& domain : view.domains) {
    for (const auto& path : domain.block_paths) {
      if (std::find(datasets.begin(), datasets.end(), volume_of(view, path)) == datasets.end()) continue;
      return taken(fmt::format("the definition of '{}' uses {}", domain.name, path), "choose another name");
    }
  }
  for (const auto& path : taken_paths) {
    const bool its_own =
        path == state_directory(name) ||
        std::any_of(datasets.begin(), datasets.end(), [&](const auto& d) { return path == zfs::device_path(d); });
    if (its_own) return taken(fmt::format("{} exists", path), "choose another name, or move that away");
  }
  return std::nullopt;
}

std::optional<Refusal> key_missing(const std::vector<zfs::Dataset>& datasets) {
  for (const auto& dataset : datasets) {
    if (!dataset.key_missing) continue;
    const auto& root = dataset.encryption_root.empty() ? dataset.name : dataset.encryption_root;
    return Refusal{"key-missing",
                   fmt::format("the encryption key of '{}' is not loaded", dataset.name),
                   {},
                   fmt::format("load it: zfs load-key {}", root)};
  }
  return std::nullopt;
}

std::optional<Refusal> state_unmounted(const Machine& machine) {
  if (!machine.state || machine.state->mounted) return std::nullopt;
  if (auto refusal = key_missing({*machine.state})) return refusal;
  return Refusal{"not-mounted",
                 fmt::format("the state of machine '{}' is not mounted", machine.name),
                 {fmt::format("{}, at {}", machine.state->name, state_directory(machine.name))},
                 fmt::format("mount it: zfs mount {}", machine.state->name)};
}

}  // namespace kld::plan
