// SPDX-License-Identifier: Apache-2.0
#include "plan/kept_refusals.h"

#include <fmt/format.h>

namespace kld::plan {

std::optional<Refusal> kept_in_use(const View& view, const Kept& kept, const std::vector<std::string>& holders) {
  auto evidence = holders;
  for (const auto& disk : kept.disks) {
    for (const auto& domain : view.domains) {
      for (const auto& path : domain.block_paths) {
        if (volume_of(view, path) != disk.volume.name) continue;
        evidence.push_back(fmt::format("{} is a disk of domain '{}'", disk.volume.name, domain.name));
      }
    }
  }
  for (const auto* part : {&kept.state, &kept.tpm}) {
    if (*part && (*part)->mounted) evidence.push_back(fmt::format("{} is mounted", (*part)->name));
  }
  if (evidence.empty()) return std::nullopt;
  return Refusal{"in-use", fmt::format("'{}', which was set aside, is in use", kept.name), std::move(evidence),
                 "end that first: close it, unmount it, detach it from that domain"};
}

std::optional<Refusal> container_held(const Kept& kept, const std::vector<zfs::Snapshot>& snapshots) {
  std::vector<std::string> evidence;
  for (const auto& snapshot : snapshots) {
    if (snapshot.dataset() != kept.container.name) continue;
    if (snapshot.holds > 0) evidence.push_back(fmt::format("{} is held", snapshot.name));
    for (const auto& clone : snapshot.clones)
      evidence.push_back(fmt::format("{} was cloned from {}", clone, snapshot.name));
  }
  if (evidence.empty()) return std::nullopt;
  return Refusal{"held", fmt::format("what '{}' lies in could not go behind it", kept.name), std::move(evidence),
                 "see by what with 'zfs holds', and end that first"};
}

}  // namespace kld::plan
