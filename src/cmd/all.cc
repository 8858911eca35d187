// SPDX-License-Identifier: Apache-2.0
#include "cmd/commands.h"

namespace kld::cmd {

std::vector<cli::Command> all() {
  return {create(), clone(),   snap(),   snapshot(),   remove(),     list(),
          adopt(),  recover(), expire(), guard_thaw(), start_guard()};
}

}  // namespace kld::cmd
