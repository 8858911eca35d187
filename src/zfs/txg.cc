// SPDX-License-Identifier: Apache-2.0
#include "zfs/txg.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace kld::zfs {
namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<std::uint64_t> number_at(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() || *end == ' ' || *end == '\n';
  return problem == std::errc() && whole ? std::optional(value) : std::nullopt;
}

}  // namespace

// "txg      birth            state ndirty       nread …" and below it a line each, the number first. The first line is
// the kstat's own.
std::optional<std::uint64_t> newest_txg(std::string_view kstat) {
  std::optional<std::uint64_t> newest;
  const auto heading = kstat.find("txg ");
  if (heading == std::string_view::npos) return newest;
  for (auto end = kstat.find('\n', heading); end != std::string_view::npos; end = kstat.find('\n', end + 1)) {
    const auto txg = number_at(kstat.substr(end + 1));
    if (txg) newest = std::max(newest.value_or(0), *txg);
  }
  return newest;
}

std::optional<TxgClock> txg_clock(const std::string& pool) {
  const auto txg = newest_txg(text_of(fmt::format("/proc/spl/kstat/zfs/{}/txgs", pool)));
  const auto seconds = number_at(text_of("/sys/module/zfs/parameters/zfs_txg_timeout"));
  if (!txg || !seconds || *seconds == 0) return std::nullopt;
  return TxgClock{*txg, *seconds};
}

}  // namespace kld::zfs
