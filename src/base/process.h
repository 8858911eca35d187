// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kld {

using Argv = std::vector<std::string>;

struct ProcessResult {
  int status = 0;  ///< exit status; 128+signal when a signal ended it
  std::string out;
  std::string err;
};

struct ProcessOptions {
  std::chrono::milliseconds limit = std::chrono::minutes(2);
  std::string input;
  /// Descriptors that become its standard input and output instead; -1: `input`, and collected. The caller's to close.
  int input_fd = -1;
  int output_fd = -1;
  /// Further descriptors that stay open in it, under the same numbers.
  std::vector<int> kept_fds = {};
  /// Called when it has been started.
  std::function<void()> on_start = {};
  /// Called with each piece of standard output as it comes (which is then not collected).
  std::function<void(std::string_view)> on_output;
  /// Asked a few times a second; true ends the process and throws Interrupted.
  std::function<bool()> stop;
  /// It is killed when the calling thread ends, however that ends: what writes for long must not outlive us.
  bool dies_with_us = false;
};

/// Runs a program: no shell, LC_ALL=C, standard input from `input`. Throws Error when it cannot be started
/// or passes its limit; a status other than 0 is the caller's to judge.
ProcessResult run_process(const Argv& argv, const ProcessOptions& options = {});

/// The same, but a status other than 0 is an Error with the program's own words.
std::string run_checked(const Argv& argv, const ProcessOptions& options = {});

/// While it lives, programs that have no `stop` of their own end when this one says so: for what looks and changes
/// nothing. One at a time; no other thread may be running programs when it begins or ends.
class Interruptible {
 public:
  explicit Interruptible(std::function<bool()> stop);
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
};

/// As one would type it: words that need it in single quotes.
std::string shell_line(const Argv& argv);

}  // namespace kld
