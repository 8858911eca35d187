// SPDX-License-Identifier: Apache-2.0
// Whether libvirt may start a domain, whoever asked it to: decided by what lies at hand, without asking libvirt.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "plan/view.h"

namespace kld::plan {

/// An operation with a journal entry.
struct OpenOperation {
  Plan plan;
  std::optional<std::size_t> begun;  ///< the last step that is noted as begun
  std::set<std::size_t> undone;      ///< steps that were taken back
  bool alive = false;                ///< a process works on it, its own or one that recovers it
};

struct StartFacts {
  std::string uuid;                           ///< of the domain that is to start
  std::string domain;                         ///< its name
  std::vector<std::string> volumes;           ///< behind its disks
  View view;                                  ///< the datasets of the machines that these belong to
  std::map<std::string, std::string> uuids;   ///< of the machines, as their saved definitions have it
  std::map<std::string, std::string> mounts;  ///< what is on top at each mount point
  std::vector<OpenOperation> operations;
};

/// Why it must not start: a golden image, a disk that is set aside, state that is not mounted, an operation that is
/// not at its end. nullopt: it may, or is none of ours.
std::optional<Refusal> bar_start(const StartFacts& facts);

}  // namespace kld::plan
