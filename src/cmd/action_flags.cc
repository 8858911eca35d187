// SPDX-License-Identifier: Apache-2.0
#include "cmd/action_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace kld::cmd {
namespace {

struct ActionFlag {
  const char* flag;
  std::vector<std::string> actions;
};

const std::vector<ActionFlag>& action_flags() {
  static const std::vector<ActionFlag> all = {
      {"--stop", {"rollback", "undo"}},
      {"--timeout", {"rollback", "undo"}},
      {"--only-disks", {"rollback"}},
      {"--keep-for", {"rollback", "undo"}},
  };
  return all;
}

}  // namespace

void require_fitting_flags(const CLI::App& app, const std::string& action) {
  for (const auto& [flag, actions] : action_flags()) {
    if (app.count(flag) == 0 || std::find(actions.begin(), actions.end(), action) != actions.end()) continue;
    throw UsageError(fmt::format("{} is for {}, not for {}", flag, fmt::join(actions, " and "), action),
                     "see 'kvm-snap --help'");
  }
}

}  // namespace kld::cmd
