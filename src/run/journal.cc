// SPDX-License-Identifier: Apache-2.0
#include "run/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "plan/recovery.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Error failure(const std::string& doing, const std::string& path) {
  return Error(fmt::format("cannot {} journal '{}': {}", doing, path, std::strerror(errno)));
}

/// Whole or not at all: half a line would spoil the next one.
void write_line(int fd, const std::string& path, const std::string& line, bool synced = true) {
  struct stat before {};
  if (::fstat(fd, &before) != 0) throw failure("look at", path);
  std::size_t written = 0;
  while (written < line.size()) {
    const ssize_t sent = ::write(fd, line.data() + written, line.size() - written);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) {
      const auto problem = failure("write", path);
      (void)!::ftruncate(fd, before.st_size);
      throw problem;
    }
    written += static_cast<std::size_t>(sent);
  }
  // On its way to the disk in any case: after a power cut the journal says as much as it can.
  if (!synced) (void)::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  if (synced && ::fdatasync(fd) != 0) throw failure("sync", path);
}

void sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

/// A new file with our lock on it, so that no sweep takes it for left over.
int create_locked(const std::string& path) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) throw failure("create", path);
    struct stat status {};
    if (::flock(fd, LOCK_EX) != 0 || ::fstat(fd, &status) != 0) {
      const auto problem = failure("lock", path);
      ::close(fd);
      throw problem;
    }
    if (status.st_nlink > 0) return fd;
    ::close(fd);  // swept away between our two calls
  }
}

/// What died before its header was whole has begun nothing.
void sweep(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  // Unlocked, it is nobody's: who made it has died, or has given it its name, and then this one is gone.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  ::close(fd);
}

/// Marks it as done, then removes it: on disk before the name goes, so that a file that outlives this (a directory that
/// cannot be written, a host root that is rolled back to now) gives nobody the right to undo what is finished. One of
/// the two is enough.
void end_entry(int fd, const std::string& path) {
  bool marked = true;
  try {
    write_line(fd, path, "{\"done\":true}\n");
  } catch (const Error&) {
    marked = false;  // a full disk: the name can go all the same
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && !marked) throw failure("remove", path);
  if (!marked) sync_directory(fs::path(path).parent_path());
}

std::string undone_line(std::size_t step) {
  return Json{{"undone", step}, {"boot_id", current_boot_id()}}.dump() + "\n";
}

Json header(const plan::Plan& plan) {
  Json steps = Json::array();
  for (const auto& step : plan.steps) steps.push_back(plan::to_json(step));
  return {{"version", 1},
          {"operation", plan.operation},
          {"op", plan.op},
          {"machines", plan.machines},
          {"root", plan.root},
          {"uri", plan.uri},
          {"commit", plan.commit},
          {"started", static_cast<std::int64_t>(std::time(nullptr))},
          {"boot_id", current_boot_id()},
          {"steps", std::move(steps)}};
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

Journal Journal::open(const plan::Plan& plan, const std::string& directory) {
  fs::create_directories(directory);
  ::chmod(directory.c_str(), 0700);
  const std::string path = fmt::format("{}/{}.json", directory, plan.op);
  // Under another name until it is whole and locked: who looks for what died never meets half an entry of one who
  // lives. (A nameless file would cost a transaction group on a ZFS root.)
  const std::string unready = path + ".new";
  const std::string first = header(plan).dump() + "\n";
  const int fd = create_locked(unready);
  Journal journal(fd, path, plan::synced_notes(plan));
  try {
    write_line(fd, path, first);
    if (::rename(unready.c_str(), path.c_str()) != 0) throw failure("create", path);
  } catch (const Error&) {
    ::unlink(unready.c_str());
    throw;
  }
  sync_directory(directory);
  return journal;
}

Journal::Journal(Journal&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), synced_(std::move(other.synced_)) {}

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

void Journal::begin(std::size_t step) {
  write_line(fd_, path_, fmt::format("{{\"begin\":{}}}\n", step), synced_.at(step));
}

void Journal::begin_undo() { write_line(fd_, path_, "{\"undo\":true}\n"); }

void Journal::undone(std::size_t step) { write_line(fd_, path_, undone_line(step), false); }

void Journal::close() { end_entry(fd_, path_); }

OpenEntry::OpenEntry(OpenEntry&& other) noexcept
    : plan(std::move(other.plan)),
      begun(other.begun),
      undoing(other.undoing),
      undone(std::move(other.undone)),
      boot_id(std::move(other.boot_id)),
      started(other.started),
      done(other.done),
      problem(std::move(other.problem)),
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
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

OpenEntry::~OpenEntry() {
  if (fd_ >= 0) ::close(fd_);
}

void OpenEntry::begin_undo() {
  write_line(fd_, path_, "{\"undo\":true}\n");
  undoing = true;
}

void OpenEntry::note_undone(std::size_t step) {
  write_line(fd_, path_, undone_line(step), false);
  undone.insert(step);
}

void OpenEntry::remove() { end_entry(fd_, path_); }

std::optional<OpenEntry> claim_entry(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::nullopt;
    throw failure("open", path);
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

std::string current_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

UnixTime boot_time() {
  std::ifstream file("/proc/stat");
  std::string word;
  for (std::int64_t value = 0; file >> word;) {
    if (word == "btime" && file >> value) return value;
  }
  return 0;
}

}  // namespace kld::run
