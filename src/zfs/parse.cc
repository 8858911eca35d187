// SPDX-License-Identifier: Apache-2.0
#include "zfs/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"

namespace kld::zfs {
namespace {

constexpr std::array kUserProperties = {
    property::machine, property::disk,       property::op,   property::clone_origin, property::golden,
    property::kept,    property::replica_of, property::keep, property::freeze,       property::held_back};
constexpr std::array kSnapshotProperties = {property::by, property::consistency, property::op};

constexpr std::array kColumns = {"name",    "type",          "guid",           "createtxg",    "origin",
                                 "used",    "referenced",    "volsize",        "volblocksize", "refreservation",
                                 "written", "compressratio", "mountpoint",     "mounted",      "canmount",
                                 "volmode", "keystatus",     "encryptionroot", "available"};
// What a snapshot has beyond these, in a listing of both.
constexpr std::array kMixedColumns = {"creation", "userrefs", "clones", property::by, property::consistency};
constexpr std::array kSnapshotColumns = {"name", "guid", "createtxg", "creation", "userrefs", "clones"};
constexpr std::array kSnapshotSizes = {"used", "referenced", "written"};

double ratio(std::string_view field) {
  if (!field.empty() && field.back() == 'x') field.remove_suffix(1);
  double value = 1.0;
  const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
  return problem == std::errc() && end == field.data() + field.size() ? value : 1.0;
}

template <typename Names>
Properties user_properties(const Names& names, const std::vector<std::string_view>& fields, std::size_t first) {
  Properties result;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (fields[first + i] != "-") result[names[i]] = std::string(fields[first + i]);
  }
  return result;
}

template <typename... Lists>
std::string columns(const Lists&... lists) {
  std::string result;
  const auto add = [&](const auto& list) {
    for (const auto* name : list) result += (result.empty() ? "" : ",") + std::string(name);
  };
  (add(lists), ...);
  return result;
}

Dataset read_dataset(const std::vector<std::string_view>& field) {
  Dataset dataset;
  dataset.name = field[0];
  dataset.kind = field[1] == "volume" ? Kind::volume : Kind::filesystem;
  dataset.guid = parse_number(field[2]);
  dataset.createtxg = parse_number(field[3]);
  dataset.origin = unless_dash(field[4]);
  dataset.used = parse_number(field[5]);
  dataset.referenced = parse_number(field[6]);
  dataset.volsize = parse_number(field[7]);
  dataset.volblocksize = parse_number(field[8]);
  dataset.refreservation = parse_number(field[9]);
  dataset.written = parse_number(field[10]);
  dataset.compressratio = ratio(field[11]);
  dataset.mountpoint = unless_dash(field[12]);
  dataset.mounted = field[13] == "yes";
  dataset.can_mount = field[14] != "off";
  dataset.volmode = unless_dash(field[15]);
  dataset.key_missing = field[16] == "unavailable";
  dataset.encryption_root = unless_dash(field[17]);
  dataset.available = parse_number(field[18]);
  dataset.user = user_properties(kUserProperties, field, kColumns.size());
  return dataset;
}

std::vector<std::string> clones_in(std::string_view field) {
  std::vector<std::string> clones;
  if (field == "-" || field.empty()) return clones;
  for (const auto clone : split(field, ',')) clones.emplace_back(clone);
  return clones;
}

/// A snapshot's line among those of datasets.
Snapshot read_mixed_snapshot(const std::vector<std::string_view>& field) {
  Snapshot snapshot;
  snapshot.name = field[0];
  snapshot.guid = parse_number(field[2]);
  snapshot.createtxg = parse_number(field[3]);
  snapshot.used = parse_number(field[5]);
  snapshot.referenced = parse_number(field[6]);
  snapshot.written = parse_number(field[10]);
  constexpr std::size_t mixed = kColumns.size() + kUserProperties.size();
  snapshot.creation = static_cast<UnixTime>(parse_number(field[mixed]));
  snapshot.holds = parse_number(field[mixed + 1]);
  snapshot.clones = clones_in(field[mixed + 2]);
  snapshot.user = user_properties(std::array{property::by, property::consistency}, field, mixed + 3);
  const auto others = user_properties(kUserProperties, field, kColumns.size());
  if (const auto op = others.find(property::op); op != others.end()) snapshot.user.insert(*op);
  return snapshot;
}

void sort_by_age(std::vector<Snapshot>& snapshots) {
  std::stable_sort(snapshots.begin(), snapshots.end(), [](const Snapshot& a, const Snapshot& b) {
    return a.createtxg != b.createtxg ? a.createtxg < b.createtxg : a.name < b.name;
  });
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t start = 0;
  while (start <= text.size()) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

void for_each_line(std::string_view text, std::size_t columns,
                   const std::function<void(const std::vector<std::string_view>&)>& row) {
  for (const auto line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto fields = split(line, '\t');
    if (fields.size() != columns) {
      throw Error(fmt::format("unexpected line from zfs ({} fields, {} expected): {}", fields.size(), columns, line));
    }
    row(fields);
  }
}

std::uint64_t parse_number(std::string_view field) {
  if (field == "-" || field == "none" || field.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (problem != std::errc() || end != field.data() + field.size()) {
    throw Error(fmt::format("unexpected number from zfs: '{}'", field));
  }
  return value;
}

std::string unless_dash(std::string_view field) { return field == "-" ? std::string() : std::string(field); }

std::string dataset_columns() { return columns(kColumns, kUserProperties); }
std::string mixed_columns() { return columns(kColumns, kUserProperties, kMixedColumns); }
std::string snapshot_columns(bool sizes) {
  return sizes ? columns(kSnapshotColumns, kSnapshotSizes, kSnapshotProperties)
               : columns(kSnapshotColumns, kSnapshotProperties);
}

std::vector<Dataset> parse_datasets(std::string_view text) {
  std::vector<Dataset> result;
  for_each_line(text, kColumns.size() + kUserProperties.size(),
                [&](const std::vector<std::string_view>& field) { result.push_back(read_dataset(field)); });
  return result;
}

Listing parse_listing(std::string_view text) {
  Listing result;
  for_each_line(text, kColumns.size() + kUserProperties.size() + kMixedColumns.size(),
                [&](const std::vector<std::string_view>& field) {
                  if (field[1] == "snapshot") {
                    result.snapshots.push_back(read_mixed_snapshot(field));
                  } else {
                    result.datasets.push_back(read_dataset(field));
                  }
                });
  sort_by_age(result.snapshots);
  return result;
}

std::vector<Snapshot> parse_snapshots(std::string_view text, bool sizes) {
  std::vector<Snapshot> result;
  const std::size_t first_user = kSnapshotColumns.size() + (sizes ? kSnapshotSizes.size() : 0);
  for_each_line(text, first_user + kSnapshotProperties.size(), [&](const std::vector<std::string_view>& field) {
    Snapshot snapshot;
    snapshot.name = field[0];
    snapshot.guid = parse_number(field[1]);
    snapshot.createtxg = parse_number(field[2]);
    snapshot.creation = static_cast<UnixTime>(parse_number(field[3]));
    snapshot.holds = parse_number(field[4]);
    snapshot.clones = clones_in(field[5]);
    if (sizes) {
      snapshot.used = parse_number(field[6]);
      snapshot.referenced = parse_number(field[7]);
      snapshot.written = parse_number(field[8]);
    }
    snapshot.user = user_properties(kSnapshotProperties, field, first_user);
    result.push_back(std::move(snapshot));
  });
  sort_by_age(result);
  return result;
}

std::string snapshot_in_token(std::string_view text) {
  constexpr std::string_view kKey = "toname = ";
  for (const auto line : split(text, '\n')) {
    const auto at = line.find(kKey);
    if (at != std::string_view::npos) return std::string(line.substr(at + kKey.size()));
  }
  return {};
}

std::vector<Pool> parse_pools(std::string_view text) {
  std::vector<Pool> result;
  for_each_line(text, 6, [&](const std::vector<std::string_view>& field) {
    Pool pool;
    pool.name = field[0];
    pool.size = parse_number(field[1]);
    pool.allocated = parse_number(field[2]);
    pool.free = parse_number(field[3]);
    pool.health = field[4];
    pool.readonly = field[5] == "on";
    result.push_back(std::move(pool));
  });
  return result;
}

}  // namespace kld::zfs
