// SPDX-License-Identifier: Apache-2.0
// Why a machine cannot be created as asked.
#pragma once

#include <optional>

#include "plan/create.h"

namespace kld::plan {

/// Sizes and words, before anything is asked of the host.
std::optional<Refusal> bad_words(const CreateRequest& request);
/// Files that cannot be read, and images that are no whole disk.
std::optional<Refusal> bad_image(const CreateRequest& request, const CreateFacts& facts);
/// A bridge or network that is not there.
std::optional<Refusal> bad_network(const CreateRequest& request, const CreateFacts& facts);

}  // namespace kld::plan
