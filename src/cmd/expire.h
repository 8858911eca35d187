// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cli/app.h"

namespace kld::cmd {

/// Removes what is set aside and has expired, each in an operation of its own, and tells each through `context`: the
/// names of those that could not be removed. What somebody works on now is left for the next time, and is none of them.
std::vector<std::string> expire_kept(cli::Context& context);

}  // namespace kld::cmd
