// SPDX-License-Identifier: Apache-2.0
// How a listing is shown: columns, order, JSON.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/name.h"
#include "base/size.h"
#include "base/table.h"
#include "plan/list.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

std::string word(bool value) { return value ? "yes" : "no"; }

/// A column: its cell's text, and a number where it has one, by which it is then sorted.
struct Field {
  const char* title;
  Align align;
  bool wide;
  std::function<std::string(const Row&)> text;
  std::function<double(const Row&)> number;
};

const std::vector<Field>& fields() {
  const auto size = [](const Row& row, std::uint64_t bytes) { return row.disks.empty() ? "-" : format_size(bytes); };
  const auto count = [](const Row& row) { return row.snapshots ? row.snapshots->count : 0; };
  static const std::vector<Field> all = {
      {"NAME", Align::left, false, [](const Row& row) { return row.branch + row.name + row.mark; }, nullptr},
      {"STATE", Align::left, false, [](const Row& row) { return row.state; }, nullptr},
      {"ZVOL", Align::left, false, [](const Row& row) { return row.zvol; }, nullptr},
      {"USED", Align::right, false, [=](const Row& row) { return size(row, row.used); },
       [](const Row& row) { return static_cast<double>(row.used); }},
      {"REFER", Align::right, false, [=](const Row& row) { return size(row, row.referenced); },
       [](const Row& row) { return static_cast<double>(row.referenced); }},
      {"RATIO", Align::right, false,
       [](const Row& row) { return row.disks.empty() ? "-" : fmt::format("{:.2f}x", row.ratio); },
       [](const Row& row) { return row.ratio; }},
      {"ORIGIN", Align::left, false, [](const Row& row) { return or_dash(row.origin); }, nullptr},
      {"MEMORY", Align::right, true, [](const Row& row) { return row.domain ? format_size(row.domain->memory) : "-"; },
       [](const Row& row) { return row.domain ? static_cast<double>(row.domain->memory) : 0; }},
      {"VCPUS", Align::right, true, [](const Row& row) { return row.domain ? std::to_string(row.domain->vcpus) : "-"; },
       [](const Row& row) { return row.domain ? row.domain->vcpus : 0; }},
      {"SNAPSHOTS", Align::right, true,
       [=](const Row& row) { return row.snapshots ? std::to_string(count(row)) : "-"; },
       [=](const Row& row) { return static_cast<double>(count(row)); }},
      {"NEWEST", Align::left, true, [](const Row& row) { return row.snapshots ? or_dash(row.snapshots->newest) : "-"; },
       [](const Row& row) { return row.snapshots ? static_cast<double>(row.snapshots->created) : 0; }},
      {"CONSISTENCY", Align::left, true,
       [](const Row& row) { return row.snapshots ? or_dash(row.snapshots->consistency) : "-"; }, nullptr},
      {"AUTOSTART", Align::left, true, [](const Row& row) { return row.domain ? word(row.domain->autostart) : "-"; },
       nullptr},
  };
  return all;
}

std::string upper(std::string text) {
  for (char& letter : text) {
    if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
  }
  return text;
}

const Field& field_named(const std::string& given) {
  for (const auto& field : fields()) {
    if (upper(given) == field.title) return field;
  }
  const auto titles = list_columns();
  const auto near = nearest(upper(given), titles);
  throw UsageError(
      fmt::format("there is no column '{}' to sort by", given),
      near.empty() ? fmt::format("columns: {}", fmt::join(titles, " ")) : fmt::format("did you mean '{}'?", near));
}

nlohmann::json or_null(const std::string& text) { return text.empty() ? nlohmann::json() : nlohmann::json(text); }

nlohmann::json disk_json(const RowDisk& disk) {
  return {{"label", or_null(disk.label)},
          {"dataset", disk.volume.name},
          {"guid", std::to_string(disk.volume.guid)},
          {"device", zfs::device_path(disk.volume.name)},
          {"size_bytes", disk.volume.volsize},
          {"used_bytes", disk.volume.used},
          {"referenced_bytes", disk.volume.referenced},
          {"ratio", disk.volume.compressratio},
          {"origin", or_null(disk.volume.origin)}};
}

}  // namespace

std::vector<std::string> list_columns() {
  std::vector<std::string> titles;
  for (const auto& field : fields()) titles.emplace_back(field.title);
  return titles;
}

void check_sort(const std::string& sort) {
  if (!sort.empty()) (void)field_named(sort.starts_with('-') ? sort.substr(1) : sort);
}

void sort_rows(std::vector<Row>& rows, const std::string& sort) {
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.name < b.name; });
  if (sort.empty()) return;
  const bool reverse = sort.starts_with('-');
  const auto& field = field_named(reverse ? sort.substr(1) : sort);
  if (std::string_view(field.title) == "NAME" && !reverse) return;
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& left, const Row& right) {
    const Row& a = reverse ? right : left;
    const Row& b = reverse ? left : right;
    return field.number ? field.number(a) < field.number(b) : field.text(a) < field.text(b);
  });
}

std::string list_table(const std::vector<Row>& rows, bool wide) {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> cells(rows.size());
  for (const auto& field : fields()) {
    if (field.wide && !wide) continue;
    columns.push_back({field.title, field.align});
    for (std::size_t at = 0; at < rows.size(); ++at) cells[at].push_back(field.text(rows[at]));
  }
  return format_table(columns, cells);
}

nlohmann::json to_json(const std::vector<Row>& rows) {
  auto array = nlohmann::json::array();
  for (const auto& row : rows) {
    nlohmann::json entry = {{"name", row.name},
                            {"state", row.state},
                            {"domain_state", nullptr},
                            {"uuid", nullptr},
                            {"adopted", row.adopted},
                            {"golden", row.golden},
                            {"locked", row.locked},
                            {"interrupted", row.interrupted},
                            {"origin", or_null(row.origin)},
                            {"replica_of", or_null(row.replica_of)},
                            {"kept", or_null(row.kept)},
                            {"used_bytes", row.used},
                            {"referenced_bytes", row.referenced},
                            {"ratio", row.ratio},
                            {"disks", nlohmann::json::array()},
                            {"missing", row.missing},
                            {"paths", nlohmann::json::array()},
                            {"memory_bytes", nullptr},
                            {"vcpus", nullptr},
                            {"autostart", nullptr},
                            {"snapshots", nullptr}};
    for (const auto& disk : row.disks) entry["disks"].push_back(disk_json(disk));
    if (row.domain) {
      entry["domain_state"] = virt::to_string(row.domain->state);
      entry["uuid"] = row.domain->uuid;
      entry["paths"] = row.domain->block_paths;
      entry["memory_bytes"] = row.domain->memory;
      entry["vcpus"] = row.domain->vcpus;
      entry["autostart"] = row.domain->autostart;
    }
    if (row.snapshots) {
      const auto& snapshots = *row.snapshots;
      entry["snapshots"] = {{"count", snapshots.count},
                            {"newest", or_null(snapshots.newest)},
                            {"newest_created", or_null(snapshots.newest.empty() ? "" : format_utc(snapshots.created))},
                            {"newest_consistency", or_null(snapshots.consistency)}};
    }
    array.push_back(std::move(entry));
  }
  return array;
}

}  // namespace kld::plan
