// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace kld {

/// Expects `actual` to be the text of tests/golden/RELATIVE_PATH. TEST_ACCEPT=1 in the environment writes it instead.
void expect_golden(const std::string& relative_path, const std::string& actual);

}  // namespace kld
