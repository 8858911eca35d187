// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "plan/plan.h"
#include "run/executor.h"

namespace kld::run {

inline constexpr char kJournalDirectory[] = "/var/lib/kldload/journal";

/// What an operation writes down before each step, so that a later process can undo or finish it.
/// One file an operation, locked by its process for as long as it lives, gone when the operation ended.
class Journal : public Record {
 public:
  /// Writes the whole plan and syncs it. Nothing of the plan may run before.
  static Journal open(const plan::Plan& plan, const std::string& directory = kJournalDirectory);
  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal() override;

  /// Notes that the step is about to run; on disk when it returns where recovery needs that after a power cut: at the
  /// commit point, and behind a step that must not be repeated. Before the commit point it takes every step for one
  /// that may have run, and behind it, it repeats what bears that.
  void begin(std::size_t step) override;
  void begin_undo() override;
  void undone(std::size_t step) override;
  /// The operation is done or undone: nothing to recover. Error only when neither can be made known.
  void close() override;

 private:
  Journal(int fd, std::string path, std::vector<bool> synced)
      : fd_(fd), path_(std::move(path)), synced_(std::move(synced)) {}
  int fd_;
  std::string path_;
  std::vector<bool> synced_;  ///< for each step: its note is waited for
};

/// An operation that a process began and did not end.
class OpenEntry {
 public:
  OpenEntry(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  OpenEntry(OpenEntry&&) noexcept;
  OpenEntry& operator=(OpenEntry&&) noexcept;
  ~OpenEntry();

  plan::Plan plan;
  std::optional<std::size_t> begun;  ///< the last step that is known to have begun
  bool undoing = false;              ///< its process had begun to undo it
  std::set<std::size_t> undone;      ///< steps that were taken back since the host started
  std::string boot_id;               ///< of the host when it began
  UnixTime started = 0;
  bool done = false;    ///< it ended; only its file was left
  std::string problem;  ///< why it cannot be read; empty: it can

  const std::string& path() const { return path_; }
  /// True when it is to be finished, false when undone.
  bool committed() const { return begun && *begun >= plan.commit && !undoing; }
  /// Notes that it is undone from here on, whatever had begun.
  void begin_undo();
  void note_undone(std::size_t step);
  /// It is recovered. Throws Error when its file stays.
  void remove();

 private:
  int fd_;
  std::string path_;
};

/// Entries whose process is gone, oldest first. To look at only: others may look, too.
std::vector<OpenEntry> open_entries(const std::string& directory = kJournalDirectory);

/// An entry anew, for us alone; whoever calls it holds the locks on its machines, so that no other process works on it.
/// nullopt when it is gone.
std::optional<OpenEntry> claim_entry(const std::string& path);

/// Fills the entry from its file as far as that goes; `problem` says what cannot be read.
void read_entry(OpenEntry& entry);

std::string current_boot_id();
/// When the host started. Source: btime of /proc/stat.
UnixTime boot_time();

}  // namespace kld::run
