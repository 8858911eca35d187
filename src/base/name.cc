// SPDX-License-Identifier: Apache-2.0
#include "base/name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace kld {
namespace {

// Words that commands take in a machine's place, now or by design.
constexpr std::array<std::string_view, 27> kVerbs = {
    "list",   "status", "all",   "snap",    "rollback", "undo",      "kept",    "drop",   "delete",
    "create", "clone",  "adopt", "recover", "help",     "plan",      "apply",   "verify", "seal",
    "update", "retire", "add",   "enable",  "forget",   "authorize", "version", "remove", "none"};

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

std::string shown(char c) {
  return c >= 0x20 && c < 0x7f ? fmt::format("'{}'", c) : fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c));
}

std::optional<std::string> bad_character(std::string_view name, std::string_view allowed) {
  for (const char c : name) {
    if (!is_alnum(c) && allowed.find(c) == std::string_view::npos) return fmt::format("contains {}", shown(c));
  }
  return std::nullopt;
}

std::optional<std::string> plain_name_problem(std::string_view name, std::size_t longest) {
  if (name.empty()) return "is empty";
  if (name[0] == '.') return "starts with '.', which would hide it";
  if (name[0] == '-') return "starts with '-'";
  if (const auto bad = bad_character(name, "-_.")) return bad;
  if (!is_alnum(name[0])) return fmt::format("starts with {}", shown(name[0]));
  if (name.size() > longest) return fmt::format("is {} characters long, {} are the limit", name.size(), longest);
  return std::nullopt;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::optional<std::string> machine_name_problem(std::string_view name) {
  if (auto problem = plain_name_problem(name, 63)) return problem;
  if (std::find(kVerbs.begin(), kVerbs.end(), name) != kVerbs.end()) return "is a word the commands use themselves";
  if (name == "isos") return "is the dataset of installation media";
  return std::nullopt;
}

std::optional<std::string> disk_label_problem(std::string_view label) { return plain_name_problem(label, 31); }

std::optional<std::string> snapshot_name_problem(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > 127) return fmt::format("is {} characters long, 127 are the limit", name.size());
  return bad_character(name, "-_.: ");
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(word.size() / 3, 2) + 1;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace kld
