// SPDX-License-Identifier: Apache-2.0
#include "cli/app.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/name.h"
#include "cli/flags.h"

namespace kld::cli {
namespace {

constexpr char kExitStatus[] =
    "Exit status: 0 done, 1 failed and undone, 2 usage, 3 refused and nothing changed, 4 needs 'kld recover', "
    "130 interrupted and undone.";

void add_common(CLI::App& app, Common& common) {
  app.add_flag("--json", common.json, "Answer in JSON on standard output");
  app.add_flag("-n,--dry-run", common.dry_run, "Show the steps and the equivalent commands, change nothing");
  app.add_flag("-y,--yes", common.yes, "Answer questions with yes; nothing more");
  app.add_flag("-q,--quiet", common.quiet, "Say nothing but errors and warnings");
  app.add_option("--root", common.root, "VM root dataset, instead of the configured one")->type_name("DATASET");
  app.add_option("--connect", common.connect, "libvirt connection URI, instead of qemu:///system")->type_name("URI");
}

std::string footer(const Command& command) {
  std::string text;
  if (!command.examples.empty()) text += "Examples:\n";
  for (const auto& [line, meaning] : command.examples) text += fmt::format("  {}\n      {}\n", line, meaning);
  return text + (text.empty() ? "" : "\n") + kExitStatus;
}

std::unique_ptr<CLI::App> make_parser(const Command& command, Context& context, std::function<void()>& run) {
  auto app =
      std::make_unique<CLI::App>(command.summary + (command.description.empty() ? "" : "\n\n" + command.description));
  app->name(command.link.empty() ? "kld " + command.name : command.link);
  app->footer(footer(command));
  app->set_help_flag("-h,--help", "Print this help");
  app->option_defaults()->always_capture_default(false);
  run = command.declare(*app, context);
  add_common(*app, context.common);
  return app;
}

/// Every long flag of the parser.
std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string usage_hint(const CLI::App& app, const CLI::ParseError& problem, const std::vector<std::string>& words) {
  if (dynamic_cast<const CLI::ExtrasError*>(&problem) != nullptr) {
    const auto flags = flags_of(app);
    for (const auto& word : words) {
      const std::string flag = word.substr(0, word.find('='));
      if (!flag.starts_with("--") || std::find(flags.begin(), flags.end(), flag) != flags.end()) continue;
      const auto near = nearest(flag, flags);
      if (!near.empty()) return fmt::format("did you mean '{}'?", near);
    }
  }
  return fmt::format("see '{} --help'", app.get_name());
}

std::string usage_problem(const CLI::App& app, const CLI::ParseError& problem) {
  if (dynamic_cast<const CLI::ExtrasError*>(&problem) != nullptr) {
    // An unknown flag comes with its value: the flag is what was wrong.
    const auto extras = app.remaining();
    const auto is_flag = [](const std::string& word) { return word.size() > 1 && word[0] == '-'; };
    const auto flag = std::find_if(extras.begin(), extras.end(), is_flag);
    if (flag != extras.end()) return fmt::format("unknown flag '{}'", flag->substr(0, flag->find('=')));
    if (!extras.empty()) return fmt::format("unexpected argument '{}'", extras.front());
  }
  const std::string text = problem.what();
  return text.substr(0, text.find('\n'));
}

int run_command(const Command& command, const std::vector<std::string>& words) {
  Context context;
  if (words == std::vector<std::string>{"--version"}) {
    context.answer(fmt::format("{} {}\n", command.link.empty() ? "kld" : command.link, KLD_VERSION));
    return 0;
  }
  try {
    std::function<void()> run;
    const auto app = make_parser(command, context, run);
    // An error in the words must know whether to speak JSON before they are parsed.
    context.common.json = std::find(words.begin(), words.end(), "--json") != words.end();
    for (std::size_t at = 0; at < words.size(); ++at) {
      if (!is_utf8(words[at])) throw UsageError(fmt::format("argument {} is not UTF-8 text", at + 1));
    }
    try {
      app->parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::CallForHelp&) {
      context.answer(app->help());
      return 0;
    } catch (const CLI::ParseError& problem) {
      throw UsageError(usage_problem(*app, problem), usage_hint(*app, problem, words));
    }
    run();
    return static_cast<int>(context.outcome.value_or(Exit::done));
  } catch (const UsageError& error) {
    // Whoever wrote the words wrong wants to see the right ones.
    const auto name = command.link.empty() ? "kld " + command.name : command.link;
    const auto hint = error.hint().empty() ? fmt::format("see '{} --help'", name) : error.hint();
    return report_error(UsageError(error.message(), hint), context.common.json, context.executing());
  } catch (const Error& error) {
    return report_error(error, context.common.json, context.executing());
  } catch (const std::exception& problem) {
    return report_error(Error(problem.what()), context.common.json, context.executing());
  }
}

const Command* find(const std::vector<Command>& commands, const std::string& word) {
  for (const auto& command : commands) {
    if (command.name == word || (!command.link.empty() && command.link == word)) return &command;
  }
  return nullptr;
}

std::string overview(const std::vector<Command>& commands) {
  std::string text =
      "kld joins libvirt's machines with ZFS's volumes.\n\nUsage: kld COMMAND [ARGUMENTS]\n\nCommands:\n";
  for (const auto& command : commands) {
    if (command.hidden) continue;
    text += fmt::format("  {:<10} {:<13} {}\n", command.name, command.link, command.summary);
  }
  return text + fmt::format(
                    "\n  help COMMAND            Explain a command\n  --version               Print the version\n"
                    "  --dump-cli              Print all commands and flags as JSON\n\n{}\n",
                    kExitStatus);
}

int unknown(const std::vector<Command>& commands, const std::string& word) {
  std::vector<std::string> names = {"help"};
  for (const auto& command : commands) names.push_back(command.name);
  const auto near = nearest(word, names);
  return report_error(UsageError(fmt::format("there is no command '{}'", word),
                                 near.empty() ? "see 'kld help'" : fmt::format("did you mean 'kld {}'?", near)),
                      false, false);
}

nlohmann::json dump_option(const CLI::Option& option) {
  nlohmann::json names = nlohmann::json::array();
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  return {{"names", names},
          {"positional", option.get_positional() ? option.get_name(true) : ""},
          {"description", option.get_description()},
          {"value", option.get_items_expected_max() == 0 ? "" : option.get_type_name()},
          {"default", option.get_default_str()},
          {"required", option.get_required()},
          {"repeatable", option.get_items_expected_max() > 1}};
}

}  // namespace

int run_app(const std::vector<Command>& commands, int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const std::string program = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "kld";
  const Context plain;
  if (const auto* linked = find(commands, program); linked != nullptr && program == linked->link) {
    if (linked->without_flags) words.insert(words.begin(), "--");
    return run_command(*linked, words);
  }
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || (words[0] == "help" && words.size() == 1)) {
    plain.answer(overview(commands));
    return words.empty() ? static_cast<int>(Exit::usage) : 0;
  }
  if (words[0] == "--version") {
    plain.answer(fmt::format("kld {}\n", KLD_VERSION));
    return 0;
  }
  if (words[0] == "--dump-cli") {
    plain.answer(dump(commands));
    return 0;
  }
  if (words[0] == "help") {
    const auto* command = find(commands, words[1]);
    return command == nullptr ? unknown(commands, words[1]) : run_command(*command, {"--help"});
  }
  const auto* command = find(commands, words[0]);
  if (command == nullptr) return unknown(commands, words[0]);
  return run_command(*command, {words.begin() + 1, words.end()});
}

nlohmann::json dump(const std::vector<Command>& commands) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& command : commands) {
    if (command.hidden) continue;
    Context context;
    std::function<void()> run;
    const auto app = make_parser(command, context, run);
    nlohmann::json options = nlohmann::json::array();
    for (const auto* option : app->get_options()) options.push_back(dump_option(*option));
    nlohmann::json examples = nlohmann::json::array();
    for (const auto& [line, meaning] : command.examples) examples.push_back({{"command", line}, {"meaning", meaning}});
    list.push_back({{"name", command.name},
                    {"link", command.link},
                    {"summary", command.summary},
                    {"description", command.description},
                    {"examples", examples},
                    {"options", options}});
  }
  return {{"program", "kld"}, {"version", KLD_VERSION}, {"exit_status", kExitStatus}, {"commands", list}};
}

}  // namespace kld::cli
