// SPDX-License-Identifier: Apache-2.0
#include "base/table.h"

#include <gtest/gtest.h>

namespace kld {
namespace {

TEST(DisplayWidth, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width(""), 0U);
  EXPECT_EQ(display_width("web"), 3U);
  EXPECT_EQ(display_width("├─ web"), 6U);
  EXPECT_EQ(display_width("Grüße"), 5U);
  EXPECT_EQ(display_width("u\xcc\x88"), 1U);  // a combining diaeresis
  EXPECT_EQ(display_width("日本"), 4U);
  EXPECT_EQ(display_width("\x1b[2mweb\x1b[0m"), 3U);
}

TEST(DisplayWidth, TakesAnyBytes) {
  EXPECT_EQ(display_width("\xff\xfe"), 2U);
  EXPECT_EQ(display_width("a\xc3"), 2U);     // cut off
  EXPECT_EQ(display_width("\xe2\x94"), 2U);  // cut off
  EXPECT_EQ(display_width("\xc3("), 2U);     // no continuation
  EXPECT_EQ(display_width("\x1b[2"), 3U);    // no whole escape
}

TEST(Cut, KeepsWholeCharacters) {
  EXPECT_EQ(cut("Grüße", 3), "Grü");
  EXPECT_EQ(cut("日本", 3), "日");
  EXPECT_EQ(cut("ab\x1b[0m", 2), "ab\x1b[0m");
  EXPECT_EQ(cut("web", 9), "web");
  EXPECT_EQ(cut("web", 0), "");
}

TEST(Padded, FillsOnEitherSide) {
  EXPECT_EQ(padded("ü", 3, Align::left), "ü  ");
  EXPECT_EQ(padded("ü", 3, Align::right), "  ü");
  EXPECT_EQ(padded("long", 3, Align::left), "long");
}

TEST(FormatTable, AlignsAndLeavesNoBlanksAtTheEnd) {
  EXPECT_EQ(format_table({{"NAME"}, {"USED", Align::right}, {"ORIGIN"}},
                         {{"web", "1.50G", "-"}, {"├─ database", "12G", "golden@s"}, {"x", "", ""}}),
            "NAME          USED  ORIGIN\n"
            "web          1.50G  -\n"
            "├─ database    12G  golden@s\n"
            "x\n");
}

TEST(FormatTable, WithoutRowsIsItsTitles) { EXPECT_EQ(format_table({{"NAME"}, {"STATE"}}, {}), "NAME  STATE\n"); }

TEST(FormatTable, FillsShortRowsAndHidesControls) {
  EXPECT_EQ(format_table({{"A"}, {"B"}}, {{"1"}, {"a\tb\n", "\x1b]x"}}), "A     B\n1\na?b?  ?]x\n");
}

}  // namespace
}  // namespace kld
