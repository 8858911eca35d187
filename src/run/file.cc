// SPDX-License-Identifier: Apache-2.0
#include "run/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/time.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

Error failure(const std::string& doing, const std::string& path) {
  return Error(fmt::format("cannot {} '{}': {}", doing, path, std::strerror(errno)));
}

void sync_parent(const std::string& path) {
  const int fd = ::open(fs::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

bool write_all(int fd, const std::string& content) {
  std::size_t written = 0;
  while (written < content.size()) {
    const ssize_t sent = ::write(fd, content.data() + written, content.size() - written);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    written += static_cast<std::size_t>(sent);
  }
  return true;
}

void copy_one(const fs::path& from, const fs::path& to) {
  struct stat status {};
  if (::stat(from.c_str(), &status) != 0) throw failure("look at", from);
  std::error_code problem;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, problem);
  if (problem) throw Error(fmt::format("cannot copy '{}' to '{}': {}", from.string(), to.string(), problem.message()));
  if (::chown(to.c_str(), status.st_uid, status.st_gid) != 0) throw failure("change the owner of", to);
  ::chmod(to.c_str(), status.st_mode & 07777);
  const int fd = ::open(to.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
}

}  // namespace

std::optional<std::string> read_file(const std::string& path, std::size_t limit) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw failure("read", path);
  }
  std::string content;
  char buffer[65536];
  while (file.read(buffer, sizeof buffer) || file.gcount() > 0) {
    content.append(buffer, static_cast<std::size_t>(file.gcount()));
    if (content.size() > limit) throw Error(fmt::format("'{}' is larger than {} bytes", path, limit));
  }
  if (file.bad()) throw failure("read", path);
  return content;
}

void write_file(const std::string& path, const std::string& content, bool synced) {
  std::error_code ignored;
  const fs::path directory = fs::path(path).parent_path();
  if (!fs::exists(directory, ignored)) {
    fs::create_directory(directory, ignored);
    ::chmod(directory.c_str(), 0700);
  }
  // Not nameless (O_TMPFILE): giving it its name would cost a transaction group on ZFS.
  const std::string temporary = fmt::format("{}.{}.new", path, ::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) throw failure("write", path);
  const bool written =
      write_all(fd, content) && (!synced || ::fsync(fd) == 0) && ::rename(temporary.c_str(), path.c_str()) == 0;
  const Error error = failure("write", path);
  ::close(fd);
  if (!written) {
    ::unlink(temporary.c_str());
    throw error;
  }
  if (synced) sync_parent(path);
}

std::string written_at(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? format_utc(status.st_mtime) : std::string();
}

void sync_filesystem(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw failure("open", directory);
  const bool synced = ::syncfs(fd) == 0;
  const Error error = failure("sync", directory);
  ::close(fd);
  if (!synced) throw error;
}

void remove_unfinished(const std::string& path) {
  const fs::path file(path);
  const std::string prefix = file.filename().string() + ".";
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(file.parent_path(), none)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix) && name.ends_with(".new")) remove_file(entry.path());
  }
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) throw failure("remove", path);
}

void copy_files(const std::string& from, const std::string& to) {
  std::error_code problem;
  if (!fs::exists(from, problem)) return;
  if (!fs::is_directory(from, problem)) {
    copy_one(from, to);
    return;
  }
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    const fs::path target = fs::path(to) / fs::relative(entry.path(), from);
    if (entry.is_directory()) {
      struct stat status {};
      ::stat(entry.path().c_str(), &status);
      fs::create_directories(target);
      if (::chown(target.c_str(), status.st_uid, status.st_gid) != 0) throw failure("change the owner of", target);
      ::chmod(target.c_str(), status.st_mode & 07777);
    } else if (entry.is_regular_file()) {
      copy_one(entry.path(), target);
    }
  }
}

void move_aside(const std::string& from, const std::string& to) {
  std::error_code problem;
  const bool source = fs::exists(from, problem);
  const bool target = fs::exists(to, problem);
  if (!source) return;
  // An empty directory in the way is a mount point that was made and is not used.
  if (target && !(fs::is_directory(to, problem) && fs::is_empty(to, problem))) {
    throw Error(fmt::format("cannot move '{}' aside: '{}' exists", from, to));
  }
  if (target) fs::remove(to, problem);
  if (::rename(from.c_str(), to.c_str()) != 0) throw failure("move aside", from);
  sync_parent(to);
}

}  // namespace kld::run
