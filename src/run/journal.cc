// SPDX-License-Identifier: Apache-2.0
#include "run/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "plan/recovery.h"
#include "run/journal_file.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// A new file with our lock on it, so that no sweep takes it for left over.
int create_locked(const std::string& path) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) throw journal_failure("create", path);
    struct stat status {};
    if (::flock(fd, LOCK_EX) != 0 || ::fstat(fd, &status) != 0) {
      const auto problem = journal_failure("lock", path);
      ::close(fd);
      throw problem;
    }
    if (status.st_nlink > 0) return fd;
    ::close(fd);  // swept away between our two calls
  }
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

}  // namespace

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
    if (::rename(unready.c_str(), path.c_str()) != 0) throw journal_failure("create", path);
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

void Journal::begin(std::size_t step) { write_line(fd_, path_, begin_line(step), synced_.at(step)); }

void Journal::begin_undo() { write_line(fd_, path_, kUndoLine); }

void Journal::undone(std::size_t step) { write_line(fd_, path_, undone_line(step), false); }

void Journal::close() { end_entry(fd_, path_); }

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
