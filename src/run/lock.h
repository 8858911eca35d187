// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace kld::run {

inline constexpr char kLockDirectory[] = "/run/kldload/lock";

enum class Lock { shared, exclusive };

/// Locks on machines: flock on one file each, gone with the process, and with what it started and gave them to.
class Locks {
 public:
  /// Takes all in the order of their names. Waits up to `patience` in all, then throws Refused naming the process
  /// that is in the way.
  static Locks take(const std::map<std::string, Lock>& wanted, std::chrono::milliseconds patience,
                    const std::string& directory = kLockDirectory);
  /// The same for a whole command, of which one is to run at a time: Refused names who runs.
  static Locks take_command(const std::string& command, std::chrono::milliseconds patience,
                            const std::string& directory = kLockDirectory);
  /// Lets this process have as many files open as the host allows: a lock on each of hundreds of machines is one.
  static void expect_many();
  Locks() = default;
  Locks(Locks&&) noexcept;
  Locks& operator=(Locks&&) noexcept;
  ~Locks();

  /// For a program that changes a machine: who keeps these open holds the locks, too, until it has ended.
  const std::vector<int>& descriptors() const { return fds_; }

 private:
  std::vector<int> fds_;
};

/// Claims on names of snapshots, among commands that share a machine's lock: who makes or destroys a snapshot claims
/// its name alone, who clones one that is there claims it together with others. Record locks on one file a machine,
/// gone with this object.
class SnapshotClaims {
 public:
  explicit SnapshotClaims(std::string directory = kLockDirectory) : directory_(std::move(directory)) {}
  SnapshotClaims(const SnapshotClaims&) = delete;
  SnapshotClaims& operator=(const SnapshotClaims&) = delete;
  ~SnapshotClaims();

  /// False, at once, when another process has a claim that excludes this one. Error when the file cannot be opened.
  bool take(const std::string& machine, const std::string& snapshot, Lock kind);

 private:
  std::string directory_;
  std::map<std::string, int> fds_;
};

}  // namespace kld::run
