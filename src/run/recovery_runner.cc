// SPDX-License-Identifier: Apache-2.0
#include "run/recovery_runner.h"

namespace kld::run {

Runner& RecoveryRunner::operator()(const OpenEntry& entry, const std::vector<std::string>& shared) {
  const std::string uri = entry.plan.uri.empty() ? default_uri_ : entry.plan.uri;
  auto connection = connections_.find(uri);
  if (connection == connections_.end()) connection = connections_.emplace(uri, virt::Connection::open(uri)).first;
  runner_ = std::make_unique<RealRunner>(&connection->second, Progress(), nullptr);
  runner_->recover(shared, entry.started);
  // Only a host that went down can have left a dataset without its mark, and it did so before it started again.
  if (entry.boot_id != current_boot_id()) runner_->take_unmarked(entry.started, boot_time());
  return *runner_;
}

}  // namespace kld::run
