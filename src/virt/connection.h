// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace kld::virt {

enum class State {
  running,
  paused,
  paused_no_space,
  paused_io_error,
  shut_off,
  shutting_down,
  crashed,
  suspended,
  other
};

/// The words virsh uses: "running", "paused", "shut off"; ours "paused (no space)", "paused (I/O error)".
std::string to_string(State state);
/// Anything that has a QEMU process behind it.
bool is_active(State state);

/// Stands before "POOL/NAME" in a path that libvirt cannot tell.
inline constexpr char kUnresolvedVolume[] = "volume:";

/// What one bulk listing tells of a domain.
struct DomainInfo {
  std::string name;
  std::string uuid;
  State state = State::other;
  std::uint64_t memory = 0;  ///< maximum, bytes
  unsigned vcpus = 0;
  bool persistent = true;
  bool autostart = false;
  bool has_managed_save = false;
  bool has_snapshots = false;  ///< libvirt's own snapshots
  bool has_checkpoints = false;
  /// Local paths (block and file) of the disks; of an active domain, those it has now.
  std::vector<std::string> block_paths;
  /// Has a drive without a path of its own: empty, on a network, or a volume of a storage pool while it is shut off.
  bool has_pathless_drives = false;

  bool operator==(const DomainInfo&) const = default;
};

/// What a listing asks for beyond the one bulk call: libvirt tells each boolean by a filter only, a call each.
enum class Details { none, autostart, all };

struct HostInfo {
  std::uint64_t memory = 0;  ///< bytes
  unsigned cpus = 0;
  std::string hostname;
};

/// The guest's agent answered that it does not do what it was asked.
class AgentRefused : public Error {
 public:
  using Error::Error;
};

/// One connection to libvirt. Every failure is an Error in libvirt's words; not found is nullopt or false.
class Connection {
 public:
  /// Throws Error with a hint (is libvirtd running?) when it cannot connect.
  static Connection open(const std::string& uri);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  /// All domains, sorted by name, in a number of calls that does not depend on how many there are: one
  /// virConnectGetAllDomainStats (state, balloon, vcpu, block) and a flag-filtered virConnectListAllDomains for each
  /// boolean that `details` asks for; the others stay as DomainInfo has them. Disk errors are asked only of domains
  /// paused by an I/O error.
  std::vector<DomainInfo> list(Details details = Details::all) const;
  /// The same, with the disks that the domains will have when they start, too, by the paths that storage pools give
  /// them. One in a pool that libvirt cannot look into now is "volume:POOL/NAME". One call more for each domain that
  /// runs, or has a drive without a path.
  std::vector<DomainInfo> list_with_pending(Details details = Details::all) const;
  std::optional<DomainInfo> find(const std::string& name) const;

  /// Persistent (inactive) definition, with secrets. Throws when there is no such domain.
  std::string inactive_xml(const std::string& uuid) const;
  /// The same; nullopt when the domain has gone meanwhile.
  std::optional<std::string> inactive_xml_if_any(const std::string& uuid) const;
  /// Of a domain that runs: what it runs with.
  std::string live_xml(const std::string& uuid) const;
  /// Human-readable names of block jobs running on an active domain: "vda: commit". Empty when none.
  std::vector<std::string> block_jobs(const std::string& uuid, const std::vector<std::string>& targets) const;

  /// Defines, with VIR_DOMAIN_DEFINE_VALIDATE unless told otherwise. Idempotent for the same XML.
  void define(const std::string& xml, bool validate = true) const;
  /// Undefines with KEEP_NVRAM and KEEP_TPM; false when there is no such domain.
  bool undefine(const std::string& uuid) const;
  /// False also when there is no such domain.
  bool is_running(const std::string& uuid) const;
  /// True when it was started now, false when it ran already.
  bool start(const std::string& uuid) const;
  /// Presses the guest's power button, waits up to `graceful`, then destroys; waits until it is shut off. A paused
  /// guest cannot react and is destroyed at once. False when it was off. Throws Interrupted instead of destroying when
  /// `interrupted` says so: once the wait is over, for the button cannot be unpressed; `on_interrupt` is told before.
  bool stop(const std::string& uuid, std::chrono::seconds graceful, const std::function<bool()>& interrupted,
            const std::function<void()>& on_interrupt = nullptr) const;
  /// Waits for a guest whose power button was pressed until it is off or gone, no longer than `limit`. Throws
  /// Interrupted when `interrupted` says so.
  void await_off(const std::string& uuid, std::chrono::seconds limit, const std::function<bool()>& interrupted) const;
  /// Why the guest cannot be frozen: its agent does not answer within the limit, or somebody has frozen it already.
  /// nullopt: it can.
  std::optional<std::string> freeze_problem(const std::string& uuid, std::chrono::seconds limit) const;
  /// Freezes the guest's file systems: how many. Throws AgentRefused when its agent says that it does not, Error when
  /// it does not answer within the limit; it may freeze them later all the same.
  int freeze(const std::string& uuid, std::chrono::seconds limit) const;
  /// Thaws them: how many.
  int thaw(const std::string& uuid, std::chrono::seconds limit) const;
  /// What the agent says; nullopt when it does not answer within the limit.
  std::optional<bool> is_frozen(const std::string& uuid, std::chrono::seconds limit) const;
  void set_autostart(const std::string& uuid, bool autostart) const;
  bool has_managed_save(const std::string& uuid) const;
  void remove_managed_save(const std::string& uuid) const;

  /// Where libvirt's storage pools keep the volume that a disk of type "volume" names as "pool/volume"; nullopt when
  /// there is none, or its pool is not active. Throws when libvirt cannot say.
  std::optional<std::string> volume_path(const std::string& pool_and_volume) const;
  bool has_network(const std::string& name) const;
  bool network_active(const std::string& name) const;
  std::vector<std::string> networks() const;
  /// URI to use in messages: "qemu:///system".
  const std::string& uri() const;
  HostInfo host() const;
  /// What of the definition QEMU cannot run on this host, in a line each: machine type, CPU. Empty: nothing.
  std::vector<std::string> unsupported(const std::string& xml) const;
  /// "127.0.0.1:5900" of a running domain's VNC, nullopt without one.
  std::optional<std::string> vnc_address(const std::string& uuid) const;

 private:
  struct Impl;
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kld::virt
