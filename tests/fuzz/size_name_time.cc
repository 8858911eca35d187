// SPDX-License-Identifier: Apache-2.0
// Words from a command line: sizes, names, times, snapshot names. What is taken must keep its promise.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/name.h"
#include "base/process.h"
#include "base/size.h"
#include "base/table.h"
#include "base/terminal.h"
#include "base/time.h"
#include "plan/snapshot.h"

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

void sizes(std::string_view text) {
  for (const std::uint64_t unit : {std::uint64_t{1}, kld::MiB, kld::GiB}) {
    try {
      const auto bytes = kld::parse_size(text, unit, "size");
      expect(bytes > 0 && bytes <= 0x7fffffffffffffffULL);
      expect(kld::parse_size(kld::exact_size(bytes), 1, "size") == bytes);
      expect(kld::format_size(bytes).size() <= 6);
    } catch (const kld::UsageError&) {  // the only exception that may come out
    }
  }
}

void names(std::string_view text) {
  if (!kld::machine_name_problem(text)) {
    expect(!text.empty() && text.size() <= 63 && text[0] != '-' && text[0] != '.');
    expect(text.find_first_of(std::string_view("/@#% \t\n\0'\"", 10)) == std::string_view::npos);
    expect(kld::shell_line({std::string(text)}) == text);
  }
  if (!kld::disk_label_problem(text)) expect(!text.empty() && text.size() <= 31);
  if (!kld::snapshot_name_problem(text)) {
    expect(text.find_first_of("/@") == std::string_view::npos);
    kld::plan::is_named(std::string(text), "clone");
  }
  const std::string word(text.substr(0, 64));
  expect(kld::nearest(word, {word}) == word);
}

void times(std::string_view text) {
  if (const auto time = kld::parse_utc(text)) expect(kld::format_utc(*time) == text);
}

void shown(std::string_view text) {
  const auto width = kld::display_width(text);
  expect(width <= 2 * text.size());
  const auto table = kld::format_table({{"NAME"}}, {{std::string(text)}});
  expect(table.find('\n') != std::string::npos && table.back() == '\n');
  expect(kld::display_width(kld::progress_line(text, 1, 2, std::chrono::seconds(1), 20)) <= 20);
  kld::is_yes(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  sizes(text);
  names(text);
  times(text);
  shown(text);
  return 0;
}
