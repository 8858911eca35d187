// SPDX-License-Identifier: Apache-2.0
// What all commands share in front of their users: common flags, errors, and the one place that disposes of plans.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "run/config.h"
#include "run/executor.h"
#include "run/freeze.h"
#include "run/host.h"
#include "run/lock.h"
#include "run/recover.h"

namespace kld::cli {

/// Flags that every command has.
struct Common {
  bool json = false;
  bool dry_run = false;
  bool yes = false;
  bool quiet = false;
  std::optional<std::string> root;
  std::optional<std::string> connect;
};

/// What a command answers with: the plan, and what to say around it.
struct Proposal {
  plan::Result result;
  /// What is destroyed, asked for before it; empty: nothing is.
  std::vector<std::string> question;
  /// It is told even where nobody is asked: with --yes, and with --dry-run.
  bool always_told = false;
  /// The answer on success, for a person and for a program. `report` may look at the host again.
  std::function<std::string(const run::Host&)> report;
  std::function<nlohmann::json(const run::Host&)> report_json;
};

class Context {
 public:
  Common common;

  /// Throws Refused unless we are root.
  static void require_root();
  /// Throws UsageError for a word that no machine can be called.
  static void require_machine_name(const std::string& name);
  run::Config config() const;
  run::Root root() const;
  std::string uri() const;
  /// Looks at the host; nothing is locked or changed.
  run::Host look(const run::Look& wanted = {}) const;

  /// Recovers what died, locks, looks, lets `propose` plan, and disposes: prints or executes.
  void dispose(const std::map<std::string, run::Lock>& locks, const run::Look& wanted,
               const std::function<Proposal(const run::Host&)>& propose);

  /// The exit status of a command that has told all there is to tell; empty: by how it ended.
  std::optional<Exit> outcome;

  /// True once a step may have changed something: an error is then no mere refusal any more.
  bool executing() const { return executing_; }
  double seconds_since_start() const;

  /// To standard output: the answer.
  void answer(const std::string& text) const;
  void answer(const nlohmann::json& json) const;
  /// Several answers in JSON become one array, printed by finish_array().
  void begin_array() { array_ = nlohmann::json::array(); }
  void finish_array();
  /// The array instead, to be part of another answer.
  nlohmann::json take_array();
  /// To standard error, unless --quiet or --json.
  void talk(const std::string& text) const;
  void warn(const std::string& text) const;

  /// Recovery of what died earlier, told on standard error. `only`: these machines alone matter; one that fails and
  /// names them is a refusal.
  void recover_for(const std::map<std::string, run::Lock>& locks) const;
  /// The same of all entries for which `wanted` is true; those that could not be recovered.
  std::vector<run::Recovered> recover(const std::function<bool(const run::OpenEntry&)>& wanted) const;
  run::Watch watch() const;

  // For a command of several plans, which locks and looks by itself.

  /// Carries a plan out on the host that it was made for: journal, steps, undo. Throws as run::execute does. What came
  /// of the freezes in it, which it has told.
  std::vector<run::Frozen> carry_out(plan::Plan plan, const run::Host& host, const std::vector<int>& locks = {});
  /// What --dry-run says of a plan.
  void show(const plan::Plan& plan) const;
  /// Throws Refused when the pool is imported read-only.
  static void require_writable(const run::Host& host);
  /// Writes the root down that was found by looking.
  static void remember(const run::Root& root, const run::Host& host);

 private:
  void report(const plan::Plan& plan, const run::Host& host, const Proposal& proposal,
              const std::vector<run::Frozen>& frozen) const;
  void tell(const std::vector<run::Frozen>& frozen);
  void confirm(const Proposal& proposal) const;
  bool executing_ = false;
  mutable std::optional<nlohmann::json> array_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

nlohmann::json to_json(const plan::Plan& plan);
/// `changed`: a step may have changed something before.
nlohmann::json to_json(const Error& error, bool changed);
/// The error on standard error (or as JSON on standard output), and the exit status it means.
int report_error(const Error& error, bool json, bool changed);

}  // namespace kld::cli
