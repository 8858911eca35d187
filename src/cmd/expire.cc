// SPDX-License-Identifier: Apache-2.0
#include "cmd/expire.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "cmd/commands.h"
#include "plan/drop.h"
#include "plan/expire.h"
#include "run/interrupt.h"
#include "run/kept_facts.h"

namespace kld::cmd {
namespace {

run::Look wanted_look() { return {.shallow = true, .kept = true, .domains = virt::Details::none}; }

UnixTime now() { return static_cast<UnixTime>(std::time(nullptr)); }

void tell(const cli::Context& context, const plan::Expiry& one, const std::string& result) {
  if (context.common.json) {
    context.answer({{"name", one.kept.name}, {"machine", one.kept.machine}, {"result", result}, {"why", one.why}});
  } else if (one.unclear && result == "stays") {
    context.warn(fmt::format("'{}' stays: it {}", one.kept.name, one.why));
  } else if (result == "stays" && !context.common.dry_run) {
    context.talk(fmt::format("{} stays: {}", one.kept.name, one.why));
  } else if (!context.common.quiet || context.common.dry_run) {
    context.answer(fmt::format("{}: {}{}\n", one.kept.name, result, one.why.empty() ? "" : ", " + one.why));
  }
}

/// Under its machine's lock, after a new look: it may have been brought back meanwhile, or cloned.
cli::Proposal removal(const run::Host& host, const plan::Expiry& one) {
  const auto facts = run::expire_facts(host);
  const auto all = plan::expired(host.view(), facts, now());
  const auto still =
      std::find_if(all.begin(), all.end(), [&](const auto& other) { return other.kept.name == one.kept.name; });
  cli::Proposal proposal;
  if (still == all.end() || !still->goes) {
    const bool gone = still == all.end();
    proposal.result =
        gone ? Refusal{"gone", "it is not set aside any more", {}, ""} : Refusal{"stays", still->why, {}, ""};
    return proposal;
  }
  const plan::DropRequest request{one.kept.machine, one.kept.name};
  proposal.result = plan::plan_drop(host.view(), request, {facts.snapshots, facts.origins, {}}, run::fresh());
  proposal.report = [one](const run::Host&) { return fmt::format("{}: removed\n", one.kept.name); };
  proposal.report_json = [one](const run::Host&) {
    return nlohmann::json{{"name", one.kept.name}, {"machine", one.kept.machine}, {"result", "removed"}, {"why", ""}};
  };
  return proposal;
}

/// False when it could not be removed.
bool remove_one(cli::Context& context, plan::Expiry& one) {
  try {
    // Somebody may have put a disk of it into the definition of a domain.
    auto wanted = wanted_look();
    wanted.pending_disks = true;
    context.dispose({{one.kept.machine, run::Lock::exclusive}}, wanted,
                    [&](const run::Host& host) { return removal(host, one); });
    return true;
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    const auto* refused = dynamic_cast<const Refused*>(&error);
    const auto kind = refused == nullptr ? std::string() : refused->refusal().kind;
    one.why = error.message();
    if (kind == "locked" || kind == "stays" || kind == "gone") {
      tell(context, one, kind == "gone" ? "gone" : "stays");
      return true;
    }
    if (error.exit() == Exit::needs_recovery) context.outcome = Exit::needs_recovery;
    if (refused != nullptr && !refused->refusal().evidence.empty())
      one.why += fmt::format(": {}", fmt::join(refused->refusal().evidence, "; "));
    if (context.common.json) tell(context, one, "failed");
    if (!context.common.json) context.warn(fmt::format("'{}' was not removed: {}", one.kept.name, one.why));
    return false;
  }
}

void run_expire(cli::Context& context) {
  context.begin_array();
  const auto failed = expire_kept(context);
  context.finish_array();
  if (!failed.empty() && !context.outcome) context.outcome = Exit::failed;
}

}  // namespace

std::vector<std::string> expire_kept(cli::Context& context) {
  cli::Context::require_root();
  run::catch_signals();
  std::vector<std::string> failed;
  const auto host = context.look(wanted_look());
  bool any_removed = false;
  try {
    auto all = plan::expired(host.view(), run::expire_facts(host), now());
    if (std::any_of(all.begin(), all.end(), [](const auto& one) { return one.goes; })) {
      cli::Context::require_writable(host);
    }
    for (auto& one : all) {
      if (run::interrupted()) throw Interrupted();
      if (!one.goes || context.common.dry_run) {
        tell(context, one, one.goes ? "would be removed" : "stays");
      } else if (remove_one(context, one)) {
        any_removed = true;
      } else {
        failed.push_back(one.kept.name);
      }
    }
  } catch (Interrupted& interrupted) {
    if (any_removed) interrupted.set_undone(false);
    throw;
  }
  return failed;
}

cli::Command expire() {
  cli::Command command{"expire", "", "Remove what is set aside and has expired", "", {}, nullptr};
  command.description =
      "What a rollback or a deletion set aside goes once its time is over, nothing was cloned from it any more, and no "
      "snapshot of it is held or being sent. The hourly timer does the same. The time is that of the property "
      "com.kldload:expires, in UTC; never, or what is no time, keeps it. Should the clock have jumped, nothing goes "
      "before its pool has been in use for half of its time, as the pool's own transaction groups count it; while the "
      "host is off, nothing counts.\n\n"
      "A machine that somebody works on is left for the next time. One that fails does not stop the others.";
  command.examples = {{"kld expire --dry-run", "shows what would go, and why the rest stays"},
                      {"kld expire", "removes what has expired"},
                      {"kvm-snap web kept", "what is set aside of a machine, and until when"}};
  command.declare = [](CLI::App&, cli::Context& context) -> std::function<void()> {
    return [&context] { run_expire(context); };
  };
  return command;
}

}  // namespace kld::cmd
