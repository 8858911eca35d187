// SPDX-License-Identifier: Apache-2.0
#include "run/freeze.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/process.h"
#include "run/lock.h"
#include "zfs/change.h"
#include "zfs/dataset.h"

namespace kld::run {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Beyond what freeze, snapshot and thaw may take together, nobody is in the middle of them any more.
constexpr std::uint64_t kSnapshotSeconds = 60;
constexpr int kThawTries = 5;

/// This program; once a package upgrade has replaced it, the one in its place.
std::string program() {
  auto path = std::filesystem::read_symlink("/proc/self/exe").string();
  constexpr std::string_view kGone = " (deleted)";
  if (path.ends_with(kGone)) path.resize(path.size() - kGone.size());
  return path;
}

/// A transient systemd unit that thaws a guest when we do not. It outlives us; it is ended when the guest says that it
/// is thawed, or it ends itself then.
class Watchdog {
 public:
  Watchdog(const plan::Freeze& freeze, const std::string& uri)
      : unit_(fmt::format("kld-thaw-{}-{}", freeze.domain.name, ::getpid())) {
    run_checked({"systemd-run", "--quiet", "--collect", "--property", "Type=exec", "--unit", unit_, "--description",
                 fmt::format("Thaws {} if kld does not", freeze.domain.name), "--", program(), "guard-thaw",
                 freeze.domain.uuid, "--connect", uri, "--pid", std::to_string(::getpid()), "--seconds",
                 std::to_string(2 * freeze.seconds + kSnapshotSeconds)});
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() = default;

  const std::string& unit() const { return unit_; }
  void disarm() const noexcept {
    try {
      run_process({"systemctl", "stop", unit_ + ".service"});
    } catch (const std::exception&) {
      return;  // it will find the guest thawed
    }
  }

 private:
  std::string unit_;
};

struct Guest {
  const plan::Freeze* freeze;
  Frozen result;
  Locks alone = {};                              ///< one of us at a time: another would thaw under us
  std::unique_ptr<Watchdog> watchdog = nullptr;  ///< none any more once the guest says that it is thawed
  bool was_asked = false;                        ///< it is frozen, or may be later
  bool is_frozen = false;
  Clock::time_point since = {};
};

std::chrono::seconds limit_of(const plan::Freeze& freeze) { return std::chrono::seconds(freeze.seconds); }

/// libvirt may have been restarted meanwhile: each try has a connection of its own.
void thaw(Guest& guest, const virt::Connection& libvirt) {
  const auto& uuid = guest.freeze->domain.uuid;
  std::string problem;
  for (int tries = 0; tries < kThawTries; ++tries) {
    try {
      const auto limit = limit_of(*guest.freeze);
      if (tries == 0) {
        guest.result.thawed = libvirt.thaw(uuid, limit);
      } else {
        std::this_thread::sleep_for(500ms);
        guest.result.thawed = virt::Connection::open(libvirt.uri()).thaw(uuid, limit);
      }
      guest.is_frozen = false;
      guest.result.seconds = std::chrono::duration<double>(Clock::now() - guest.since).count();
      return;
    } catch (const Error& error) {
      problem = error.message();
    }
  }
  guest.result.fell_back = false;
  guest.result.problem = fmt::format("it could not be thawed ({})", problem);
}

/// What the guest itself says; nullopt when it does not.
std::optional<bool> ask(const Guest& guest, const std::string& uri) {
  try {
    return virt::Connection::open(uri).is_frozen(guest.freeze->domain.uuid, limit_of(*guest.freeze));
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Throws unless it may go without.
void give_up(Guest& guest, const Error& error) {
  if (!guest.freeze->required) {
    guest.result.problem = error.message();
    guest.result.fell_back = true;
    return;
  }
  throw Error(fmt::format("machine '{}' could not be frozen: {}", guest.freeze->domain.name, error.message()),
              "--freeze=try takes the snapshot all the same");
}

void prepare(Guest& guest, const virt::Connection& libvirt) {
  try {
    const auto limit = limit_of(*guest.freeze);
    guest.alone = Locks::take_command("freeze-" + guest.freeze->domain.name, 2 * limit);
    // What somebody else has frozen since the plan was made is theirs to thaw.
    if (const auto problem = libvirt.freeze_problem(guest.freeze->domain.uuid, limit)) throw Error(*problem);
    guest.watchdog = std::make_unique<Watchdog>(*guest.freeze, libvirt.uri());
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    give_up(guest, error);
  }
}

void freeze(Guest& guest, const virt::Connection& libvirt) {
  if (!guest.watchdog) return;
  const auto& uuid = guest.freeze->domain.uuid;
  const auto limit = limit_of(*guest.freeze);
  try {
    // Its writers wait from here on, while it flushes what is dirty.
    guest.since = Clock::now();
    guest.was_asked = true;
    guest.result.frozen = libvirt.freeze(uuid, limit);
    guest.is_frozen = true;
    if (guest.result.frozen == 0) guest.result.problem = "it froze no file system";
  } catch (const virt::AgentRefused& refused) {
    guest.was_asked = false;
    give_up(guest, refused);
  } catch (const Error& error) {
    give_up(guest, error);
  }
}

std::string goes_on(const Guest& guest) {
  return fmt::format("{}.service thaws it until it says that it is thawed", guest.watchdog->unit());
}

/// Thaws those that are frozen, and lets their watchdogs go once they say so. One that was not frozen, as far as we
/// know, may be later: its watchdog stays until it says that it is not.
void thaw_all(std::vector<Guest>& guests, const virt::Connection& libvirt) {
  for (auto& guest : guests) {
    if (guest.is_frozen) thaw(guest, libvirt);
  }
  for (auto& guest : guests) {
    if (!guest.watchdog) continue;
    auto frozen = guest.was_asked ? ask(guest, libvirt.uri()) : false;
    if (frozen == true) {
      thaw(guest, libvirt);
      frozen = ask(guest, libvirt.uri());
    }
    if (frozen == false) {
      guest.watchdog->disarm();
      guest.watchdog.reset();
      continue;
    }
    auto& problem = guest.result.problem;
    if (problem.empty()) problem = "it does not say that it is thawed";
    if (guest.result.fell_back) problem += "; it may still freeze";
    problem += fmt::format("; {}", goes_on(guest));
  }
}

/// Of a snapshot that did not come about: nobody reads the results.
void warn_of_frozen(const std::vector<Guest>& guests, const std::function<void(const std::string&)>& warn) {
  for (const auto& guest : guests) {
    if (!guest.watchdog || !warn) continue;
    warn(fmt::format("machine '{}' may be frozen, or freeze later: {}", guest.freeze->domain.name, goes_on(guest)));
  }
}

}  // namespace

void lower_label(const plan::TakeSnapshots& step) {
  for (const auto& name : step.names) zfs::set_properties(name, {{zfs::property::consistency, "crash"}});
}

std::vector<Frozen> snapshot_frozen(const virt::Connection& libvirt, const plan::TakeSnapshots& step,
                                    const std::function<void(const std::string&)>& warn) {
  // What is dirty goes to disk before, not while they wait.
  zfs::sync(zfs::pool_of(step.names.front()));
  std::vector<Guest> guests;
  bool known = false;  // that it is no more than crash-consistent
  for (const auto& one : step.freezes) guests.push_back({&one, {one.domain.name, 0, 0, 0, {}}});
  try {
    for (auto& guest : guests) prepare(guest, libvirt);
    for (auto& guest : guests) freeze(guest, libvirt);
    // Where it is known before, it never says more than it is.
    auto properties = step.properties;
    const auto fails = [](const Guest& guest) { return !guest.result.problem.empty(); };
    known = std::any_of(guests.begin(), guests.end(), fails);
    if (known) properties[zfs::property::consistency] = "crash";
    zfs::snapshot(step.names, properties);
  } catch (...) {
    thaw_all(guests, libvirt);
    warn_of_frozen(guests, warn);
    throw;
  }
  thaw_all(guests, libvirt);
  std::vector<Frozen> results;
  bool application = true;
  for (auto& guest : guests) {
    auto& result = guest.result;
    if (result.problem.empty() && result.thawed == 0) result.problem = "it thawed no file system";
    application = application && result.problem.empty();
    results.push_back(std::move(result));
  }
  if (!application && !known) lower_label(step);
  return results;
}

int guard_thaw(const std::string& uri, const std::string& uuid, int pid, std::uint64_t seconds) {
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (process >= 0) {
    pollfd ended{process, POLLIN, 0};
    ::poll(&ended, 1, static_cast<int>(seconds * 1000));
    ::close(process);
  }
  constexpr auto kLimit = 5s;
  int thawed = 0;
  for (;; std::this_thread::sleep_for(1s)) {
    try {
      const auto libvirt = virt::Connection::open(uri);
      if (!libvirt.is_running(uuid)) return thawed;
      const auto frozen = libvirt.is_frozen(uuid, kLimit);
      // An agent that says nothing may have a freeze before it that it was given long ago.
      if (!frozen) continue;
      if (!*frozen) return thawed;
      thawed += libvirt.thaw(uuid, kLimit);
    } catch (const Error&) {
      continue;  // libvirt is not there, or the agent: again
    }
  }
}

}  // namespace kld::run
