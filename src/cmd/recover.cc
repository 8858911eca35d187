// SPDX-License-Identifier: Apache-2.0
#include "run/recover.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "cmd/commands.h"
#include "run/interrupt.h"
#include "run/recovery_runner.h"

namespace kld::cmd {
namespace {

const char* word(run::Recovered::How how) {
  switch (how) {
    case run::Recovered::How::undone:
      return "undone";
    case run::Recovered::How::finished:
      return "finished";
    case run::Recovered::How::failed:
      return "failed";
  }
  return "failed";
}

/// What would be recovered; nothing is touched.
std::vector<run::Recovered> preview() {
  std::vector<run::Recovered> results;
  for (const auto& entry : run::open_entries()) {
    results.push_back({entry.plan.operation, entry.plan.op, entry.plan.machines,
                       entry.committed() ? run::Recovered::How::finished : run::Recovered::How::undone, entry.problem});
  }
  return results;
}

void run_recover(cli::Context& context) {
  cli::Context::require_root();
  run::catch_signals();
  run::RecoveryRunner runner(context.uri());
  const auto results = context.common.dry_run ? preview() : run::recover(std::ref(runner), context.watch());
  nlohmann::json array = nlohmann::json::array();
  bool failed = false;
  bool partly = false;
  for (const auto& one : results) {
    failed = failed || one.how == run::Recovered::How::failed;
    partly = partly || !one.problem.empty();
    array.push_back({{"operation", one.operation},
                     {"op", one.op},
                     {"machines", one.machines},
                     {"result", word(one.how)},
                     {"problem", one.problem}});
    if (context.common.json) continue;
    context.answer(fmt::format("{} of {} ({}): {}{}{}\n", one.operation, fmt::join(one.machines, ", "), one.op,
                               context.common.dry_run ? "would be " : "", word(one.how),
                               one.problem.empty() ? "" : ", " + one.problem));
  }
  if (context.common.json) context.answer(array);
  if (results.empty() && !context.common.json && !context.common.quiet)
    context.answer(std::string("Nothing to recover.\n"));
  // What runs at boot fails visibly when a machine that ran does not run any more.
  if (partly && !failed && !context.common.dry_run) context.outcome = Exit::failed;
  if (failed && context.common.json) context.outcome = Exit::needs_recovery;
  if (failed && !context.common.json) {
    throw Error("not everything could be recovered", "mend what stands in the way, then try again",
                Exit::needs_recovery);
  }
}

}  // namespace

cli::Command recover() {
  cli::Command command{"recover", "", "Undo or finish what a killed command or a power cut left", "", {}, nullptr};
  command.description =
      "Every command writes down each step before it does it. What a process left when it died is undone when it had "
      "not "
      "reached the point of no return, finished when it had. Each changing command does the same before its own work, "
      "and the host does at boot.";
  command.examples = {{"kld recover", "recover everything"},
                      {"kld recover --dry-run", "show what there is to recover"}};
  command.declare = [](CLI::App&, cli::Context& context) -> std::function<void()> {
    return [&context] { run_recover(context); };
  };
  return command;
}

}  // namespace kld::cmd
