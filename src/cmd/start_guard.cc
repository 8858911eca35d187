// SPDX-License-Identifier: Apache-2.0
// libvirt's hook for QEMU, which it runs before it starts a domain: https://libvirt.org/hooks.html
#include "plan/start_guard.h"

#include <iostream>
#include <iterator>

#include "base/error.h"
#include "cmd/commands.h"
#include "run/start_facts.h"

namespace kld::cmd {

namespace {

/// Empty when there is none, or the configuration cannot be read: that is no reason to keep a machine from starting.
std::string configured_root(const cli::Context& context) {
  try {
    return context.root().dataset;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

cli::Command start_guard() {
  cli::Command command{"start-guard", "kld-start-guard", "Refuse to start what must not start", "", {}, nullptr, true,
                       true};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto operation = std::make_shared<std::vector<std::string>>();
    app.add_option("OPERATION", *operation, "Domain, operation and further words, as libvirt gives them")->required();
    return [operation, &context] {
      if (operation->size() < 2 || operation->at(1) != "prepare") return;
      const std::string definition((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
      for (const auto& facts : run::start_facts(definition, configured_root(context))) {
        if (auto refusal = plan::bar_start(facts)) throw Refused(*refusal);
      }
    };
  };
  return command;
}

}  // namespace kld::cmd
