// SPDX-License-Identifier: Apache-2.0
// What there is when a person looks on: style, questions, progress. On a pipe or in a file, none of it shows.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace kld {

enum class Stream { in, out, err };

bool is_terminal(Stream stream);

/// Columns of the terminal, 80 when it is none.
std::size_t terminal_width(Stream stream);

/// True on a terminal that is not "dumb", unless NO_COLOR says otherwise.
bool takes_style(Stream stream);

/// The text as it is, unless the stream takes style.
std::string bold(std::string_view text, Stream stream);
std::string dimmed(std::string_view text, Stream stream);

/// Asks "QUESTION [y/N] " on standard error. True for y or yes; false for all else, at end of file or a signal, and
/// without asking when standard input is no terminal.
bool ask(const std::string& question);

/// True for "y", "yes" in any case, blanks around.
bool is_yes(std::string_view answer);

/// "copying web  42 %  4.20G of 10.0G  512M/s  12 s left", at most `width` columns. A total of 0 is unknown.
std::string progress_line(std::string_view label, std::uint64_t done, std::uint64_t total,
                          std::chrono::milliseconds elapsed, std::size_t width);

/// One line on standard error, drawn again at most ten times a second and only on a terminal; gone at the end.
class ProgressBar {
 public:
  /// `total` in bytes; 0: unknown.
  ProgressBar(std::string label, std::uint64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `done` bytes so far.
  void update(std::uint64_t done);
  /// Clears the line. Once is enough; later updates show nothing.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  std::uint64_t total_;
  Clock::time_point start_;
  Clock::time_point next_;
  bool shown_;
  bool drawn_ = false;
};

}  // namespace kld
