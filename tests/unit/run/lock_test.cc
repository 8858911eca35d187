// SPDX-License-Identifier: Apache-2.0
#include "run/lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <future>
#include <optional>

#include "base/error.h"
#include "base/process.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class LockTest : public testing::Test {
 protected:
  LockTest() {
    std::string name = testing::TempDir() + "lock-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~LockTest() override { std::filesystem::remove_all(directory_); }

  Locks take(const std::map<std::string, Lock>& wanted, std::chrono::milliseconds patience = 0ms) const {
    return Locks::take(wanted, patience, directory_ + "/lock");
  }
  bool can_take(const std::map<std::string, Lock>& wanted) const {
    try {
      take(wanted);
      return true;
    } catch (const Refused&) {
      return false;
    }
  }

  /// A process that takes these locks and keeps them; returns once it has them.
  pid_t holder(const std::map<std::string, Lock>& wanted, std::chrono::milliseconds keep = 1h) const {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const auto locks = take(wanted);
      EXPECT_EQ(::write(ready[1], "x", 1), 1);
      ::usleep(static_cast<useconds_t>(std::chrono::microseconds(keep).count()));
      ::_exit(0);
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
    return child;
  }
  static void end(pid_t child) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }

  std::string directory_;
};

TEST_F(LockTest, SharedOnesDoNotExcludeEachOther) {
  const auto first = take({{"golden", Lock::shared}});
  EXPECT_TRUE(can_take({{"golden", Lock::shared}}));
  EXPECT_FALSE(can_take({{"golden", Lock::exclusive}}));
}

TEST_F(LockTest, ExclusiveOnesExcludeAll) {
  const auto first = take({{"web", Lock::exclusive}});
  EXPECT_FALSE(can_take({{"web", Lock::shared}}));
  EXPECT_FALSE(can_take({{"web", Lock::exclusive}}));
  EXPECT_TRUE(can_take({{"mail", Lock::exclusive}}));
}

TEST_F(LockTest, AreGoneWithTheirOwner) {
  { const auto first = take({{"web", Lock::exclusive}}); }
  EXPECT_TRUE(can_take({{"web", Lock::exclusive}}));
  auto first = take({{"web", Lock::exclusive}});
  Locks moved = std::move(first);
  EXPECT_FALSE(can_take({{"web", Lock::shared}}));
  moved = Locks();
  EXPECT_TRUE(can_take({{"web", Lock::exclusive}}));
}

TEST_F(LockTest, AreGoneWithTheirProcess) {
  const pid_t child = holder({{"web", Lock::exclusive}});
  EXPECT_FALSE(can_take({{"web", Lock::shared}}));
  end(child);
  EXPECT_TRUE(can_take({{"web", Lock::exclusive}}));
}

TEST_F(LockTest, ARefusalLeavesNothingLocked) {
  const auto first = take({{"web", Lock::exclusive}});
  EXPECT_FALSE(can_take({{"mail", Lock::exclusive}, {"web", Lock::exclusive}}));
  EXPECT_TRUE(can_take({{"mail", Lock::exclusive}}));
}

TEST_F(LockTest, TheRefusalNamesWhoIsInTheWay) {
  const pid_t child = holder({{"web", Lock::exclusive}});
  try {
    take({{"web", Lock::exclusive}});
    ADD_FAILURE() << "was not refused";
  } catch (const Refused& refused) {
    EXPECT_EQ(refused.refusal().kind, "locked");
    EXPECT_EQ(refused.exit(), Exit::refused);
    EXPECT_NE(refused.message().find("'web'"), std::string::npos);
    ASSERT_EQ(refused.refusal().evidence.size(), 1U);
    const auto& evidence = refused.refusal().evidence[0];
    EXPECT_EQ(evidence.rfind("pid " + std::to_string(child) + ": ", 0), 0U) << evidence;
    EXPECT_NE(evidence.find("unit"), std::string::npos) << "its command line: " << evidence;
  }
  end(child);
}

TEST_F(LockTest, TheRefusalNamesAllWhoShare) {
  const pid_t one = holder({{"web", Lock::shared}});
  const pid_t two = holder({{"web", Lock::shared}});
  try {
    take({{"web", Lock::exclusive}});
    ADD_FAILURE() << "was not refused";
  } catch (const Refused& refused) {
    EXPECT_EQ(refused.refusal().evidence.size(), 2U);
  }
  end(one);
  end(two);
}

TEST_F(LockTest, WaitsAsLongAsItIsTold) {
  const pid_t child = holder({{"web", Lock::exclusive}});
  const auto start = Clock::now();
  EXPECT_THROW(take({{"web", Lock::shared}}, 300ms), Refused);
  EXPECT_GE(Clock::now() - start, 300ms);
  EXPECT_LT(Clock::now() - start, 10s);
  end(child);
}

TEST_F(LockTest, TheWaitIsOneForAll) {
  const pid_t one = holder({{"a", Lock::exclusive}}, 200ms);
  const pid_t two = holder({{"b", Lock::exclusive}});
  const auto start = Clock::now();
  EXPECT_THROW(take({{"a", Lock::exclusive}, {"b", Lock::exclusive}}, 400ms), Refused);
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_GE(Clock::now() - start, 400ms);
  end(one);
  end(two);
}

TEST_F(LockTest, TakesItWhenTheOtherEnds) {
  const pid_t child = holder({{"web", Lock::exclusive}}, 300ms);
  EXPECT_NO_THROW(take({{"web", Lock::exclusive}}, 30s));
  end(child);
}

TEST_F(LockTest, ACommandRunsOnce) {
  const auto first = Locks::take_command("kvm-snapshot", 0ms, directory_ + "/lock");
  try {
    Locks::take_command("kvm-snapshot", 0ms, directory_ + "/lock");
    ADD_FAILURE() << "taken twice";
  } catch (const Refused& refused) {
    EXPECT_EQ(refused.refusal().kind, "locked");
    EXPECT_EQ(refused.message(), "another 'kvm-snapshot' is running");
    EXPECT_EQ(refused.refusal().evidence.size(), 1U);
  }
  EXPECT_NO_THROW(Locks::take_command("other", 0ms, directory_ + "/lock"));
  EXPECT_NO_THROW(take({{"kvm-snapshot", Lock::exclusive}})) << "a machine of that name";
}

TEST_F(LockTest, NothingWantedIsNothingTaken) { EXPECT_NO_THROW(take({})); }

TEST_F(LockTest, ClaimsOnSnapshotsExcludeEachOtherByName) {
  const auto directory = directory_ + "/lock";
  SnapshotClaims maker(directory);
  EXPECT_TRUE(maker.take("golden", "clone-1", Lock::exclusive));
  SnapshotClaims other(directory);
  EXPECT_FALSE(other.take("golden", "clone-1", Lock::exclusive));
  EXPECT_FALSE(other.take("golden", "clone-1", Lock::shared));
  EXPECT_TRUE(other.take("golden", "clone-2", Lock::exclusive));
  EXPECT_TRUE(other.take("web", "clone-1", Lock::exclusive));
}

TEST_F(LockTest, ClaimsOfReadersGoTogether) {
  const auto directory = directory_ + "/lock";
  SnapshotClaims one(directory);
  SnapshotClaims two(directory);
  EXPECT_TRUE(one.take("golden", "clone-1", Lock::shared));
  EXPECT_TRUE(two.take("golden", "clone-1", Lock::shared));
  SnapshotClaims destroyer(directory);
  EXPECT_FALSE(destroyer.take("golden", "clone-1", Lock::exclusive));
}

TEST_F(LockTest, ClaimsEndWithTheirOwner) {
  const auto directory = directory_ + "/lock";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    SnapshotClaims claims(directory);
    if (claims.take("golden", "s", Lock::exclusive) && ::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_FALSE(SnapshotClaims(directory).take("golden", "s", Lock::shared));
  end(child);
  SnapshotClaims after(directory);
  EXPECT_TRUE(after.take("golden", "s", Lock::exclusive));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(LockTest, WhatAProcessStartedHoldsItsLocks) {
  auto locks = std::make_optional(take({{"web", Lock::exclusive}}));
  // Not whatever it starts, only what it gives them to.
  EXPECT_EQ(run_process({"sh", "-c", "ls -l /proc/$$/fd"}).out.find(directory_), std::string::npos);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ProcessOptions options;
  options.input_fd = ends[0];
  options.kept_fds = locks->descriptors();
  auto started = std::async(std::launch::async, [&] { return run_process({"cat"}, options).status; });
  const auto has_started = [] {
    return run_process({"pgrep", "-P", std::to_string(::getpid()), "-x", "cat"}).status == 0;
  };
  for (int tries = 0; tries < 200 && !has_started(); ++tries) ::usleep(10'000);
  locks.reset();
  try {
    take({{"web", Lock::exclusive}});
    ADD_FAILURE() << "it is locked";
  } catch (const Refused& refused) {
    ASSERT_EQ(refused.refusal().evidence.size(), 1U);
    EXPECT_TRUE(refused.refusal().evidence[0].ends_with(": cat")) << refused.refusal().evidence[0];
  }
  ::close(ends[1]);
  EXPECT_EQ(started.get(), 0);
  EXPECT_TRUE(can_take({{"web", Lock::exclusive}}));
  ::close(ends[0]);
}

}  // namespace
}  // namespace kld::run
