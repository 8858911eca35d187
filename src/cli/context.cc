// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/name.h"
#include "base/process.h"
#include "base/terminal.h"
#include "plan/limits.h"
#include "run/interrupt.h"
#include "run/journal.h"
#include "run/open_entry.h"
#include "run/real_runner.h"
#include "run/recover.h"
#include "run/recovery_runner.h"
#include "zfs/change.h"

namespace kld::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kLockPatience = 5s;
constexpr std::size_t kCommandsShown = 6;
constexpr char kDefaultUri[] = "qemu:///system";

/// Never throws: a terminal that is gone, or a reader that has seen enough, must not end what we are doing.
void put(std::FILE* stream, const std::string& text) noexcept { std::fputs(text.c_str(), stream); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string config_path() {
  const auto path = environment("KLD_CONFIG");
  return path.empty() ? run::kConfigFile : path;
}

/// A bar a long step; steps without progress draw none.
run::Progress progress_bar(bool wanted) {
  if (!wanted) return {};
  auto bar = std::make_shared<std::unique_ptr<ProgressBar>>();
  return [bar](const std::string& what, double done, std::uint64_t total) {
    if (!*bar) *bar = std::make_unique<ProgressBar>(what, total);
    (*bar)->update(static_cast<std::uint64_t>(done * static_cast<double>(total)));
    if (done >= 1.0) bar->reset();
  };
}

bool touches(const std::vector<std::string>& machines, const std::map<std::string, run::Lock>& locks) {
  for (const auto& name : machines) {
    if (locks.contains(name)) return true;
  }
  return false;
}

/// A dead process's operation on one of our machines that began after our recovery and before our locks.
bool died_meanwhile(const std::map<std::string, run::Lock>& locks) {
  for (const auto& entry : run::open_entries()) {
    if (touches(entry.plan.machines, locks)) return true;
  }
  return false;
}

}  // namespace

void Context::require_root() {
  if (::geteuid() == 0) return;
  throw Refused({"not-root",
                 "this command works on ZFS and libvirt's system machines: it must run as root",
                 {},
                 "try again with sudo"});
}

run::Config Context::config() const { return run::load_config(config_path()); }

run::Root Context::root() const { return run::resolve_root(common.root, config()); }

std::string Context::uri() const {
  if (common.connect) return *common.connect;
  if (const auto uri = environment("KLD_CONNECT"); !uri.empty()) return uri;
  return run::load_config(config_path()).connect.value_or(kDefaultUri);
}

run::Host Context::look(const run::Look& wanted) const { return run::Host::look(root(), uri(), wanted); }

double Context::seconds_since_start() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Context::answer(const std::string& text) const { put(stdout, text); }

void Context::finish_array() {
  const auto array = std::exchange(array_, std::nullopt);
  if (array && common.json) answer(*array);
}

nlohmann::json Context::take_array() { return std::exchange(array_, std::nullopt).value_or(nlohmann::json::array()); }

void Context::answer(const nlohmann::json& json) const {
  if (array_) {
    array_->push_back(json);
    return;
  }
  put(stdout, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void Context::talk(const std::string& text) const {
  if (!common.quiet && !common.json) put(stderr, text + "\n");
}

void Context::warn(const std::string& text) const { put(stderr, fmt::format("warning: {}\n", text)); }

run::Watch Context::watch() const {
  run::Watch watch;
  const auto tell = [this](const std::string& lead, const plan::Step& step) {
    talk(lead + plan::describe(step) + "...");
    const auto lines = plan::commands(step);
    for (std::size_t i = 0; i < lines.size() && i < kCommandsShown; ++i) {
      talk(dimmed("  " + shell_line(lines[i]), Stream::err));
    }
    if (lines.size() > kCommandsShown) {
      talk(dimmed(fmt::format("  ... and {} more; --dry-run shows all", lines.size() - kCommandsShown), Stream::err));
    }
  };
  watch.step = [tell](const plan::Step& step) { tell("", step); };
  watch.undo = [tell](const plan::Step& step) { tell("undo: ", step); };
  watch.undo_failed = [this](const Error& error) { warn(fmt::format("could not undo: {}", error.message())); };
  watch.interrupted = run::interrupted;
  return watch;
}

void Context::recover_for(const std::map<std::string, run::Lock>& locks) const {
  // Only what concerns this command: another machine's operation is for its own next command, or for 'kld recover'.
  const auto failed = recover([&](const run::OpenEntry& entry) { return touches(entry.plan.machines, locks); });
  if (failed.empty()) return;
  const auto& one = failed.front();
  throw Refused({"needs-recovery",
                 fmt::format("an earlier '{}' that was cut off ({}) must be recovered first, and could not be",
                             one.operation, one.op),
                 {one.problem},
                 "mend what stands in the way, then run 'kld recover'"});
}

std::vector<run::Recovered> Context::recover(const std::function<bool(const run::OpenEntry&)>& wanted) const {
  run::RecoveryRunner runner(uri());
  std::vector<run::Recovered> failed;
  for (auto& one : run::recover(std::ref(runner), watch(), wanted)) {
    const auto what = fmt::format("an earlier '{}' that was cut off ({}){}{}", one.operation, one.op,
                                  one.problem.empty() ? "" : "; ", one.problem);
    if (one.how == run::Recovered::How::undone) warn(fmt::format("undid {}", what));
    if (one.how == run::Recovered::How::finished) warn(fmt::format("finished {}", what));
    if (one.how == run::Recovered::How::failed) failed.push_back(std::move(one));
  }
  return failed;
}

void Context::require_machine_name(const std::string& name) {
  if (const auto problem = machine_name_problem(name)) {
    throw UsageError(fmt::format("machine name '{}' {}", name, *problem), "see the machines with 'kvm-list'");
  }
}

void Context::dispose(const std::map<std::string, run::Lock>& locks, const run::Look& wanted,
                      const std::function<Proposal(const run::Host&)>& propose) {
  require_root();
  for (const auto& [name, kind] : locks) require_machine_name(name);
  run::catch_signals();
  const run::Root where = root();
  run::Locks held;
  if (!common.dry_run) {
    recover_for(locks);
    held = run::Locks::take(locks, kLockPatience);
    for (int tries = 0; tries < 3 && died_meanwhile(locks); ++tries) {
      held = run::Locks();
      recover_for(locks);
      held = run::Locks::take(locks, kLockPatience);
    }
  }
  auto looking = std::make_unique<Interruptible>(run::interrupted);
  const run::Host host = run::Host::look(where, uri(), wanted);
  const Proposal proposal = propose(host);
  if (!plan::refused(proposal.result)) require_writable(host);
  looking.reset();
  if (const auto* refusal = std::get_if<Refusal>(&proposal.result)) {
    if (refusal->kind == "usage") throw UsageError(refusal->message, refusal->hint);
    throw Refused(*refusal);
  }
  const auto& plan = std::get<plan::Plan>(proposal.result);
  for (const auto& warning : plan.warnings) warn(warning);
  if (common.dry_run) {
    if (proposal.always_told) talk(fmt::format("{}", fmt::join(proposal.question, "\n")));
    show(plan);
    return;
  }
  confirm(proposal);
  if (run::interrupted()) throw Interrupted();
  remember(where, host);
  const auto frozen = carry_out(plan, host, held.descriptors());
  report(plan, host, proposal, frozen);
}

// Behind the planner, whose refusals say more. Beyond here a step would fail: behind the point of no return, too.
void Context::require_writable(const run::Host& host) {
  const auto& root = host.view().root;
  if (!zfs::is_writable(root)) throw Refused(plan::pool_readonly(zfs::pool_of(root)));
}

void Context::remember(const run::Root& root, const run::Host& host) {
  if (root.remember) run::remember_root(config_path(), root.dataset, host.root_guid());
}

void Context::show(const plan::Plan& plan) const {
  if (common.json) {
    answer(to_json(plan));
    return;
  }
  for (const auto& step : plan.steps) {
    answer(plan::describe(step) + "\n");
    for (const auto& command : plan::commands(step)) answer(dimmed("  " + shell_line(command), Stream::out) + "\n");
  }
}

void Context::confirm(const Proposal& proposal) const {
  if (proposal.question.empty()) return;
  if (common.yes) {
    if (proposal.always_told) talk(fmt::format("{}", fmt::join(proposal.question, "\n")));
    return;
  }
  for (const auto& line : proposal.question) put(stderr, line + "\n");
  if (!is_terminal(Stream::in)) {
    throw Refused(
        {"not-confirmed", "this asks first, and nobody is there to ask", {}, "answer yes beforehand with --yes"});
  }
  const bool yes = ask("Go ahead?");
  if (run::interrupted()) throw Interrupted();
  if (!yes) throw Refused({"not-confirmed", "not confirmed, nothing changed", {}, ""});
}

std::vector<run::Frozen> Context::carry_out(plan::Plan plan, const run::Host& host, const std::vector<int>& locks) {
  plan.root = host.view().root;
  plan.uri = uri();
  run::RealRunner runner(&host.libvirt(), progress_bar(!common.quiet && !common.json), run::interrupted);
  runner.give_locks(locks);
  runner.warn_with([this](const std::string& text) { warn(text); });
  // While undoing, an interruption that is already asked for must not stop the undo.
  auto seen = watch();
  auto journal = run::Journal::open(plan);
  executing_ = true;
  seen.undo = [tell = seen.undo, &runner](const plan::Step& step) {
    runner.begin_undo();
    tell(step);
  };
  run::execute(plan, runner, journal, seen);
  auto frozen = runner.frozen();
  tell(frozen);
  return frozen;
}

void Context::tell(const std::vector<run::Frozen>& frozen) {
  for (const auto& one : frozen) {
    if (one.problem.empty()) {
      talk(fmt::format("Machine '{}' stood still for {:.2f} seconds ({} file systems).", one.machine, one.seconds,
                       one.frozen));
      continue;
    }
    if (one.fell_back) {
      warn(fmt::format("machine '{}' is not frozen: {}", one.machine, one.problem));
      continue;
    }
    warn(fmt::format("the snapshot of machine '{}' is crash-consistent, no more: {}", one.machine, one.problem));
    outcome = Exit::failed;
  }
}

void Context::report(const plan::Plan& plan, const run::Host& host, const Proposal& proposal,
                     const std::vector<run::Frozen>& frozen) const {
  // The work is done and stays done, whatever becomes of the words about it.
  try {
    if (common.json) {
      auto json = to_json(plan);
      if (proposal.report_json) json.update(proposal.report_json(host));
      for (const auto& one : frozen) {
        json["frozen"].push_back({{"machine", one.machine},
                                  {"file_systems", one.frozen},
                                  {"thawed", one.thawed},
                                  {"seconds", one.seconds},
                                  {"problem", one.problem}});
      }
      answer(json);
    } else if (proposal.report && !common.quiet) {
      answer(proposal.report(host));
    }
  } catch (const Error& error) {
    warn(fmt::format("done, but: {}", error.message()));
  }
}

nlohmann::json to_json(const plan::Plan& plan) {
  nlohmann::json steps = nlohmann::json::array();
  for (const auto& step : plan.steps) {
    nlohmann::json entry = plan::to_public_json(step);
    entry["describe"] = plan::describe(step);
    nlohmann::json lines = nlohmann::json::array();
    for (const auto& command : plan::commands(step)) lines.push_back(command);
    entry["commands"] = std::move(lines);
    steps.push_back(std::move(entry));
  }
  return {{"operation", plan.operation}, {"op", plan.op},         {"machines", plan.machines},
          {"warnings", plan.warnings},   {"commit", plan.commit}, {"steps", std::move(steps)}};
}

namespace {

/// Whatever goes wrong before the first step has changed nothing.
Exit exit_of(const Error& error, bool changed) {
  return error.exit() == Exit::failed && !changed ? Exit::refused : error.exit();
}

}  // namespace

nlohmann::json to_json(const Error& error, bool changed) {
  const Exit exit = exit_of(error, changed);
  const auto* refused = dynamic_cast<const Refused*>(&error);
  return {{"kind", refused != nullptr    ? refused->refusal().kind
                   : exit == Exit::usage ? "usage"
                                         : "error"},
          {"message", error.message()},
          {"evidence", refused == nullptr ? std::vector<std::string>() : refused->refusal().evidence},
          {"hint", error.hint()},
          {"context", error.context()},
          {"exit", static_cast<int>(exit)}};
}

int report_error(const Error& error, bool json, bool changed) {
  const Exit exit = exit_of(error, changed);
  if (json) {
    const nlohmann::json body = {{"error", to_json(error, changed)}};
    put(stdout, body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return static_cast<int>(exit);
  }
  const auto* refused = dynamic_cast<const Refused*>(&error);
  const auto evidence = refused == nullptr ? std::vector<std::string>() : refused->refusal().evidence;
  std::string text = fmt::format("{} {}\n", bold("error:", Stream::err), error.message());
  for (const auto& line : evidence) text += fmt::format("  - {}\n", line);
  for (const auto& doing : error.context()) text += fmt::format("  while: {}\n", doing);
  if (!error.hint().empty()) text += fmt::format("hint: {}\n", error.hint());
  if (changed && error.undone() && (exit == Exit::failed || exit == Exit::interrupted))
    text += "Everything done so far was undone.\n";
  if (changed && !error.undone() && (exit == Exit::failed || exit == Exit::interrupted))
    text += "What was done before it stays.\n";
  if (exit == Exit::needs_recovery) text += "hint: something is left half done; 'kld recover' undoes or finishes it\n";
  put(stderr, text);
  return static_cast<int>(exit);
}

}  // namespace kld::cli
