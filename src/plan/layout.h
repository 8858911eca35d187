// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "plan/step.h"
#include "plan/view.h"

namespace kld::plan {

/// The step that makes `<root>/.state` when it is not there: never mounted itself, its children below kStateDirectory.
std::optional<Step> ensure_state_root(const View& view, const std::string& op);

/// The step that makes `<root>/.kept` when it is not there: never mounted, nor what lies below it.
std::optional<Step> ensure_kept_root(const View& view, const std::string& op);

/// Why machines cannot be laid out under the root: `.state` is mounted elsewhere or itself, or a key is missing.
std::optional<Refusal> layout_problem(const View& view);

/// Adds volmode=dev unless the root hands it down: explicit on each clone it costs two more transaction groups.
void add_volmode(const View& view, zfs::Properties& properties);

}  // namespace kld::plan
