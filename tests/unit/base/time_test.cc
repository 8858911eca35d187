// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace kld {
namespace {

TEST(FormatUtc, IsIso8601) {
  EXPECT_EQ(format_utc(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(format_utc(1775313300), "2026-04-04T14:35:00Z");
  EXPECT_EQ(format_utc(951782399), "2000-02-28T23:59:59Z");
  EXPECT_EQ(format_utc(951782400), "2000-02-29T00:00:00Z");
}

TEST(ParseUtc, ReversesFormatUtc) {
  for (const UnixTime time : {UnixTime{0}, UnixTime{951782400}, UnixTime{1775313300}, UnixTime{4102444799}}) {
    EXPECT_EQ(parse_utc(format_utc(time)), time);
  }
}

TEST(ParseUtc, DoesNotDependOnTheTimeZone) {
  const char* before = std::getenv("TZ");
  const std::string saved = before == nullptr ? "" : before;
  setenv("TZ", "Asia/Kolkata", 1);
  tzset();
  EXPECT_EQ(parse_utc("2026-04-04T14:35:00Z"), UnixTime{1775313300});
  EXPECT_EQ(format_utc(1775313300), "2026-04-04T14:35:00Z");
  if (before == nullptr) {
    unsetenv("TZ");
  } else {
    setenv("TZ", saved.c_str(), 1);
  }
  tzset();
}

TEST(ParseUtc, TakesNoOtherForm) {
  for (const char* text :
       {"", "2026-04-04", "2026-04-04T14:35:00", "2026-04-04T14:35:00z", "2026-04-04 14:35:00Z", "2026-4-4T14:35:00Z",
        "2026-02-30T00:00:00Z", "2026-04-04T24:00:00Z", "2026-04-04T14:35:00Zx", " 2026-04-04T14:35:00Z",
        "2026-04-04T14:35:60Z", "2026-13-01T00:00:00Z"}) {
    EXPECT_EQ(parse_utc(text), std::nullopt) << text;
  }
}

TEST(FormatAge, HasOneUnit) {
  EXPECT_EQ(format_age(0), "0 s");
  EXPECT_EQ(format_age(119), "119 s");
  EXPECT_EQ(format_age(120), "2 min");
  EXPECT_EQ(format_age(2 * 3600 - 1), "119 min");
  EXPECT_EQ(format_age(2 * 3600), "2 h");
  EXPECT_EQ(format_age(2 * 86400 - 1), "47 h");
  EXPECT_EQ(format_age(5 * 86400), "5 d");
  EXPECT_EQ(format_age(-1), "in the future");
}

}  // namespace
}  // namespace kld
