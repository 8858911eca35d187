// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cmd/commands.h"
#include "run/freeze.h"

namespace kld::cmd {

cli::Command guard_thaw() {
  cli::Command command{"guard-thaw", "", "Thaw a guest that its snapshot left frozen", "", {}, nullptr, true};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    struct Flags {
      std::string uuid;
      int pid = 0;
      std::uint64_t seconds = 0;
    };
    auto flags = std::make_shared<Flags>();
    app.add_option("UUID", flags->uuid, "Of the domain")->required();
    app.add_option("--pid", flags->pid, "The process that froze it")->required();
    app.add_option("--seconds", flags->seconds, "How long that may take")->required();
    return [flags, &context] {
      cli::Context::require_root();
      const int thawed = run::guard_thaw(context.uri(), flags->uuid, flags->pid, flags->seconds);
      // For the journal: of a guest that its snapshot had left frozen.
      if (thawed > 0) context.warn(fmt::format("thawed {} file systems of domain {}", thawed, flags->uuid));
    };
  };
  return command;
}

}  // namespace kld::cmd
