// SPDX-License-Identifier: Apache-2.0
#include "base/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/size.h"
#include "base/table.h"

namespace kld {
namespace {

using namespace std::chrono_literals;

/// Standard input and error are a terminal while it lives; the test sits at the keyboard.
class AtTerminal {
 public:
  explicit AtTerminal(unsigned short columns = 120) {
    winsize size{24, columns, 0, 0};
    if (openpty(&keyboard_, &line_, nullptr, nullptr, &size) != 0) ADD_FAILURE() << "no pseudo-terminal";
    for (const int fd : {STDIN_FILENO, STDERR_FILENO}) {
      saved_[fd] = dup(fd);
      dup2(line_, fd);
    }
  }
  ~AtTerminal() {
    for (const int fd : {STDIN_FILENO, STDERR_FILENO}) {
      dup2(saved_[fd], fd);
      close(saved_[fd]);
    }
    close(line_);
    close(keyboard_);
  }
  AtTerminal(const AtTerminal&) = delete;
  AtTerminal& operator=(const AtTerminal&) = delete;

  void type(const std::string& keys) const {
    ASSERT_EQ(write(keyboard_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  std::string seen() const {
    fcntl(keyboard_, F_SETFL, O_NONBLOCK);
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(keyboard_, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
  }

 private:
  int keyboard_ = -1;
  int line_ = -1;
  int saved_[3] = {-1, -1, -1};
};

/// Standard input and error are a file while it lives.
class InFile {
 public:
  InFile() {
    char name[] = "/tmp/kld-terminal-XXXXXX";
    file_ = mkstemp(name);
    unlink(name);
    for (const int fd : {STDIN_FILENO, STDERR_FILENO}) {
      saved_[fd] = dup(fd);
      dup2(file_, fd);
    }
  }
  ~InFile() {
    for (const int fd : {STDIN_FILENO, STDERR_FILENO}) {
      dup2(saved_[fd], fd);
      close(saved_[fd]);
    }
    close(file_);
  }
  InFile(const InFile&) = delete;
  InFile& operator=(const InFile&) = delete;
  off_t written() const { return lseek(file_, 0, SEEK_END); }

 private:
  int file_ = -1;
  int saved_[3] = {-1, -1, -1};
};

TEST(IsYes, TakesNothingElse) {
  for (const char* answer : {"y", "Y", "yes", "YES", " yes ", "y\r"}) EXPECT_TRUE(is_yes(answer)) << answer;
  for (const char* answer : {"", " ", "n", "no", "yep", "ye", "y y", "1"}) EXPECT_FALSE(is_yes(answer)) << answer;
}

TEST(Ask, ReadsOneLineOfTheTerminal) {
  const AtTerminal terminal;
  terminal.type("yes\n");
  EXPECT_TRUE(ask("Delete web?"));
  EXPECT_NE(terminal.seen().find("Delete web? [y/N] "), std::string::npos);
  terminal.type("\n");
  EXPECT_FALSE(ask("Delete web?"));
  terminal.type("n\ny\n");
  EXPECT_FALSE(ask("Delete web?"));
  EXPECT_TRUE(ask("And mail?"));
}

TEST(Ask, IsNoAtEndOfFile) {
  const AtTerminal terminal;
  terminal.type("\x04");
  EXPECT_FALSE(ask("Delete web?"));
}

TEST(Ask, DoesNotAskWithoutATerminal) {
  const InFile file;
  EXPECT_FALSE(ask("Delete web?"));
  EXPECT_EQ(file.written(), 0);
}

TEST(Style, IsForTerminalsOnly) {
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  {
    const AtTerminal terminal(97);
    EXPECT_TRUE(is_terminal(Stream::err));
    EXPECT_EQ(terminal_width(Stream::err), 97U);
    EXPECT_EQ(dimmed("x", Stream::err), "\x1b[2mx\x1b[0m");
    EXPECT_EQ(bold("x", Stream::err), "\x1b[1mx\x1b[0m");
    setenv("NO_COLOR", "1", 1);
    EXPECT_EQ(dimmed("x", Stream::err), "x");
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    EXPECT_EQ(dimmed("x", Stream::err), "x");
    setenv("TERM", "xterm", 1);
  }
  const InFile file;
  EXPECT_FALSE(is_terminal(Stream::err));
  EXPECT_EQ(terminal_width(Stream::err), 80U);
  EXPECT_EQ(dimmed("x", Stream::err), "x");
}

TEST(ProgressLine, ShowsFractionRateAndTimeLeft) {
  EXPECT_EQ(progress_line("web", GiB, 4 * GiB, 2s, 80), "web  25 %  1.00G of 4.00G  512M/s  7 s left");
  EXPECT_EQ(progress_line("web", 0, 4 * GiB, 2s, 80), "web  0 %  0B of 4.00G");
  EXPECT_EQ(progress_line("web", 4 * GiB, 4 * GiB, 4s, 80), "web  100 %  4.00G of 4.00G  1.00G/s");
  EXPECT_EQ(progress_line("web", 5 * GiB, 4 * GiB, 100ms, 80), "web  100 %  4.00G of 4.00G");
  EXPECT_EQ(progress_line("web", GiB, 0, 2s, 80), "web  1.00G  512M/s");
  EXPECT_EQ(progress_line("web", MiB, 100 * GiB, 1s, 80), "web  0 %  1.00M of 100G  1.00M/s  28 h 26 min left");
}

TEST(ProgressLine, FitsItsWidthInWholeCharacters) {
  EXPECT_EQ(progress_line("web", GiB, 4 * GiB, 2s, 9), "web  25 %");
  EXPECT_EQ(progress_line("Grüße", GiB, 4 * GiB, 2s, 3), "Grü");
  EXPECT_EQ(progress_line("日本", GiB, 4 * GiB, 2s, 3), "日");
  EXPECT_EQ(progress_line("web", GiB, 4 * GiB, 2s, 0), "");
}

TEST(ProgressBar, DrawsSeldomAndClearsItsLine) {
  const AtTerminal terminal;
  {
    ProgressBar bar("copying", 1000);
    for (std::uint64_t done = 0; done < 1000; ++done) bar.update(done);
    bar.finish();
    bar.update(1000);
  }
  const auto text = terminal.seen();
  EXPECT_TRUE(text.starts_with("\r\x1b[Kcopying  0 %")) << text;
  EXPECT_TRUE(text.ends_with("\r\x1b[K")) << text;
  std::size_t drawn = 0;
  for (std::size_t at = 0; (at = text.find("copying", at)) != std::string::npos; ++at) ++drawn;
  EXPECT_LE(drawn, 5U);
}

TEST(ProgressBar, IsSilentWithoutATerminal) {
  const InFile file;
  {
    ProgressBar bar("copying", 1000);
    bar.update(10);
  }
  EXPECT_EQ(file.written(), 0);
}

}  // namespace
}  // namespace kld
