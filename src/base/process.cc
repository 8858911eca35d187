// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/error.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX wants it declared by the user

namespace kld {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw Error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    close_read();
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_read() { close_end(read_end); }
  void close_write() { close_end(write_end); }

 private:
  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
};

std::vector<std::string> environment_c_locale() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "LC_", 3) != 0 && std::strncmp(*entry, "LANG", 4) != 0) result.emplace_back(*entry);
  }
  result.emplace_back("LC_ALL=C");
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> result;
  result.reserve(words.size() + 1);
  for (const auto& word : words) result.push_back(const_cast<char*>(word.c_str()));
  result.push_back(nullptr);
  return result;
}

pid_t spawn(const Argv& argv, int in, int out, int err, const std::vector<int>& kept) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  // Onto itself: that takes close-on-exec away.
  for (const int fd : kept) posix_spawn_file_actions_adddup2(&actions, fd, fd);
  // A process group of its own: Ctrl-C reaches us alone, and we decide what becomes of it.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t defaults;
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  const auto environment = environment_c_locale();
  pid_t pid = -1;
  const int problem =
      posix_spawnp(&pid, argv[0].c_str(), &actions, &attributes, pointers(argv).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (problem != 0) throw Error(fmt::format("cannot run '{}': {}", argv[0], std::strerror(problem)));
  return pid;
}

/// False at end of file.
bool drain(int fd, const std::function<void(std::string_view)>& take) {
  char buffer[65536];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  if (got > 0) take({buffer, static_cast<std::size_t>(got)});
  return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

void reap(pid_t pid, int& status) {
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
}

std::function<bool()>& stop_of_lookers() {
  static std::function<bool()> stop;
  return stop;
}

void end_process(pid_t pid) {
  ::kill(-pid, SIGTERM);
  int status = 0;
  for (int tries = 0; tries < 20; ++tries) {
    if (waitpid(pid, &status, WNOHANG) != 0) return;
    ::usleep(50'000);
  }
  ::kill(-pid, SIGKILL);
  reap(pid, status);
}

}  // namespace

Interruptible::Interruptible(std::function<bool()> stop) { stop_of_lookers() = std::move(stop); }
Interruptible::~Interruptible() { stop_of_lookers() = nullptr; }

ProcessResult run_process(const Argv& wanted, const ProcessOptions& options) {
  Argv argv = wanted;
  // posix_spawn cannot say so itself; setpriv is replaced by the program, under the same process number.
  if (options.dies_with_us) argv.insert(argv.begin(), {"setpriv", "--pdeathsig", "KILL", "--"});
  Pipe in;
  Pipe out;
  Pipe err;
  const pid_t pid = spawn(argv, options.input_fd >= 0 ? options.input_fd : in.read_end,
                          options.output_fd >= 0 ? options.output_fd : out.write_end, err.write_end, options.kept_fds);
  in.close_read();
  out.close_write();
  err.close_write();
  ::fcntl(in.write_end, F_SETFL, O_NONBLOCK);
  if (options.on_start) options.on_start();

  ProcessResult result;
  const auto collect = [&](std::string_view piece) { result.out.append(piece); };
  const auto deadline = Clock::now() + options.limit;
  const auto& stop = options.stop ? options.stop : stop_of_lookers();
  std::size_t written = 0;
  if (options.input.empty() || options.input_fd >= 0) in.close_write();
  while (out.read_end >= 0 || err.read_end >= 0) {
    if (stop && stop()) {
      end_process(pid);
      throw Interrupted();
    }
    if (Clock::now() > deadline) {
      end_process(pid);
      throw Error(fmt::format("'{}' did not end within {} s", shell_line(wanted), options.limit.count() / 1000));
    }
    pollfd fds[3] = {{out.read_end, POLLIN, 0}, {err.read_end, POLLIN, 0}, {in.write_end, POLLOUT, 0}};
    if (::poll(fds, 3, 200) < 0) continue;
    if (fds[0].revents != 0 && !drain(out.read_end, options.on_output ? options.on_output : collect)) out.close_read();
    if (fds[1].revents != 0 && !drain(err.read_end, [&](std::string_view piece) { result.err.append(piece); })) {
      err.close_read();
    }
    if (fds[2].revents != 0) {
      const ssize_t sent = ::write(in.write_end, options.input.data() + written, options.input.size() - written);
      if (sent > 0) written += static_cast<std::size_t>(sent);
      if (written == options.input.size() || (sent < 0 && errno != EAGAIN && errno != EINTR)) in.close_write();
    }
  }
  int status = 0;
  reap(pid, status);
  result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

std::string run_checked(const Argv& argv, const ProcessOptions& options) {
  ProcessResult result = run_process(argv, options);
  if (result.status != 0) {
    std::string words = result.err;
    while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) words.pop_back();
    if (words.empty()) words = fmt::format("exit status {}", result.status);
    throw Error(fmt::format("{}: {}", shell_line(argv), words));
  }
  return std::move(result.out);
}

std::string shell_line(const Argv& argv) {
  std::string line;
  for (const auto& word : argv) {
    if (!line.empty()) line += ' ';
    const bool plain =
        !word.empty() &&
        word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+%") ==
            std::string::npos;
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) {
      if (c == '\'') {
        line += "'\\''";
      } else {
        line += c;
      }
    }
    line += '\'';
  }
  return line;
}

}  // namespace kld
