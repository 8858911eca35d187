// SPDX-License-Identifier: Apache-2.0
// A retention rule, as a property or the configuration has it. What is taken keeps something, and says the same again.
#include "plan/retention_rule.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using kld::plan::RetentionRule;

void expect(bool holds) {
  if (!holds) std::abort();
}

std::string written(const RetentionRule& rule) {
  if (rule.none) return "none";
  std::string text;
  const auto add = [&](const char* name, const std::optional<unsigned>& value) {
    if (value) text += (text.empty() ? "" : ",") + std::string(name) + "=" + std::to_string(*value);
  };
  add("hourly", rule.hourly);
  add("daily", rule.daily);
  add("weekly", rule.weekly);
  add("monthly", rule.monthly);
  add("last", rule.last);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = kld::plan::parse_retention(text);
  if (const auto* problem = std::get_if<std::string>(&parsed)) {
    expect(!problem->empty());
    return 0;
  }
  const auto& rule = std::get<RetentionRule>(parsed);
  expect(!written(rule).empty());
  expect(std::get<RetentionRule>(kld::plan::parse_retention(written(rule))) == rule);
  return 0;
}
