// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "run/open_entry.h"
#include "run/real_runner.h"

namespace kld::run {

/// Makes the runner that an entry needs: on the libvirt that its operation worked on, knowing when it began and which
/// machines others share meanwhile, not to be interrupted.
class RecoveryRunner {
 public:
  explicit RecoveryRunner(std::string default_uri) : default_uri_(std::move(default_uri)) {}
  Runner& operator()(const OpenEntry& entry, const std::vector<std::string>& shared);

 private:
  std::string default_uri_;
  std::map<std::string, virt::Connection> connections_;
  std::unique_ptr<RealRunner> runner_;
};

}  // namespace kld::run
