// SPDX-License-Identifier: Apache-2.0
#include "base/size.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace kld {
namespace {

std::string problem(const std::string& text, std::uint64_t bare_unit = GiB) {
  try {
    parse_size(text, bare_unit, "--disk");
  } catch (const UsageError& error) {
    EXPECT_EQ(error.exit(), Exit::usage);
    EXPECT_NE(error.hint(), "");
    return error.message();
  }
  return "accepted";
}

TEST(ParseSize, BareNumbersCountTheGivenUnit) {
  EXPECT_EQ(parse_size("2048", MiB, "--ram"), 2 * GiB);
  EXPECT_EQ(parse_size("40", GiB, "--disk"), 40 * GiB);
  EXPECT_EQ(parse_size("1", 1, "--volblocksize"), 1U);
}

TEST(ParseSize, SuffixesAreBinary) {
  EXPECT_EQ(parse_size("512M", GiB, "x"), 512 * MiB);
  EXPECT_EQ(parse_size("4g", MiB, "x"), 4 * GiB);
  EXPECT_EQ(parse_size("100GiB", MiB, "x"), 100 * GiB);
  EXPECT_EQ(parse_size("100GB", MiB, "x"), 100 * GiB);
  EXPECT_EQ(parse_size("1T", MiB, "x"), TiB);
  EXPECT_EQ(parse_size("64K", MiB, "x"), 64 * KiB);
  EXPECT_EQ(parse_size("512B", MiB, "x"), 512U);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "x", "10X", "G", "-1", "+1", "1.5G", "1 G", " 1", "1G ", "0x10", "1GG", "1Bi", "1iB", "１"}) {
    EXPECT_EQ(problem(text), "--disk '" + std::string(text) + "' is not a size");
  }
}

TEST(ParseSize, RefusesZeroAndWhatDoesNotFit) {
  EXPECT_EQ(problem("0"), "--disk '0' must be more than zero");
  EXPECT_EQ(problem("0G"), "--disk '0G' must be more than zero");
  EXPECT_EQ(problem("99999999999999999999"), "--disk '99999999999999999999' is too large");
  EXPECT_EQ(problem("8E"), "--disk '8E' is too large");
  EXPECT_EQ(parse_size("7E", GiB, "x"), 7ULL << 60U);
  EXPECT_EQ(problem("8589934592"), "--disk '8589934592' is too large");
  EXPECT_EQ(parse_size("9223372036854775807", 1, "x"), 9223372036854775807ULL);
  EXPECT_EQ(problem("9223372036854775808", 1), "--disk '9223372036854775808' is too large");
}

TEST(FormatSize, HasThreeSignificantDigits) {
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_size(1023), "1023B");
  EXPECT_EQ(format_size(KiB), "1.00K");
  EXPECT_EQ(format_size(128 * KiB), "128K");
  EXPECT_EQ(format_size(12 * GiB + 300 * MiB), "12.3G");
  EXPECT_EQ(format_size(999 * GiB), "999G");
  EXPECT_EQ(format_size(1010 * GiB), "1010G");
  EXPECT_EQ(format_size(TiB), "1.00T");
  EXPECT_EQ(format_size(~0ULL), "16.0E");
}

TEST(ExactSize, IsTheShortestThatLosesNothing) {
  EXPECT_EQ(exact_size(20 * GiB), "20G");
  EXPECT_EQ(exact_size(1536 * MiB), "1536M");
  EXPECT_EQ(exact_size(GiB + 1), "1073741825");
  EXPECT_EQ(exact_size(0), "0");
  for (const std::uint64_t bytes : {std::uint64_t{1}, 65536 * KiB, 3 * TiB, 7 * GiB + 512 * KiB}) {
    EXPECT_EQ(parse_size(exact_size(bytes), 1, "x"), bytes);
  }
}

}  // namespace
}  // namespace kld
