// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kld {

constexpr std::uint64_t KiB = 1024;
constexpr std::uint64_t MiB = 1024 * KiB;
constexpr std::uint64_t GiB = 1024 * MiB;
constexpr std::uint64_t TiB = 1024 * GiB;

/// Bytes of "512M", "4G", "1T", "100GiB"; a bare number counts `bare_unit` bytes. Suffixes are binary.
/// Throws UsageError naming `what` when it is no size, zero, or past 2^63-1.
std::uint64_t parse_size(std::string_view text, std::uint64_t bare_unit, std::string_view what);

/// As zfs prints it: "12.3G", "128K", "0B"; three significant digits, four from 1000 to 1023.
std::string format_size(std::uint64_t bytes);

/// The shortest exact form in whole binary units: "20G", "1536M".
std::string exact_size(std::uint64_t bytes);

}  // namespace kld
