// SPDX-License-Identifier: Apache-2.0
#include "run/open_entry.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <utility>

#include "run/journal_file.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// What died before its header was whole has begun nothing.
void sweep(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  // Unlocked, it is nobody's: who made it has died, or has given it its name, and then this one is gone.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  ::close(fd);
}

void read_header(const std::string& line, OpenEntry& entry) {
  const Json json = Json::parse(line);
  // First, so that also an entry that cannot be read further says whom it concerns.
  entry.plan.machines = json.at("machines").get<std::vector<std::string>>();
  if (json.at("version").get<int>() != 1) throw Error("it was written by another version of this program");
  entry.plan.operation = json.at("operation").get<std::string>();
  entry.plan.op = json.at("op").get<std::string>();
  entry.plan.root = json.at("root").get<std::string>();
  entry.plan.uri = json.at("uri").get<std::string>();
  entry.plan.commit = json.at("commit").get<std::size_t>();
  entry.started = json.at("started").get<std::int64_t>();
  entry.boot_id = json.at("boot_id").get<std::string>();
  for (const auto& step : json.at("steps")) entry.plan.steps.push_back(plan::step_from_json(step));
}

}  // namespace

// A line without its newline was cut off while being written: its step never began.
void read_entry(OpenEntry& entry) {
  std::ifstream file(entry.path(), std::ios::binary);
  std::stringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  std::size_t start = 0;
  bool first = true;
  for (std::size_t end = text.find('\n'); end != std::string::npos; start = end + 1, end = text.find('\n', start)) {
    const std::string line = text.substr(start, end - start);
    try {
      if (first) {
        read_header(line, entry);
      } else {
        const Json json = Json::parse(line);
        entry.done = json.value("done", false);
        if (entry.done) return;
        if (json.value("undo", false)) {
          entry.undoing = true;
          continue;
        }
        if (json.contains("undone")) {
          // What was mounted or ran in an earlier life of the host is not any more.
          if (json.at("boot_id") == current_boot_id()) entry.undone.insert(json.at("undone").get<std::size_t>());
          continue;
        }
        entry.begun = json.at("begin").get<std::size_t>();
        if (*entry.begun >= entry.plan.steps.size()) throw Error("it names a step that the plan does not have");
      }
    } catch (const std::exception& problem) {
      entry.problem = problem.what();
      return;
    }
    first = false;
  }
}

OpenEntry::OpenEntry(OpenEntry&& other) noexcept
    : plan(std::move(other.plan)),
      begun(other.begun),
      undoing(other.undoing),
      undone(std::move(other.undone)),
      boot_id(std::move(other.boot_id)),
      started(other.started),
      done(other.done),
      problem(std::move(other.problem)),
      alive(other.alive),
      fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)) {}

OpenEntry& OpenEntry::operator=(OpenEntry&& other) noexcept {
  plan = std::move(other.plan);
  begun = other.begun;
  undoing = other.undoing;
  undone = std::move(other.undone);
  boot_id = std::move(other.boot_id);
  started = other.started;
  done = other.done;
  problem = std::move(other.problem);
  alive = other.alive;
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

OpenEntry::~OpenEntry() {
  if (fd_ >= 0) ::close(fd_);
}

void OpenEntry::begin_undo() {
  write_line(fd_, path_, kUndoLine);
  undoing = true;
}

void OpenEntry::note_undone(std::size_t step) {
  write_line(fd_, path_, undone_line(step), false);
  undone.insert(step);
}

void OpenEntry::note_begun(std::size_t step) {
  write_line(fd_, path_, begin_line(step), false);
  begun = step;
}

void OpenEntry::remove() { end_entry(fd_, path_); }

std::optional<OpenEntry> claim_entry(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::nullopt;
    throw journal_failure("open", path);
  }
  OpenEntry entry(fd, path);
  // Not for long: its own process is gone, and others only look.
  for (int tries = 0; ::flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (tries >= 100) throw Error(fmt::format("journal '{}' is in use", path));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  struct stat status {};
  if (::fstat(fd, &status) != 0 || status.st_nlink == 0) return std::nullopt;
  read_entry(entry);
  return entry;
}

std::vector<OpenEntry> all_entries(const std::string& directory) {
  std::vector<OpenEntry> entries;
  std::error_code none;
  for (const auto& file : fs::directory_iterator(directory, none)) {
    if (file.path().extension() != ".json") continue;
    const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    OpenEntry entry(fd, file.path());
    entry.alive = ::flock(fd, LOCK_SH | LOCK_NB) != 0;
    struct stat status {};
    if (::fstat(fd, &status) != 0 || status.st_nlink == 0) continue;
    read_entry(entry);
    if (!entry.done) entries.push_back(std::move(entry));
  }
  return entries;
}

std::vector<OpenEntry> open_entries(const std::string& directory) {
  std::vector<OpenEntry> entries;
  std::error_code none;
  for (const auto& file : fs::directory_iterator(directory, none)) {
    if (file.path().extension() == ".new") sweep(file.path());
    if (file.path().extension() != ".json") continue;
    const int fd = ::open(file.path().c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd < 0) continue;
    OpenEntry entry(fd, file.path());
    if (::flock(fd, LOCK_SH | LOCK_NB) != 0) continue;  // its process lives, or somebody recovers it
    struct stat status {};
    if (::fstat(fd, &status) != 0 || status.st_nlink == 0) continue;  // it ended between our look and our lock
    read_entry(entry);
    if (entry.done) {
      entry.remove();
      continue;
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const OpenEntry& a, const OpenEntry& b) {
    return a.started != b.started ? a.started < b.started : a.path() < b.path();
  });
  return entries;
}

}  // namespace kld::run
