// SPDX-License-Identifier: Apache-2.0
#include "unit/golden.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace kld {

void expect_golden(const std::string& relative_path, const std::string& actual) {
  const auto path = std::filesystem::path(KLD_SOURCE_DIR) / "tests" / "golden" / relative_path;
  const char* accept = std::getenv("TEST_ACCEPT");
  if (accept != nullptr && std::string(accept) == "1") {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << actual;
    return;
  }
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << path << " is missing; TEST_ACCEPT=1 writes it";
  std::ostringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(expected.str(), actual) << "differs from " << path << "; TEST_ACCEPT=1 accepts the new text";
}

}  // namespace kld
