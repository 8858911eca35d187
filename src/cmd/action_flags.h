// SPDX-License-Identifier: Apache-2.0
// Which flags of kvm-snap go with which of its actions.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace kld::cmd {

/// Throws UsageError when a flag was given that this action does not take: it would do nothing, and whoever typed it
/// meant something by it.
void require_fitting_flags(const CLI::App& app, const std::string& action);

}  // namespace kld::cmd
