// SPDX-License-Identifier: Apache-2.0
#include "run/lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "run/interrupt.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

/// The first words of a process: the rest may hold secrets, and nothing of it may reach a terminal raw.
std::string command_line(const std::string& pid) {
  constexpr std::size_t kWords = 3;
  std::ifstream file(fmt::format("/proc/{}/cmdline", pid));
  std::string line;
  std::string word;
  for (std::size_t i = 0; i < kWords && std::getline(file, word, '\0'); ++i) line += (i == 0 ? "" : " ") + word;
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return std::getline(file, word, '\0') ? line + " ..." : line;
}

/// Who holds a flock on this file: all processes that have an open file with the lock on it, not only the one that took
/// it, which /proc/locks names and which may have ended.
std::vector<std::string> lock_holders(int fd) {
  // What the server of a file would have to be asked for is not asked: it may be gone.
  constexpr int kHow = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  struct statx wanted {};
  std::vector<std::string> holders;
  if (::statx(fd, "", kHow | AT_EMPTY_PATH, STATX_INO, &wanted) != 0) return holders;
  std::error_code ignored;
  for (const auto& process : fs::directory_iterator("/proc", ignored)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    for (const auto& open_file : fs::directory_iterator(process.path() / "fd", gone)) {
      struct statx status {};
      if (::statx(AT_FDCWD, open_file.path().c_str(), kHow, STATX_INO, &status) != 0 ||
          status.stx_dev_major != wanted.stx_dev_major || status.stx_dev_minor != wanted.stx_dev_minor ||
          status.stx_ino != wanted.stx_ino) {
        continue;
      }
      // "lock:\t1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF", of this open file alone.
      std::ifstream about(process.path() / "fdinfo" / open_file.path().filename());
      const std::string text{std::istreambuf_iterator<char>(about), {}};
      if (text.find("FLOCK") == std::string::npos) continue;
      holders.push_back(fmt::format("pid {}: {}", pid, command_line(pid)));
      break;
    }
  }
  return holders;
}

/// A file in the directory itself, whatever a user took for a machine's name. Long ones may share a lock.
std::string file_name(const std::string& name) {
  std::string file = name.empty() || name[0] == '.' ? "%" : "";
  for (const char letter : name.substr(0, 200)) file += letter == '/' ? '%' : letter;
  return file;
}

int open_lock(const std::string& directory, const std::string& name) {
  std::error_code ignored;
  fs::create_directories(directory, ignored);
  const std::string path = fmt::format("{}/{}", directory, file_name(name));
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) throw Error(fmt::format("cannot open lock '{}': {}", path, std::strerror(errno)));
  return fd;
}

}  // namespace

namespace {

using Clock = std::chrono::steady_clock;

/// Waits for the lock until the deadline, then throws Refused with this message.
void take_lock(int fd, Lock kind, Clock::time_point deadline, const std::string& what, const std::string& taken) {
  while (::flock(fd, (kind == Lock::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      throw Error(fmt::format("cannot lock {}: {}", what, std::strerror(errno)));
    }
    if (interrupted()) throw Interrupted();
    if (Clock::now() >= deadline) {
      throw Refused({"locked", taken, lock_holders(fd), "try again when it has ended"});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

Locks Locks::take(const std::map<std::string, Lock>& wanted, std::chrono::milliseconds patience,
                  const std::string& directory) {
  const auto deadline = Clock::now() + patience;
  Locks locks;
  for (const auto& [name, kind] : wanted) {
    locks.fds_.push_back(open_lock(directory, name));
    take_lock(locks.fds_.back(), kind, deadline, fmt::format("machine '{}'", name),
              fmt::format("another command works on machine '{}'", name));
  }
  return locks;
}

Locks Locks::take_command(const std::string& command, std::chrono::milliseconds patience,
                          const std::string& directory) {
  Locks locks;
  // No machine's name begins with a dot.
  locks.fds_.push_back(open_lock(directory, "." + command));
  take_lock(locks.fds_.back(), Lock::exclusive, Clock::now() + patience, fmt::format("'{}'", command),
            fmt::format("another '{}' is running", command));
  return locks;
}

void Locks::expect_many() {
  struct rlimit files {};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  // It was enough so far: whoever meets the limit says so.
  ::setrlimit(RLIMIT_NOFILE, &files);
}

Locks::Locks(Locks&& other) noexcept : fds_(std::move(other.fds_)) { other.fds_.clear(); }

Locks& Locks::operator=(Locks&& other) noexcept {
  std::swap(fds_, other.fds_);
  return *this;
}

Locks::~Locks() {
  for (const int fd : fds_) ::close(fd);
}

SnapshotClaims::~SnapshotClaims() {
  for (const auto& [machine, fd] : fds_) ::close(fd);
}

bool SnapshotClaims::take(const std::string& machine, const std::string& snapshot, Lock kind) {
  // No machine's name holds '@'.
  if (!fds_.contains(machine)) fds_[machine] = open_lock(directory_, machine + "@");
  // Each name is one byte of a file that stays empty; two names on one byte only exclude each other needlessly.
  constexpr std::size_t kNames = std::size_t{1} << 62U;
  struct flock name {};
  name.l_type = kind == Lock::shared ? F_RDLCK : F_WRLCK;
  name.l_whence = SEEK_SET;
  name.l_start = static_cast<off_t>(std::hash<std::string>()(snapshot) % kNames);
  name.l_len = 1;
  // Of the open file, not of the process: two in one process exclude each other, too.
  if (::fcntl(fds_[machine], F_OFD_SETLK, &name) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw Error(fmt::format("cannot lock snapshot names of machine '{}': {}", machine, std::strerror(errno)));
}

}  // namespace kld::run
