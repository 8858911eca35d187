// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kld {

/// Seconds since 1970-01-01T00:00:00Z.
using UnixTime = std::int64_t;

/// "2026-04-04T14:35:00Z".
std::string format_utc(UnixTime time);

/// The reverse of format_utc; nullopt when it is not exactly that form or no such date.
std::optional<UnixTime> parse_utc(std::string_view text);

/// Seconds of "90s", "30m", "24h", "7d", "2w". Throws UsageError naming `what` when it is none, zero, or past a
/// century.
UnixTime parse_duration(std::string_view text, std::string_view what);

/// "3 min", "2 h", "5 d": how long ago, one unit.
std::string format_age(UnixTime seconds);

}  // namespace kld
