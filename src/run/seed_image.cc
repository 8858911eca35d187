// SPDX-License-Identifier: Apache-2.0
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/library.h"
#include "run/file.h"

namespace kld::run {
namespace {

#define KLD_ARCHIVE_FUNCTIONS(X)      \
  X(archive_entry_free)               \
  X(archive_entry_new)                \
  X(archive_entry_set_filetype)       \
  X(archive_entry_set_pathname)       \
  X(archive_entry_set_perm)           \
  X(archive_entry_set_size)           \
  X(archive_error_string)             \
  X(archive_write_close)              \
  X(archive_write_data)               \
  X(archive_write_free)               \
  X(archive_write_header)             \
  X(archive_write_new)                \
  X(archive_write_open_fd)            \
  X(archive_write_set_format_iso9660) \
  X(archive_write_set_options)

KLD_LIBRARY(Api, KLD_ARCHIVE_FUNCTIONS)

const Api& api() {
  static const Api loaded = load_Api({"libarchive.so.13", "libarchive13"});
  return loaded;
}

struct FreeArchive {
  void operator()(archive* handle) const { api().archive_write_free(handle); }
};
struct FreeEntry {
  void operator()(archive_entry* entry) const { api().archive_entry_free(entry); }
};

struct Closer {
  int fd;
  ~Closer() { ::close(fd); }
};

void check(archive* handle, int result, const std::string& path) {
  if (result < ARCHIVE_WARN) {
    throw Error(fmt::format("cannot write seed '{}': {}", path, api().archive_error_string(handle)));
  }
}

}  // namespace

void write_seed(const std::string& path, const std::map<std::string, std::string>& documents) {
  const std::string temporary = fmt::format("{}.{}.new", path, ::getpid());
  const std::unique_ptr<archive, FreeArchive> iso(api().archive_write_new());
  archive* handle = iso.get();
  check(handle, api().archive_write_set_format_iso9660(handle), path);
  // cloud-init looks for this volume name. No boot catalogue, no compression: a plain data image.
  check(handle, api().archive_write_set_options(handle, "iso9660:volume-id=cidata,iso9660:publisher=kld,pad=1"), path);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) throw Error(fmt::format("cannot write seed '{}': {}", path, std::strerror(errno)));
  const Closer closer{fd};
  check(handle, api().archive_write_open_fd(handle, fd), path);
  for (const auto& [name, content] : documents) {
    const std::unique_ptr<archive_entry, FreeEntry> entry(api().archive_entry_new());
    api().archive_entry_set_pathname(entry.get(), name.c_str());
    api().archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
    api().archive_entry_set_filetype(entry.get(), AE_IFREG);
    api().archive_entry_set_perm(entry.get(), 0444);
    check(handle, api().archive_write_header(handle, entry.get()), path);
    if (api().archive_write_data(handle, content.data(), content.size()) < 0) check(handle, ARCHIVE_FATAL, path);
  }
  check(handle, api().archive_write_close(handle), path);
  if (std::rename(temporary.c_str(), path.c_str()) != 0) throw Error(fmt::format("cannot write seed '{}'", path));
}

}  // namespace kld::run
