// SPDX-License-Identifier: Apache-2.0
#include "run/recovery_runner.h"

namespace kld::run {

Runner& RecoveryRunner::operator()(const OpenEntry& entry) {
  const std::string uri = entry.plan.uri.empty() ? default_uri_ : entry.plan.uri;
  auto connection = connections_.find(uri);
  if (connection == connections_.end()) connection = connections_.emplace(uri, virt::Connection::open(uri)).first;
  runner_ = std::make_unique<RealRunner>(&connection->second, Progress(), nullptr);
  runner_->recover_since(entry.started);
  return *runner_;
}

}  // namespace kld::run
