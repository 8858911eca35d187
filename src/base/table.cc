// SPDX-License-Identifier: Apache-2.0
#include "base/table.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace kld {
namespace {

using Range = std::pair<std::uint32_t, std::uint32_t>;

// The blocks that names and hints may meet; not all of Unicode.
constexpr std::array<Range, 9> kNoWidth = {Range{0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd},
                                           {0x064b, 0x065f},      {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
                                           {0x200b, 0x200f},      {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}};
constexpr std::array<Range, 9> kWide = {Range{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0x33ff},
                                        {0x3400, 0x4dbf},      {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
                                        {0xf900, 0xfaff},      {0xff00, 0xff60}, {0x1f300, 0x1faff}};

template <std::size_t Size>
bool in(const std::array<Range, Size>& ranges, std::uint32_t point) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& range) { return point >= range.first && point <= range.second; });
}

struct Decoded {
  std::uint32_t point = 0;
  std::size_t length = 1;
};

/// The code point at the front; a byte that starts none stands for itself.
Decoded decode(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at])); };
  const std::uint32_t first = byte(0);
  const std::size_t length = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;
  if (length == 1 || text.size() < length) return {first, 1};
  std::uint32_t point = first & (0xffU >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xc0U) != 0x80) return {first, 1};
    point = point << 6U | (byte(at) & 0x3fU);
  }
  return {point, length};
}

/// Length of a colour escape at the front, 0 when there is none.
std::size_t escape_length(std::string_view text) {
  if (!text.starts_with("\x1b[")) return 0;
  const auto end = text.find_first_not_of("0123456789;", 2);
  return end != std::string_view::npos && text[end] == 'm' ? end + 1 : 0;
}

struct Character {
  std::size_t length;  ///< bytes
  std::size_t width;   ///< columns
};

/// Takes the character, or the escape, off the front of a text that is not empty.
Character take_character(std::string_view& text) {
  Character taken{escape_length(text), 0};
  if (taken.length == 0) {
    const auto [point, length] = decode(text);
    taken = {length, in(kNoWidth, point) ? 0U : in(kWide, point) ? 2U : 1U};
  }
  text.remove_prefix(taken.length);
  return taken;
}

std::string without_controls(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const auto escape = escape_length(std::string_view(text).substr(at));
    const auto length = std::max<std::size_t>(escape, 1);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (escape == 0 && (byte < 0x20 || byte == 0x7f)) {
      result += '?';
    } else {
      result.append(text, at, length);
    }
    at += length;
  }
  return result;
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) width += take_character(text).width;
  return width;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::string cut(std::string_view text, std::size_t width) {
  std::string result;
  while (!text.empty()) {
    const auto rest = text;
    const auto character = take_character(text);
    if (character.width > width) break;
    width -= character.width;
    result.append(rest.substr(0, character.length));
  }
  return result;
}

std::string padded(std::string_view text, std::size_t width, Align align) {
  const auto taken = display_width(text);
  const std::string blanks(width > taken ? width - taken : 0, ' ');
  return align == Align::left ? std::string(text) + blanks : blanks + std::string(text);
}

std::string format_table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> lines(1);
  for (const auto& column : columns) lines[0].push_back(column.title);
  lines.insert(lines.end(), rows.begin(), rows.end());
  std::vector<std::size_t> widths(columns.size());
  for (auto& line : lines) {
    line.resize(columns.size());
    for (std::size_t at = 0; at < line.size(); ++at) {
      line[at] = without_controls(line[at]);
      widths[at] = std::max(widths[at], display_width(line[at]));
    }
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t at = 0; at < line.size(); ++at) {
      row += (at == 0 ? "" : "  ") + padded(line[at], widths[at], columns[at].align);
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

}  // namespace kld
