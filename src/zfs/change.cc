// SPDX-License-Identifier: Apache-2.0
#include "zfs/change.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libzfs_core.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <future>
#include <mutex>
#include <new>
#include <thread>

#include "base/error.h"
#include "base/process.h"
#include "base/size.h"
#include "zfs/dataset.h"
#include "zfs/nvlist.h"

namespace kld::zfs {
namespace {

constexpr int kInterruptedTries = 10;

std::string words(int problem) {
  switch (problem) {
    case EBUSY:
      return "it is busy";
    case EEXIST:
      return "it exists already";
    case ENOENT:
      return "it does not exist";
    case EDQUOT:
      return "a quota is reached";
    case ENOSPC:
      return "the pool is out of space";
    case EROFS:
      return "the pool is read-only";
    case EACCES:
      return "its encryption key is not loaded";
    case EXDEV:
      return "the datasets lie in different pools";
    default:
      return std::strerror(problem);
  }
}

/// The one door for libzfs_core's failures.
void check(int problem, const std::string& doing) {
  if (problem == EBUSY) throw Busy(fmt::format("cannot {}: {}", doing, words(problem)));
  if (problem != 0) throw Error(fmt::format("cannot {}: {}", doing, words(problem)));
}

void open_library() {
  static std::once_flag once;
  static int problem = 0;
  std::call_once(once, [] { problem = libzfs_core_init(); });
  if (problem != 0) throw Error("ZFS is not loaded on this host", "load it with 'modprobe zfs'");
}

/// What a call's error list says, the first of it in the message.
void check_each(int problem, nvlist_t* raw_errors, const std::string& doing, const std::string& exists = {}) {
  const Nvlist errors(raw_errors);
  if (problem == 0) return;
  std::map<std::string, std::string> reasons;
  std::string message;
  nvlist_t* list = errors.get();
  for (nvpair_t* one = list == nullptr ? nullptr : nvlist_next_nvpair(list, nullptr); one != nullptr;
       one = nvlist_next_nvpair(list, one)) {
    std::int32_t reason = problem;
    const std::string name = nvpair_name(one);
    if (name == "N_MORE_ERRORS" || nvpair_value_int32(one, &reason) != 0) continue;
    reasons[name] = reason == EEXIST && !exists.empty() ? exists : words(reason);
    if (message.empty()) message = fmt::format("cannot {} '{}': {}", doing, name, reasons[name]);
  }
  if (!reasons.empty()) throw Rejected(message, std::move(reasons));
  check(problem, doing);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct PipePair {
  static std::array<int, 2> make() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw Error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
    ::fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    return ends;
  }
  PipePair() : PipePair(make()) {}
  explicit PipePair(std::array<int, 2> ends) : read_end(ends[0]), write_end(ends[1]) {}
  Descriptor read_end;
  Descriptor write_end;
};

/// Closes it at the end of a scope, also when that is left by an exception: whoever waits at the other end goes on.
class Closing {
 public:
  explicit Closing(Descriptor& end) : end_(end) {}
  ~Closing() { end_.reset(); }
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;

 private:
  Descriptor& end_;
};

/// All that comes, counted.
void pass_on(int from, int to, const CopyOptions& options) {
  std::uint64_t bytes = 0;
  while (!options.stop || !options.stop()) {
    const ssize_t moved = ::splice(from, nullptr, to, nullptr, 1 << 20, SPLICE_F_MOVE);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return;
    bytes += static_cast<std::uint64_t>(moved);
    if (options.progress) options.progress(bytes);
  }
}

/// What a program complained of; further lines are advice about its own options.
std::string first_line(const std::string& said) {
  return said.empty() ? "it did not say why" : said.substr(0, said.find('\n'));
}

}  // namespace

void create_filesystem(const std::string& name, const Properties& properties) {
  open_library();
  check(lzc_create(name.c_str(), LZC_DATSET_TYPE_ZFS, native(properties).get(), nullptr, 0),
        fmt::format("create filesystem '{}'", name));
}

void create_volume(const std::string& name, std::uint64_t size, const Properties& properties) {
  open_library();
  Properties all = properties;
  all["volsize"] = std::to_string(size);
  check(lzc_create(name.c_str(), LZC_DATSET_TYPE_ZVOL, native(all).get(), nullptr, 0),
        fmt::format("create volume '{}'", name));
}

void clone(const std::string& snapshot, const std::string& name, const Properties& properties) {
  open_library();
  check(lzc_clone(name.c_str(), snapshot.c_str(), native(properties).get()),
        fmt::format("clone '{}' as '{}'", snapshot, name));
}

void snapshot(const std::vector<std::string>& names, const Properties& user_properties) {
  open_library();
  nvlist_t* errors = nullptr;
  const int problem = lzc_snapshot(name_set(names).get(), native(user_properties).get(), &errors);
  check_each(problem, errors, "take snapshot");
}

void destroy_snapshots_if_present(const std::vector<std::string>& names) {
  if (names.empty()) return;
  open_library();
  // A signal ends the wait for this one, and then nothing is destroyed. Whoever is to stop stops between two steps.
  nvlist_t* errors = nullptr;
  int problem = EINTR;
  for (int tries = 0; problem == EINTR && tries < kInterruptedTries; ++tries) {
    if (errors != nullptr) nvlist_free(errors);
    errors = nullptr;
    problem = lzc_destroy_snaps(name_set(names).get(), B_FALSE, &errors);
  }
  check_each(problem, errors, "destroy snapshot", "it has clones");
}

std::uint64_t space_of(const std::string& first, const std::string& last) {
  open_library();
  std::uint64_t used = 0;
  return lzc_snaprange_space(first.c_str(), last.c_str(), &used) == 0 ? used : 0;
}

void destroy_if_present(const std::string& name, int busy_wait_ms) {
  open_library();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_wait_ms);
  for (;;) {
    const int problem = lzc_destroy(name.c_str());
    if (problem == 0 || problem == ENOENT) return;
    if (problem != EBUSY || std::chrono::steady_clock::now() >= deadline) {
      check(problem, fmt::format("destroy '{}'", name));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

void rename(const std::string& from, const std::string& to) {
  open_library();
  check(lzc_rename(from.c_str(), to.c_str()), fmt::format("rename '{}' to '{}'", from, to));
}

void promote(const std::string& clone) {
  open_library();
  std::array<char, ZFS_MAX_DATASET_NAME_LEN> conflict{};
  const int problem = lzc_promote(clone.c_str(), conflict.data(), static_cast<int>(conflict.size()));
  if (problem == EEXIST) {
    throw Error(
        fmt::format("cannot promote '{}': both it and its origin have a snapshot '@{}'", clone, conflict.data()));
  }
  check(problem, fmt::format("promote '{}'", clone));
}

void rollback(const std::string& dataset, const std::string& snapshot) {
  open_library();
  check(lzc_rollback_to(dataset.c_str(), snapshot.c_str()), fmt::format("roll back to '{}'", snapshot));
}

void destroy_bookmarks_if_present(const std::vector<std::string>& names) {
  if (names.empty()) return;
  open_library();
  const Nvlist set = name_set(names);
  nvlist_t* errors = nullptr;
  const int problem = lzc_destroy_bookmarks(set.get(), &errors);
  check_each(problem, errors, "destroy bookmark");
}

bool exists(const std::string& name) {
  open_library();
  errno = 0;
  if (lzc_exists(name.c_str()) == B_TRUE) return true;
  // "Cannot say" is no "no": what is taken for gone is not looked at any more.
  const int problem = errno;
  if (problem == 0 || problem == ENOENT || problem == EINVAL || problem == ENAMETOOLONG) return false;
  check(problem, fmt::format("look for '{}'", name));
  return false;
}

bool is_writable(const std::string& dataset) {
  open_library();
  const Nvlist wanted = make_nvlist();
  const auto source = dataset + "@kld-is-it-writable";
  if (nvlist_add_string(wanted.get(), (dataset + "#kld-is-it-writable").c_str(), source.c_str()) != 0) {
    throw std::bad_alloc();
  }
  nvlist_t* errors = nullptr;
  const int problem = lzc_bookmark(wanted.get(), &errors);
  const Nvlist ignored(errors);
  return problem != EROFS;
}

void sync(const std::string& pool) {
  open_library();
  const Nvlist arguments = make_nvlist();
  // "force" would wait for a group even when nothing is dirty.
  if (nvlist_add_boolean_value(arguments.get(), "force", B_FALSE) != 0) throw std::bad_alloc();
  nvlist_t* out = nullptr;
  const int problem = lzc_sync(pool.c_str(), arguments.get(), &out);
  const Nvlist ignored(out);
  if (problem == EROFS) return;  // nothing waits to be written
  check(problem, fmt::format("sync pool '{}'", pool));
}

namespace {

/// A channel program that only reads, and ends at once: its answer, nullopt when it fails. `property` and `datasets`
/// are its arguments.
std::optional<Nvlist> ask(const char* program, const std::string& property, const std::vector<std::string>& datasets) {
  open_library();
  std::vector<const char*> names;
  for (const auto& dataset : datasets) names.push_back(dataset.c_str());
  const Nvlist arguments = make_nvlist();
  const auto count = static_cast<unsigned>(names.size());
  if (nvlist_add_string(arguments.get(), "property", property.c_str()) != 0 ||
      nvlist_add_string_array(arguments.get(), "datasets", const_cast<char**>(names.data()), count) != 0) {
    throw std::bad_alloc();
  }
  nvlist_t* raw = nullptr;
  constexpr std::uint64_t kInstructions = 1'000'000;
  constexpr std::uint64_t kMemory = 10 * MiB;
  const int problem = lzc_channel_program_nosync(pool_of(datasets.front()).c_str(), program, kInstructions, kMemory,
                                                 arguments.get(), &raw);
  Nvlist answer(raw);
  return problem == 0 ? std::optional(std::move(answer)) : std::nullopt;
}

}  // namespace

// `zfs get written@SNAPSHOT`, in one call without a process.
std::optional<std::uint64_t> written_since(const std::vector<std::string>& datasets, const std::string& snapshot) {
  if (datasets.empty()) return 0;
  constexpr char program[] =
      "local args = ...; local sum = 0; "
      "for _, name in ipairs(args.datasets) do sum = sum + zfs.get_prop(name, args.property) end; "
      "return sum";
  const auto answer = ask(program, "written@" + snapshot, datasets);
  std::int64_t sum = 0;
  if (!answer || nvlist_lookup_int64(answer->get(), "return", &sum) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(sum);
}

std::optional<std::map<std::string, std::uint64_t>> snapshot_guids(const std::vector<std::string>& names) {
  std::map<std::string, std::uint64_t> guids;
  if (names.empty()) return guids;
  constexpr char program[] =
      "local args = ...; local guids = {}; "
      "for _, name in ipairs(args.datasets) do "
      "if zfs.exists(name) then guids[name] = zfs.get_prop(name, args.property) end end; "
      "return guids";
  const auto answer = ask(program, "guid", names);
  nvlist_t* found = nullptr;
  if (!answer || nvlist_lookup_nvlist(answer->get(), "return", &found) != 0) return std::nullopt;
  for (nvpair_t* one = nvlist_next_nvpair(found, nullptr); one != nullptr; one = nvlist_next_nvpair(found, one)) {
    std::int64_t guid = 0;
    if (nvpair_value_int64(one, &guid) != 0) return std::nullopt;
    guids[nvpair_name(one)] = static_cast<std::uint64_t>(guid);
  }
  return guids;
}

void set_properties(const std::string& name, const Properties& properties) {
  Argv set = {"zfs", "set"};
  for (const auto& [key, value] : properties) {
    if (value.empty()) {
      // Not inherited: gone back to what was received, or the default, which `-S` allows of every property.
      run_checked(key == "canmount" ? Argv{"zfs", "inherit", "-S", key, name} : Argv{"zfs", "inherit", key, name});
    } else {
      set.push_back(key + "=" + value);
    }
  }
  if (set.size() == 2) return;
  set.push_back(name);
  run_checked(set);
}

std::uint64_t send_size(const std::string& snapshot) {
  open_library();
  std::uint64_t size = 0;
  check(lzc_send_space(
            snapshot.c_str(), nullptr,
            static_cast<lzc_send_flags>(LZC_SEND_FLAG_LARGE_BLOCK | LZC_SEND_FLAG_COMPRESS | LZC_SEND_FLAG_EMBED_DATA),
            &size),
        fmt::format("estimate the size of '{}'", snapshot));
  return size;
}

// By programs, not by the library: ZFS loses a SIGKILL that comes while it starts a thread (spl_kthread_create clears
// the mark of a pending signal), and a process that then waits for its own pipe never ends, with all its locks. A
// program that holds one end only sees the other one close, whatever became of the signal.
void copy(const Argv& send, const Argv& receive, const std::string& received_snapshot, const CopyOptions& options) {
  PipePair sent;
  PipePair received;
  ProcessOptions sending;
  sending.limit = std::chrono::hours(24 * 7);
  sending.stop = options.stop;
  sending.kept_fds = options.kept_fds;
  ProcessOptions receiving = sending;
  sending.output_fd = sent.write_end.get();
  receiving.input_fd = received.read_end.get();

  auto pump = std::async(std::launch::async, [&] {
    const Closing ends[] = {Closing(received.write_end), Closing(sent.read_end)};
    pass_on(sent.read_end.get(), received.write_end.get(), options);
  });
  // Whatever fails here: nobody waits for an end that stays open.
  const Closing nothing_more(sent.write_end);
  auto sender = std::async(std::launch::async, [&] {
    const Closing end(sent.write_end);
    return run_process(send, sending);
  });
  ProcessResult receiver;
  {
    const Closing end(received.read_end);
    receiver = run_process(receive, receiving);
  }
  pump.get();
  const ProcessResult sent_all = sender.get();
  if (options.stop && options.stop()) throw Interrupted();
  // A sender that found nobody to write to has nothing to tell.
  if (sent_all.status != 0 && sent_all.status != 128 + SIGPIPE) {
    throw Error(fmt::format("{}: {}", shell_line(send), first_line(sent_all.err)));
  }
  if (receiver.status != 0 || sent_all.status != 0) {
    throw Error(fmt::format("{}: {}", shell_line(receive), first_line(receiver.err)));
  }
  destroy_snapshots_if_present({received_snapshot});
}

}  // namespace kld::zfs
