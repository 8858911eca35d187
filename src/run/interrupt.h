// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace kld::run {

/// From here on SIGINT, SIGTERM and SIGHUP only ask; whoever can stop looks. SIGPIPE is ignored.
void catch_signals();
/// True once a signal asked us to stop.
bool interrupted();

}  // namespace kld::run
