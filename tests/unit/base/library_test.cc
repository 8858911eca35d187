// SPDX-License-Identifier: Apache-2.0
#include "base/library.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace kld {
namespace {

TEST(Library, FindsFunctions) {
  const auto function = reinterpret_cast<double (*)(double)>(library_function({"libm.so.6", "libc6"}, "fabs"));
  EXPECT_EQ(function(-27.0), 27.0);
}

TEST(Library, SaysWhatToInstall) {
  try {
    library_function({"libnot-there.so.7", "libnot-there7"}, "anything");
    FAIL() << "it was loaded";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("libnot-there.so.7"), std::string::npos) << error.message();
    EXPECT_EQ(error.hint(), "install it: apt-get install libnot-there7");
  }
}

TEST(Library, SaysWhatItIsTooOldFor) {
  try {
    library_function({"libm.so.6", "libc6"}, "of_tomorrow");
    FAIL() << "it was found";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "libm.so.6 is too old: it has no of_tomorrow");
  }
}

}  // namespace
}  // namespace kld
