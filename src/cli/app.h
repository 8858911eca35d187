// SPDX-License-Identifier: Apache-2.0
// The command line: one declaration of each command serves parsing, help, completion and man page.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace kld::cli {

/// A command as it declares itself.
struct Command {
  std::string name;                                           ///< "clone"
  std::string link;                                           ///< the name people type: "kvm-clone"; empty: none
  std::string summary;                                        ///< one line
  std::string description;                                    ///< paragraphs, for help and the man page
  std::vector<std::pair<std::string, std::string>> examples;  ///< command line, what it does
  /// Adds arguments and flags to the parser; the returned function runs the command.
  std::function<std::function<void()>(CLI::App&, Context&)> declare;
  /// Run by what this program sets up, not by people: in no help, no man page, no completion.
  bool hidden = false;
  /// Called by its link, all its words are arguments, also those that look like flags.
  bool without_flags = false;
};

/// Parses, runs, reports. `argv[0]` may be the program's name or one of the links. Returns the exit status.
int run_app(const std::vector<Command>& commands, int argc, char** argv);

/// All commands and their flags as JSON: what man pages and completions are made of.
nlohmann::json dump(const std::vector<Command>& commands);

}  // namespace kld::cli
