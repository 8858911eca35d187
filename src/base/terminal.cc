// SPDX-License-Identifier: Apache-2.0
#include "base/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/size.h"
#include "base/table.h"

namespace kld {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);

int descriptor(Stream stream) {
  return stream == Stream::in ? STDIN_FILENO : stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
}

void write_to_terminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string styled(const char* code, std::string_view text, Stream stream) {
  return takes_style(stream) ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string duration(std::int64_t seconds) {
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
}

}  // namespace

bool is_terminal(Stream stream) { return ::isatty(descriptor(stream)) == 1; }

std::size_t terminal_width(Stream stream) {
  winsize size{};
  const bool known = ::ioctl(descriptor(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

bool takes_style(Stream stream) {
  const char* refused = std::getenv("NO_COLOR");
  const char* kind = std::getenv("TERM");
  if (refused != nullptr && *refused != '\0') return false;
  return is_terminal(stream) && kind != nullptr && std::string_view(kind) != "dumb";
}

std::string bold(std::string_view text, Stream stream) { return styled("1", text, stream); }
std::string dimmed(std::string_view text, Stream stream) { return styled("2", text, stream); }

bool ask(const std::string& question) {
  if (!is_terminal(Stream::in)) return false;
  write_to_terminal(question + " [y/N] ");
  std::string answer;
  char letter = 0;
  ssize_t got = 0;
  // Not by stdio, which would begin again after a signal.
  while ((got = ::read(STDIN_FILENO, &letter, 1)) == 1 && letter != '\n') answer += letter;
  if (got == 1) return is_yes(answer);
  write_to_terminal("\n");
  return false;
}

bool is_yes(std::string_view answer) {
  std::string word;
  for (const char letter : answer) {
    word += static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter);
  }
  const auto first = word.find_first_not_of(" \t\r");
  if (first == std::string::npos) return false;
  word = word.substr(first, word.find_last_not_of(" \t\r") - first + 1);
  return word == "y" || word == "yes";
}

std::string progress_line(std::string_view label, std::uint64_t done, std::uint64_t total,
                          std::chrono::milliseconds elapsed, std::size_t width) {
  done = total == 0 ? done : std::min(done, total);
  std::string line(label);
  if (total == 0) {
    line += "  " + format_size(done);
  } else {
    const auto percent = static_cast<int>(static_cast<double>(done) / static_cast<double>(total) * 100);
    line += fmt::format("  {} %  {} of {}", percent, format_size(done), format_size(total));
  }
  if (elapsed.count() >= 500 && done > 0) {
    const double rate = static_cast<double>(done) / static_cast<double>(elapsed.count()) * 1000;
    line += fmt::format("  {}/s", format_size(static_cast<std::uint64_t>(rate)));
    if (total > done) {
      line +=
          fmt::format("  {} left", duration(static_cast<std::int64_t>(static_cast<double>(total - done) / rate) + 1));
    }
  }
  return cut(line, width);
}

ProgressBar::ProgressBar(std::string label, std::uint64_t total)
    : label_(std::move(label)), total_(total), start_(Clock::now()), next_(start_), shown_(is_terminal(Stream::err)) {}

ProgressBar::~ProgressBar() { finish(); }

void ProgressBar::update(std::uint64_t done) {
  const auto now = Clock::now();
  if (!shown_ || now < next_) return;
  next_ = now + kRedraw;
  drawn_ = true;
  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now - start_);
  const auto width = terminal_width(Stream::err);
  write_to_terminal("\r\x1b[K" + progress_line(label_, done, total_, elapsed, width > 1 ? width - 1 : width));
}

void ProgressBar::finish() {
  if (drawn_) write_to_terminal("\r\x1b[K");
  shown_ = false;
  drawn_ = false;
}

}  // namespace kld
