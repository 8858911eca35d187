// SPDX-License-Identifier: Apache-2.0
#include "plan/layout.h"

#include <fmt/format.h>

#include "plan/limits.h"

namespace kld::plan {

std::optional<Step> ensure_state_root(const View& view, const std::string& op) {
  const std::string name = view.root + "/.state";
  if (find_dataset(view, name) != nullptr) return std::nullopt;
  // canmount=off from its creation: turned on later, its own mount would hide the children's directories.
  return CreateFilesystem{
      name, {{"atime", "off"}, {"canmount", "off"}, {"mountpoint", kStateDirectory}, {zfs::property::op, op}}};
}

std::optional<Step> ensure_kept_root(const View& view, const std::string& op) {
  const std::string name = view.root + "/.kept";
  if (find_dataset(view, name) != nullptr) return std::nullopt;
  return CreateFilesystem{name, {{"canmount", "off"}, {"mountpoint", "none"}, {zfs::property::op, op}}};
}

std::optional<Refusal> layout_problem(const View& view) {
  if (const auto* root = find_dataset(view, view.root)) {
    if (auto refusal = key_missing({*root})) return refusal;
  }
  const auto* state = find_dataset(view, view.root + "/.state");
  if (state == nullptr) return std::nullopt;
  if (state->kind != zfs::Kind::filesystem) {
    return Refusal{"layout",
                   fmt::format("'{}' is a volume, where the machines' state belongs", state->name),
                   {},
                   fmt::format("rename it: zfs rename {} {}/NEW", state->name, view.root)};
  }
  if (state->mountpoint != kStateDirectory) {
    return Refusal{"layout",
                   fmt::format("'{}' is laid out for {}, not {}", state->name, state->mountpoint, kStateDirectory),
                   {},
                   fmt::format("zfs set mountpoint={} {}", kStateDirectory, state->name)};
  }
  if (state->can_mount) {
    return Refusal{"layout",
                   fmt::format("'{}' itself can be mounted, which would hide the machines' state", state->name),
                   {},
                   fmt::format("zfs set canmount=off {}", state->name)};
  }
  return std::nullopt;
}

void add_volmode(const View& view, zfs::Properties& properties) {
  const auto* root = find_dataset(view, view.root);
  if (root == nullptr || root->volmode != "dev") properties["volmode"] = "dev";
}

}  // namespace kld::plan
