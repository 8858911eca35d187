// SPDX-License-Identifier: Apache-2.0
// The actions of kvm-snap that change which version of a machine is the present.
#pragma once

#include <string>

#include "cli/app.h"

namespace kld::cmd {

struct RollbackFlags {
  bool stop = false;
  bool only_disks = false;
  bool destroy_newer = false;
  std::string timeout = "2m";
  std::string keep_for = "7d";
};

void add_rollback_flags(CLI::App& app, RollbackFlags& flags);

/// `name`: the snapshot, or the version that was set aside; empty: the newest.
void roll_back(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags);
/// Of a machine that was deleted and is set aside: brings it back.
void undo(cli::Context& context, const std::string& machine, const std::string& name, const RollbackFlags& flags);
void list_kept(cli::Context& context, const std::string& machine);
void drop(cli::Context& context, const std::string& machine, const std::string& name);

}  // namespace kld::cmd
