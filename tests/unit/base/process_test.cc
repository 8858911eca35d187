// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"

namespace kld {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST(RunProcess, GivesStatusAndBothOutputs) {
  const auto result = run_process({"sh", "-c", "printf out; printf err >&2; exit 7"});
  EXPECT_EQ(result.status, 7);
  EXPECT_EQ(result.out, "out");
  EXPECT_EQ(result.err, "err");
}

TEST(RunProcess, PassesWordsAsTheyAre) {
  const auto result = run_process({"printf", "%s|", "a b", "$HOME", "*", "'", "", "`id`"});
  EXPECT_EQ(result.out, "a b|$HOME|*|'||`id`|");
}

TEST(RunProcess, FeedsStandardInputWholeHoweverLong) {
  ProcessOptions options;
  options.input = std::string(3'000'000, 'x') + "end";
  const auto result = run_process({"cat"}, options);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, options.input);
}

TEST(RunProcess, StandardInputIsEmptyUnlessGiven) { EXPECT_EQ(run_process({"cat"}).out, ""); }

TEST(RunProcess, ReadsAndWritesDescriptorsOfTheCaller) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ProcessOptions writing;
  writing.output_fd = ends[1];
  EXPECT_EQ(run_process({"echo", "words"}, writing).out, "");
  ::close(ends[1]);
  ProcessOptions reading;
  reading.input_fd = ends[0];
  EXPECT_EQ(run_process({"cat"}, reading).out, "words\n");
  ::close(ends[0]);
}

TEST(RunProcess, AProgramThatIgnoresItsInputIsNoFailure) {
  struct sigaction ignored {};
  struct sigaction before {};
  ignored.sa_handler = SIG_IGN;  // as main sets it
  sigaction(SIGPIPE, &ignored, &before);
  ProcessOptions options;
  options.input = std::string(1'000'000, 'x');
  EXPECT_EQ(run_process({"true"}, options).status, 0);
  sigaction(SIGPIPE, &before, nullptr);
}

TEST(RunProcess, SpeaksTheCLocale) {
  setenv("LC_MESSAGES", "de_DE.UTF-8", 1);
  setenv("LANG", "de_DE.UTF-8", 1);
  const auto result = run_process({"sh", "-c", "echo $LC_ALL/$LC_MESSAGES/$LANG"});
  unsetenv("LC_MESSAGES");
  unsetenv("LANG");
  EXPECT_EQ(result.out, "C//\n");
}

TEST(RunProcess, HandsOutputOnAsItComes) {
  std::string seen;
  ProcessOptions options;
  options.on_output = [&](std::string_view piece) { seen += piece; };
  const auto result = run_process({"sh", "-c", "echo one; echo two"}, options);
  EXPECT_EQ(seen, "one\ntwo\n");
  EXPECT_EQ(result.out, "");
}

TEST(RunProcess, ReportsASignalAs128AndMore) {
  EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).status, 128 + SIGKILL);
}

TEST(RunProcess, EndsAProcessAtItsLimit) {
  const auto start = Clock::now();
  ProcessOptions options;
  options.limit = 300ms;
  try {
    run_process({"sleep", "60"}, options);
    FAIL() << "no error at the limit";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("'sleep 60' did not end within"), std::string::npos) << error.message();
    EXPECT_EQ(error.exit(), Exit::failed);
  }
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(RunProcess, EndsAProcessThatIgnoresTermAtItsLimit) {
  const auto start = Clock::now();
  ProcessOptions options;
  options.limit = 300ms;
  EXPECT_THROW(run_process({"sh", "-c", "trap '' TERM; while :; do sleep 1; done"}, options), Error);
  EXPECT_LT(Clock::now() - start, 15s);
}

TEST(RunProcess, StopsWhenAsked) {
  const auto start = Clock::now();
  ProcessOptions options;
  options.stop = [&] { return Clock::now() - start > 200ms; };
  EXPECT_THROW(run_process({"sleep", "60"}, options), Interrupted);
  EXPECT_LT(Clock::now() - start, 10s);
}

// What holds the pipe of an ended program must not hold us for longer than the limit.
TEST(RunProcess, EndsTheChildrenToo) {
  const auto directory = std::filesystem::temp_directory_path() / ("kld-process-" + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  const auto witness = directory / "alive";
  ProcessOptions options;
  options.limit = 300ms;
  EXPECT_THROW(run_process({"sh", "-c", "(sleep 2; touch " + witness.string() + ") & wait"}, options), Error);
  sleep(3);
  EXPECT_FALSE(std::filesystem::exists(witness));
  std::filesystem::remove_all(directory);
}

TEST(RunProcess, WhatWritesForLongDiesWithUs) {
  int words[2];
  ASSERT_EQ(::pipe(words), 0);
  const pid_t caller = ::fork();
  if (caller == 0) {
    ProcessOptions options;
    options.dies_with_us = true;
    options.on_output = [&](std::string_view piece) {
      if (::write(words[1], piece.data(), piece.size()) < 0) ::_exit(2);
    };
    run_process({"sh", "-c", "echo $$; exec sleep 100"}, options);
    ::_exit(1);
  }
  char text[32] = {};
  ASSERT_GT(::read(words[0], text, sizeof text - 1), 0);
  const pid_t child = std::stoi(text);
  ::kill(caller, SIGKILL);
  ::waitpid(caller, nullptr, 0);
  const std::string stat = "/proc/" + std::to_string(child) + "/stat";
  const auto lives = [&] {
    std::ifstream file(stat);
    std::string line;
    return std::getline(file, line) && line.find(") Z ") == std::string::npos;
  };
  for (int tries = 0; tries < 100 && lives(); ++tries) ::usleep(50'000);
  EXPECT_FALSE(lives());
  ::close(words[0]);
  ::close(words[1]);
}

TEST(RunProcess, AMissingProgramIsNamed) {
  try {
    run_process({"kld-no-such-program", "x"});
    FAIL() << "it ran";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "cannot run 'kld-no-such-program': No such file or directory");
  }
}

TEST(RunProcess, LeavesNoDescriptorOpen) {
  const auto count = [] {
    std::size_t open = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++open;
    return open;
  };
  run_process({"true"});
  const auto before = count();
  for (int i = 0; i < 10; ++i) run_process({"true"});
  EXPECT_THROW(run_process({"kld-no-such-program"}), Error);
  EXPECT_EQ(count(), before);
}

TEST(RunChecked, SaysTheProgramsOwnWords) {
  EXPECT_EQ(run_checked({"printf", "yes"}), "yes");
  try {
    run_checked({"sh", "-c", "echo 'dataset is busy' >&2; exit 1"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "sh -c 'echo '\\''dataset is busy'\\'' >&2; exit 1': dataset is busy");
  }
  try {
    run_checked({"false"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "false: exit status 1");
  }
}

TEST(ShellLine, QuotesWhatNeedsIt) {
  EXPECT_EQ(shell_line({"zfs", "snapshot", "-o", "com.kldload:by=hand", "rpool/vms/web@2026-04-04T14:35:00Z"}),
            "zfs snapshot -o com.kldload:by=hand rpool/vms/web@2026-04-04T14:35:00Z");
  EXPECT_EQ(shell_line({"echo", "a b", "", "it's", "$x", "a*"}), "echo 'a b' '' 'it'\\''s' '$x' 'a*'");
  EXPECT_EQ(shell_line({}), "");
}

// The quoting is right when a shell reads back the same words.
TEST(ShellLine, IsReadBackByAShell) {
  const Argv words = {"printf", "%s\\n", "a'b", "~", "x;y", "\"", "\\", "a\nb", "!", "#x", "{a,b}"};
  EXPECT_EQ(run_process({"sh", "-c", shell_line(words)}).out, run_process(words).out);
}

}  // namespace
}  // namespace kld
