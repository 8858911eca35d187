// SPDX-License-Identifier: Apache-2.0
#include "base/size.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

#include "base/error.h"

namespace kld {
namespace {

constexpr std::string_view kUnits = "BKMGTPE";

int unit_exponent(std::string_view suffix) {
  if (suffix.empty()) return -1;
  const char letter = static_cast<char>(suffix[0] >= 'a' ? suffix[0] - 'a' + 'A' : suffix[0]);
  const auto at = kUnits.find(letter);
  if (at == std::string_view::npos) return -1;
  const std::string_view rest = suffix.substr(1);
  const bool known = rest.empty() || (at > 0 && (rest == "iB" || rest == "ib" || rest == "B" || rest == "b"));
  return known ? static_cast<int>(at) : -1;
}

}  // namespace

std::uint64_t parse_size(std::string_view text, std::uint64_t bare_unit, std::string_view what) {
  const auto wrong = [&](std::string_view why) {
    return UsageError(fmt::format("{} '{}' {}", what, text, why),
                      "sizes are numbers with an optional unit, such as 512M, 4G, 100G or 1T");
  };
  std::uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem == std::errc::result_out_of_range) throw wrong("is too large");
  if (problem != std::errc() || end == text.data()) throw wrong("is not a size");
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  std::uint64_t unit = bare_unit;
  if (!suffix.empty()) {
    const int exponent = unit_exponent(suffix);
    if (exponent < 0) throw wrong("is not a size");
    unit = std::uint64_t{1} << (10 * exponent);
  }
  if (number == 0) throw wrong("must be more than zero");
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / unit) throw wrong("is too large");
  return number * unit;
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < KiB) return fmt::format("{}B", bytes);
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const char letter = kUnits[unit];
  if (value >= 100) return fmt::format("{:.0f}{}", value, letter);
  if (value >= 10) return fmt::format("{:.1f}{}", value, letter);
  return fmt::format("{:.2f}{}", value, letter);
}

std::string exact_size(std::uint64_t bytes) {
  std::size_t unit = 0;
  while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}", bytes) : fmt::format("{}{}", bytes, kUnits[unit]);
}

}  // namespace kld
