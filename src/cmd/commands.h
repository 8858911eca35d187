// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "cli/app.h"

namespace kld::cmd {

cli::Command create();
cli::Command clone();
cli::Command snap();
cli::Command snapshot();
cli::Command remove();
cli::Command list();
cli::Command adopt();
cli::Command recover();
cli::Command expire();
cli::Command guard_thaw();
cli::Command start_guard();

/// In the order of the overview.
std::vector<cli::Command> all();

}  // namespace kld::cmd
