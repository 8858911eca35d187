// SPDX-License-Identifier: Apache-2.0
// Journals of operations that have not ended, as others find them.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "plan/plan.h"
#include "run/journal.h"

namespace kld::run {

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
  bool alive = false;   ///< a process works on it: its own, or one that recovers it

  const std::string& path() const { return path_; }
  /// True when it is to be finished, false when undone.
  bool committed() const { return begun && *begun >= plan.commit && !undoing; }
  /// Notes that it is undone from here on, whatever had begun.
  void begin_undo();
  void note_undone(std::size_t step);
  /// Notes that recovery begins this step. Who asks whether the machine may start must see it.
  void note_begun(std::size_t step);
  /// It is recovered. Throws Error when its file stays.
  void remove();

 private:
  int fd_;
  std::string path_;
};

/// All that there are, whoever works on them. To look at only.
std::vector<OpenEntry> all_entries(const std::string& directory = kJournalDirectory);

/// Entries whose process is gone, oldest first. To look at only: others may look, too.
std::vector<OpenEntry> open_entries(const std::string& directory = kJournalDirectory);

/// An entry anew, for us alone; whoever calls it holds the locks on its machines, so that no other process works on it.
/// nullopt when it is gone.
std::optional<OpenEntry> claim_entry(const std::string& path);

/// Fills the entry from its file as far as that goes; `problem` says what cannot be read.
void read_entry(OpenEntry& entry);

}  // namespace kld::run
