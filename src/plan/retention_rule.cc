// SPDX-License-Identifier: Apache-2.0
#include "plan/retention_rule.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace kld::plan {
namespace {

constexpr unsigned kMost = 100000;

struct Key {
  std::string_view name;
  std::optional<unsigned> RetentionRule::*member;
};

constexpr std::array kKeys = {Key{"hourly", &RetentionRule::hourly}, Key{"daily", &RetentionRule::daily},
                              Key{"weekly", &RetentionRule::weekly}, Key{"monthly", &RetentionRule::monthly},
                              Key{"last", &RetentionRule::last}};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

const Key* find_key(std::string_view name) {
  for (const auto& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

/// Why this word is none; empty: it is taken in.
std::string add_word(std::string_view word, RetentionRule& rule) {
  const auto equals = word.find('=');
  const auto name = trimmed(word.substr(0, equals));
  const auto* key = find_key(name);
  if (name == "none") return "'none' stands alone";
  if (key == nullptr) return fmt::format("'{}' is none of hourly, daily, weekly, monthly, last", name);
  if (rule.*key->member) return fmt::format("'{}' stands twice", name);
  const auto digits = equals == std::string_view::npos ? std::string_view() : trimmed(word.substr(equals + 1));
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (problem != std::errc() || end != digits.data() + digits.size() || value == 0 || value > kMost) {
    return fmt::format("'{}' wants a number from 1 to {}", name, kMost);
  }
  rule.*key->member = value;
  return {};
}

}  // namespace

std::variant<RetentionRule, std::string> parse_retention(std::string_view text) {
  RetentionRule rule;
  if (trimmed(text) == "none") {
    rule.none = true;
    return rule;
  }
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(',', start), text.size());
    if (auto problem = add_word(trimmed(text.substr(start, end - start)), rule); !problem.empty()) return problem;
    start = end + 1;
  }
  return rule;
}

}  // namespace kld::plan
