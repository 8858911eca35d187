// SPDX-License-Identifier: Apache-2.0
#pragma once

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

std::string current_boot_id();
/// When the host started. Source: btime of /proc/stat.
UnixTime boot_time();

}  // namespace kld::run
