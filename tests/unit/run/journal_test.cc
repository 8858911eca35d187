// SPDX-License-Identifier: Apache-2.0
#include "run/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "run/open_entry.h"
#include "run/recover.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

class JournalTest : public testing::Test {
 protected:
  JournalTest() {
    std::string name = testing::TempDir() + "journal-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~JournalTest() override { fs::remove_all(directory_); }

  static plan::Plan plan(const std::string& op = "op-1") {
    plan::Plan plan{"clone", op, {"golden", "web"}, {}, 2, {}};
    plan.steps = {plan::CreateFilesystem{"rpool/vms/.state/web", {{"com.kldload:op", op}}},
                  plan::WriteFiles{{{"/s/web/domain.xml", "<domain>\n\t\"ä\" \\ </domain>\n", true, "<old/>\n"}}},
                  plan::DestroyDatasets{{{"rpool/vms/web", 18446744073709551615ULL, ""}}}};
    return plan;
  }

  Journal open(const plan::Plan& plan) const { return Journal::open(plan, directory_); }
  std::vector<OpenEntry> entries() const { return open_entries(directory_); }
  std::vector<Recovered> recover_all(Runner& runner) const {
    std::vector<Recovered> results;
    for (auto& entry : open_entries(directory_)) results.push_back(recover_one(entry, runner, {}));
    return results;
  }
  std::string path(const std::string& op = "op-1") const { return directory_ + "/" + op + ".json"; }
  std::string text() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& text, const std::string& op = "op-1") const {
    std::ofstream(path(op), std::ios::binary) << text;
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }

  std::string directory_;
};

TEST_F(JournalTest, HoldsThePlanAndTheLastStepThatBegan) {
  const auto before = std::time(nullptr);
  {
    auto journal = open(plan());
    journal.begin(0);
    journal.begin(1);
  }
  const auto found = entries();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].problem, "");
  EXPECT_EQ(found[0].plan, plan());
  EXPECT_EQ(found[0].begun, 1U);
  EXPECT_EQ(found[0].boot_id, current_boot_id());
  EXPECT_GE(found[0].started, before);
  EXPECT_LE(found[0].started, std::time(nullptr));
  EXPECT_EQ(found[0].path(), path());
  EXPECT_FALSE(found[0].committed()) << "the commit point is step 2";
}

TEST_F(JournalTest, OpenedOnlyNothingBegan) {
  { const auto journal = open(plan()); }
  const auto found = entries();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].plan, plan());
  EXPECT_EQ(found[0].begun, std::nullopt);
}

TEST_F(JournalTest, IsPrivate) {
  const auto journal = open(plan());
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  ASSERT_EQ(::stat(directory_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
}

TEST_F(JournalTest, ClosedLeavesNothing) {
  auto journal = open(plan());
  journal.begin(0);
  journal.close();
  EXPECT_EQ(files(), 0U);
  EXPECT_TRUE(entries().empty());
}

TEST_F(JournalTest, OfALivingProcessIsNotTouched) {
  auto journal = open(plan());
  journal.begin(0);
  EXPECT_TRUE(entries().empty());
  EXPECT_EQ(files(), 1U);
}

TEST_F(JournalTest, OfADeadProcessIsFound) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto journal = open(plan());
    journal.begin(1);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const auto found = entries();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].begun, 1U);
}

TEST_F(JournalTest, IsRecoveredByOneAtATime) {
  { open(plan()).begin(0); }
  {
    const auto looking = entries();
    EXPECT_EQ(looking.size(), 1U);
    EXPECT_EQ(entries().size(), 1U) << "who only looks is in nobody's way";
  }
  const auto mine = claim_entry(path());
  ASSERT_TRUE(mine);
  EXPECT_TRUE(entries().empty()) << "locked by whom recovers it";
  EXPECT_EQ(claim_entry(path("none")), std::nullopt);
}

TEST_F(JournalTest, SaysThatItsUndoHadBegun) {
  {
    auto journal = open(plan());
    journal.begin(2);
  }
  EXPECT_TRUE(entries().at(0).committed());
  fs::remove(path());
  {
    auto journal = open(plan());
    journal.begin(2);
    journal.begin_undo();
  }
  const auto found = entries();
  EXPECT_TRUE(found.at(0).undoing);
  EXPECT_EQ(found.at(0).begun, 2U);
  EXPECT_FALSE(found.at(0).committed()) << "what was being taken back is not finished";
}

// A repeated recovery leaves these alone. In another life of the host nothing of that holds.
TEST_F(JournalTest, SaysWhatIsTakenBackAlready) {
  {
    auto journal = open(plan());
    journal.begin(2);
    journal.begin_undo();
    journal.undone(2);
    std::ofstream(path(), std::ios::app) << R"({"undone":1,"boot_id":"an earlier one"})"
                                         << "\n";
  }
  EXPECT_EQ(entries().at(0).undone, std::set<std::size_t>{2});
  auto entry = claim_entry(path());
  ASSERT_TRUE(entry);
  entry->note_undone(0);
  EXPECT_EQ(entry->undone, (std::set<std::size_t>{0, 2}));
  entry.reset();
  EXPECT_EQ(entries().at(0).undone, (std::set<std::size_t>{0, 2}));
}

// A full disk: the mark cannot be written, the name can go.
TEST_F(JournalTest, EndsWithoutRoomForItsMark) {
  auto journal = open(plan());
  journal.begin(0);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto ignored = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{fs::file_size(path()), before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &full);
  EXPECT_THROW(journal.begin(1), Error);
  // Room for half a line: what comes behind it must be read all the same.
  const auto length = fs::file_size(path());
  const rlimit tight{length + 4, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THROW(journal.begin(1), Error);
  EXPECT_EQ(fs::file_size(path()), length);
  EXPECT_NO_THROW(journal.close());
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, ignored);
  EXPECT_EQ(files(), 0U);
}

TEST_F(JournalTest, EntriesComeOldestFirst) {
  const auto at = [&](const std::string& op, int started) {
    { const auto journal = open(plan(op)); }
    std::ifstream file(path(op));
    std::string line((std::istreambuf_iterator<char>(file)), {});
    const auto from = line.find("\"started\":") + 10;
    line.replace(from, line.find_first_of(",}", from) - from, std::to_string(started));
    put(line, op);
  };
  at("a", 300);
  at("b", 100);
  at("c", 200);
  at("d", 200);
  std::vector<std::string> order;
  for (const auto& entry : entries()) order.push_back(entry.plan.op);
  EXPECT_EQ(order, (std::vector<std::string>{"b", "c", "d", "a"}));
}

// Whatever part of the file the disk has: a whole line counts, a cut one never began.
TEST_F(JournalTest, CutAnywhereIsReadUpToItsLastWholeLine) {
  {
    auto journal = open(plan());
    for (std::size_t step = 0; step < 3; ++step) journal.begin(step);
  }
  const std::string whole = text();
  const auto header = whole.find('\n') + 1;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    SCOPED_TRACE(length);
    put(whole.substr(0, length));
    const auto found = entries();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].problem, "");
    if (length < header) {
      EXPECT_TRUE(found[0].plan.steps.empty());
      EXPECT_EQ(found[0].begun, std::nullopt);
      continue;
    }
    EXPECT_EQ(found[0].plan, plan());
    const auto lines = static_cast<std::size_t>(std::count(whole.begin() + static_cast<std::ptrdiff_t>(header),
                                                           whole.begin() + static_cast<std::ptrdiff_t>(length), '\n'));
    EXPECT_EQ(found[0].begun, lines == 0 ? std::nullopt : std::optional(lines - 1));
  }
}

TEST_F(JournalTest, CutInItsHeaderIsRecoveredWithoutTouchingAnything) {
  struct Nobody : Runner {
    void run(const plan::Step& step) override { ADD_FAILURE() << plan::describe(step); }
  } nobody;
  for (const char* text : {"", "{\"commit\":1,\"mach"}) {
    put(text);
    const auto results = recover_all(nobody);
    ASSERT_EQ(results.size(), 1U);
    EXPECT_EQ(results[0].how, Recovered::How::undone);
    EXPECT_EQ(files(), 0U);
  }
}

TEST_F(JournalTest, UnreadableIsKeptAndSaidSo) {
  struct Nobody : Runner {
    void run(const plan::Step& step) override { ADD_FAILURE() << plan::describe(step); }
  } nobody;
  { open(plan()).begin(0); }
  const std::string good = text();
  const std::string header = good.substr(0, good.find('\n') + 1);
  std::string other_version = header;
  other_version.replace(other_version.find("\"version\":1"), 11, "\"version\":2");
  std::string unknown_step = header;
  unknown_step.replace(unknown_step.find("write-files"), 11, "burn-files!");
  for (const auto& text : {std::string("not json\n"), std::string("{}\n"), std::string("[]\n"), other_version,
                           unknown_step, header + "{\"begin\":3}\n", header + "{\"begin\":-1}\n",
                           header + "{\"begin\":\"0\"}\n", header + "nonsense\n", header + "{\"end\":0}\n"}) {
    SCOPED_TRACE(text);
    put(text);
    EXPECT_NE(entries().at(0).problem, "");
    const auto results = recover_all(nobody);
    ASSERT_EQ(results.size(), 1U);
    EXPECT_EQ(results[0].how, Recovered::How::failed);
    EXPECT_NE(results[0].problem.find(path()), std::string::npos) << results[0].problem;
    EXPECT_EQ(this->text(), text);
  }
}

TEST_F(JournalTest, OtherFilesAndAMissingDirectoryAreNothing) {
  std::ofstream(directory_ + "/note.txt") << "not an entry";
  EXPECT_TRUE(entries().empty());
  EXPECT_TRUE(open_entries(directory_ + "/none").empty());
}

TEST_F(JournalTest, LeftByADeathInTheHeaderIsSwept) {
  std::ofstream(directory_ + "/op-1.json.new") << "{\"version\":";
  EXPECT_TRUE(entries().empty());
  EXPECT_EQ(files(), 0U);
}

TEST_F(JournalTest, BeingMadeIsNotSwept) {
  const std::string unready = directory_ + "/op-1.json.new";
  const int fd = ::open(unready.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  EXPECT_TRUE(entries().empty());
  EXPECT_EQ(files(), 1U);
  ::close(fd);
}

TEST_F(JournalTest, ThatCannotBeMadeLeavesNothing) {
  EXPECT_THROW(Journal::open(plan("no/such"), directory_), Error);
  EXPECT_EQ(files(), 0U);
}

// Whoever recovers must never take an entry that is just being made for one of the dead.
TEST_F(JournalTest, IsNeverSeenHalfMade) {
  std::atomic<bool> stop{false};
  std::atomic<int> seen{0};
  std::thread watcher([&] {
    while (!stop) seen += static_cast<int>(open_entries(directory_).size());
  });
  for (int round = 0; round < 200; ++round) {
    auto journal = open(plan(std::to_string(round)));
    journal.begin(0);
    EXPECT_TRUE(fs::exists(path(std::to_string(round))));
    journal.close();
  }
  stop = true;
  watcher.join();
  EXPECT_EQ(seen, 0);
}

}  // namespace
}  // namespace kld::run
