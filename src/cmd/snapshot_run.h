// SPDX-License-Identifier: Apache-2.0
// One run of kvm-snapshot: locks, looks, takes, prunes. What is decided lies in plan/.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/context.h"
#include "plan/auto_snapshot.h"
#include "plan/prune.h"
#include "run/auto_facts.h"

namespace kld::cmd {

struct SnapshotFlags {
  std::vector<std::string> machines;
  bool prune = false;
  bool explain = false;
};

/// The host as a run finds it.
struct AutoLook {
  run::Host host;
  plan::View view;
  std::vector<plan::AutoMachine> machines;
  std::map<std::string, std::vector<plan::MachineSnapshot>> snapshots;
  UnixTime now = 0;
  double pool_share = 0;  ///< of the pool's space that is allocated, 0 to 1
};
AutoLook look_at_all(const cli::Context& context, const SnapshotFlags& flags);

/// Says of each snapshot whether it stays and why; changes nothing.
void explain_retention(cli::Context& context, const SnapshotFlags& flags);

/// A refusal in one line.
std::string in_words(const Refusal& refusal);

class SnapshotRun {
 public:
  SnapshotRun(cli::Context& context, SnapshotFlags flags) : context_(context), flags_(std::move(flags)) {}
  void run();

 private:
  bool has_no_root() const;
  bool is_the_only_run();
  void skip(const std::string& why) const;
  void lock_and_look();
  void lock(const std::set<std::string>& names);
  void leave_out_unready();
  void guard_pool();
  void warn_of_sanoid();
  void hold_back();
  void mark_held_back(const plan::AutoMachine& one);
  void take();
  void take_group(plan::AutoGroup group, bool last = false);
  std::set<std::string> lower_labels_of_started(const plan::AutoGroup& group);
  void prune();
  void destroy(std::vector<plan::Condemned> batch);
  void release();
  void expire();
  void report();

  /// False when it failed: the reasons by what ZFS named, or "" for all.
  bool carry_out(const plan::Plan& plan, std::map<std::string, std::string>& reasons);
  void fail(const std::string& warning);
  void drop(const std::string& machine, const std::string& kind, const std::string& why);
  bool is_judged(const plan::AutoMachine& one) const;

  cli::Context& context_;
  SnapshotFlags flags_;
  run::Locks only_;
  std::map<std::string, run::Locks> locks_;
  std::map<std::string, std::string> busy_;  ///< machines that others work on, and who
  std::optional<AutoLook> look_;
  std::vector<run::Frozen> frozen_;  ///< by the last plan
  bool full_ = false;
  std::set<std::string> held_back_;
  std::set<std::string> unmarked_;  ///< held back, and without the mark that says so
  Exit exit_ = Exit::done;
  std::size_t calls_ = 0;
  nlohmann::json taken_ = nlohmann::json::array();
  nlohmann::json left_out_ = nlohmann::json::array();
  nlohmann::json pruned_ = nlohmann::json::array();
  nlohmann::json stays_ = nlohmann::json::array();
  nlohmann::json expired_ = nlohmann::json::array();
};

}  // namespace kld::cmd
