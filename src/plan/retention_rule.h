// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace kld::plan {

/// What holds where neither the machine nor the configuration says anything.
inline constexpr char kDefaultRetention[] = "hourly=48";

/// How long automatic snapshots are kept. A snapshot stays as long as one of these wants it.
struct RetentionRule {
  bool none = false;                ///< takes none, and removes none
  std::optional<unsigned> hourly;   ///< every one that is younger than so many hours
  std::optional<unsigned> daily;    ///< the oldest of each of the last so many days (UTC) that have one
  std::optional<unsigned> weekly;   ///< the same of ISO weeks
  std::optional<unsigned> monthly;  ///< the same of calendar months
  std::optional<unsigned> last;     ///< so many of the newest
  bool operator==(const RetentionRule&) const = default;
};

/// "hourly=48,daily=7,weekly=4,monthly=1,last=10", each at most once, from 1 to 100000; or "none". A text, why not,
/// when it is anything else.
std::variant<RetentionRule, std::string> parse_retention(std::string_view text);

}  // namespace kld::plan
