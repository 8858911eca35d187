// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kld {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

/// Columns a terminal needs for UTF-8 text: wide East Asian characters count two, combining ones and terminal escapes
/// none; a byte that is no UTF-8 counts one.
std::size_t display_width(std::string_view text);

/// A cell must not be empty to be seen as one.
std::string or_dash(const std::string& text);

/// As many whole characters from the front as fit `width` columns.
std::string cut(std::string_view text, std::size_t width);

/// The text filled with blanks to `width` columns; longer text stays whole.
std::string padded(std::string_view text, std::size_t width, Align align);

/// Title line and rows, two blanks between columns, none at a line's end, each line ended by '\n'. A row that is short
/// is filled with empty cells. Control characters in cells are shown as '?'.
std::string format_table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows);

}  // namespace kld
