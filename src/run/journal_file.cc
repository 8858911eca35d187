// SPDX-License-Identifier: Apache-2.0
#include "run/journal_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "run/journal.h"

namespace kld::run {

Error journal_failure(const std::string& doing, const std::string& path) {
  return Error(fmt::format("cannot {} journal '{}': {}", doing, path, std::strerror(errno)));
}

void write_line(int fd, const std::string& path, const std::string& line, bool synced) {
  struct stat before {};
  if (::fstat(fd, &before) != 0) throw journal_failure("look at", path);
  std::size_t written = 0;
  while (written < line.size()) {
    const ssize_t sent = ::write(fd, line.data() + written, line.size() - written);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) {
      const auto problem = journal_failure("write", path);
      (void)!::ftruncate(fd, before.st_size);
      throw problem;
    }
    written += static_cast<std::size_t>(sent);
  }
  // On its way to the disk in any case: after a power cut the journal says as much as it can.
  if (!synced) (void)::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  if (synced && ::fdatasync(fd) != 0) throw journal_failure("sync", path);
}

void sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

std::string begin_line(std::size_t step) { return fmt::format("{{\"begin\":{}}}\n", step); }

std::string undone_line(std::size_t step) {
  return nlohmann::json{{"undone", step}, {"boot_id", current_boot_id()}}.dump() + "\n";
}

void end_entry(int fd, const std::string& path) {
  bool marked = true;
  try {
    write_line(fd, path, "{\"done\":true}\n");
  } catch (const Error&) {
    marked = false;  // a full disk: the name can go all the same
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && !marked) throw journal_failure("remove", path);
  if (!marked) sync_directory(std::filesystem::path(path).parent_path());
}

}  // namespace kld::run
