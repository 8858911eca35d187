// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace kld::run {

inline constexpr char kLockDirectory[] = "/run/kldload/lock";

enum class Lock { shared, exclusive };

/// Locks on machines: flock on one file each, gone with the process.
class Locks {
 public:
  /// Takes all in the order of their names. Waits up to `patience` in all, then throws Refused naming the process
  /// that is in the way.
  static Locks take(const std::map<std::string, Lock>& wanted, std::chrono::milliseconds patience,
                    const std::string& directory = kLockDirectory);
  Locks() = default;
  Locks(Locks&&) noexcept;
  Locks& operator=(Locks&&) noexcept;
  ~Locks();

 private:
  std::vector<int> fds_;
};

}  // namespace kld::run
