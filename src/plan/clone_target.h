// SPDX-License-Identifier: Apache-2.0
// What a clone is to be: names, definition, seed.
#pragma once

#include <string>

#include "plan/clone_source.h"
#include "plan/seed.h"

namespace kld::plan {

struct CloneTarget {
  std::string name;
  std::string uuid;
  virt::Definition definition;
  SeedDocuments seed;
};

/// The clone of this name: its definition has new identities, and disks and seed of its own.
CloneTarget make_clone_target(const View& view, const CloneSource& source, const CloneRequest& request,
                              const CloneFacts& facts, const std::string& name, const Fresh& fresh);

/// Warns of what every clone has of its source although it is one machine's alone.
void warn_of_what_is_shared(Plan& plan, const CloneSource& source, const CloneRequest& request,
                            const CloneTarget& target);

}  // namespace kld::plan
