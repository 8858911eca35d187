// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <fmt/format.h>

#include <charconv>
#include <ctime>

#include "base/error.h"

namespace kld {

std::string format_utc(UnixTime time) {
  const std::time_t value = static_cast<std::time_t>(time);
  std::tm parts{};
  gmtime_r(&value, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::optional<UnixTime> parse_utc(std::string_view text) {
  const std::string owned(text);
  std::tm parts{};
  const char* rest = strptime(owned.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  if (rest == nullptr || *rest != '\0') return std::nullopt;
  const UnixTime time = timegm(&parts);
  // strptime accepts 2026-02-31 and single digits: only what prints back the same is a time.
  if (format_utc(time) != owned) return std::nullopt;
  return time;
}

UnixTime parse_duration(std::string_view text, std::string_view what) {
  const auto wrong = [&](std::string_view why) {
    return UsageError(fmt::format("{} '{}' {}", what, text, why),
                      "a number with its unit, such as 90s, 30m, 24h or 7d");
  };
  constexpr UnixTime kCentury = UnixTime{100} * 366 * 86400;
  UnixTime number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem == std::errc::result_out_of_range) throw wrong("is too long");
  if (problem != std::errc() || end + 1 != text.data() + text.size()) throw wrong("is not a duration");
  const UnixTime unit = *end == 's'   ? 1
                        : *end == 'm' ? 60
                        : *end == 'h' ? 3600
                        : *end == 'd' ? 86400
                        : *end == 'w' ? 7 * 86400
                                      : 0;
  if (unit == 0) throw wrong("is not a duration");
  if (number <= 0) throw wrong("must be more than zero");
  if (number > kCentury / unit) throw wrong("is too long");
  return number * unit;
}

std::string format_age(UnixTime seconds) {
  if (seconds < 0) return "in the future";
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{} min", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86400);
}

}  // namespace kld
