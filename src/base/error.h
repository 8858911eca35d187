// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace kld {

/// What the process tells its caller. The numbers are part of the interface.
enum class Exit : int {
  done = 0,
  failed = 1,  ///< failed, and undone
  usage = 2,
  refused = 3,  ///< refused, nothing changed
  needs_recovery = 4,
  interrupted = 130,
};

/// A failure: what failed, while doing what, and what to do next. Thrown anywhere, printed by main alone.
class Error : public std::exception {
 public:
  explicit Error(std::string message, std::string hint = {}, Exit exit = Exit::failed)
      : message_(std::move(message)), hint_(std::move(hint)), exit_(exit) {}

  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }
  Exit exit() const { return exit_; }
  /// Innermost first: "deleting machine 'web'".
  const std::vector<std::string>& context() const { return context_; }

  void add_context(std::string doing) { context_.push_back(std::move(doing)); }
  void set_exit(Exit exit) { exit_ = exit; }
  /// False when it ended work of which some is done and stays.
  bool undone() const { return undone_; }
  void set_undone(bool undone) { undone_ = undone; }

 private:
  std::string message_;
  std::string hint_;
  Exit exit_;
  bool undone_ = true;
  std::vector<std::string> context_;
};

/// Bad words on the command line or in the configuration: exit 2.
class UsageError : public Error {
 public:
  explicit UsageError(std::string message, std::string hint = {})
      : Error(std::move(message), std::move(hint), Exit::usage) {}
};

/// A signal asked us to stop: exit 130 after the undo.
class Interrupted : public Error {
 public:
  Interrupted() : Error("interrupted", {}, Exit::interrupted) {}
};

/// A request that is understood and not carried out, with the facts that forbid it. Nothing was changed.
struct Refusal {
  std::string kind;  ///< stable word for programs: "name-taken", "dependent-clones"
  std::string message;
  std::vector<std::string> evidence;  ///< one fact a line
  std::string hint;

  bool operator==(const Refusal&) const = default;
};

/// A Refusal on its way from where it was found to main: exit 3.
class Refused : public Error {
 public:
  explicit Refused(Refusal refusal)
      : Error(refusal.message, refusal.hint, Exit::refused), refusal_(std::move(refusal)) {}
  const Refusal& refusal() const { return refusal_; }

 private:
  Refusal refusal_;
};

/// Runs `body`; an Error that passes through learns what was being done.
template <typename Body>
auto while_doing(const std::string& doing, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (Error& error) {
    error.add_context(doing);
    throw;
  }
}

}  // namespace kld
