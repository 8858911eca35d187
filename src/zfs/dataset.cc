// SPDX-License-Identifier: Apache-2.0
#include "zfs/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "base/process.h"

namespace kld::zfs {
namespace {

constexpr std::array kUserProperties = {property::machine, property::disk, property::op,        property::clone_origin,
                                        property::golden,  property::kept, property::replica_of};
constexpr std::array kSnapshotProperties = {property::by, property::consistency, property::op};

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

template <typename Row>
void for_each_line(std::string_view text, std::size_t columns, Row&& row) {
  for (const auto line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto fields = split(line, '\t');
    if (fields.size() != columns) {
      throw Error(fmt::format("unexpected line from zfs ({} fields, {} expected): {}", fields.size(), columns, line));
    }
    row(fields);
  }
}

std::uint64_t number(std::string_view field) {
  if (field == "-" || field == "none" || field.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (problem != std::errc() || end != field.data() + field.size()) {
    throw Error(fmt::format("unexpected number from zfs: '{}'", field));
  }
  return value;
}

double ratio(std::string_view field) {
  if (!field.empty() && field.back() == 'x') field.remove_suffix(1);
  double value = 1.0;
  const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
  return problem == std::errc() && end == field.data() + field.size() ? value : 1.0;
}

std::string unless_dash(std::string_view field) { return field == "-" ? std::string() : std::string(field); }

template <typename Names>
Properties user_properties(const Names& names, const std::vector<std::string_view>& fields, std::size_t first) {
  Properties result;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (fields[first + i] != "-") result[names[i]] = std::string(fields[first + i]);
  }
  return result;
}

constexpr std::array kColumns = {"name",    "type",          "guid",           "createtxg",    "origin",
                                 "used",    "referenced",    "volsize",        "volblocksize", "refreservation",
                                 "written", "compressratio", "mountpoint",     "mounted",      "canmount",
                                 "volmode", "keystatus",     "encryptionroot", "available"};
// What a snapshot has beyond these, in a listing of both.
constexpr std::array kMixedColumns = {"creation", "userrefs", "clones", property::by, property::consistency};
constexpr std::array kSnapshotColumns = {"name", "guid", "createtxg", "creation", "userrefs", "clones"};
constexpr std::array kSnapshotSizes = {"used", "referenced", "written"};

template <typename... Lists>
std::string columns(const Lists&... lists) {
  std::string result;
  const auto add = [&](const auto& list) {
    for (const auto* name : list) result += (result.empty() ? "" : ",") + std::string(name);
  };
  (add(lists), ...);
  return result;
}

/// Names that do not exist are what it complains about, and nothing else is.
bool is_missing(const ProcessResult& result) {
  for (const auto line : split(result.err, '\n')) {
    const bool about_a_name =
        line.find("does not exist") != std::string_view::npos || line.find("no such pool") != std::string_view::npos;
    if (!line.empty() && !about_a_name) return false;
  }
  return result.status == 1 && !result.err.empty();
}

[[noreturn]] void fail(const std::string& what, const ProcessResult& result) {
  std::string words = result.err.substr(0, result.err.find('\n'));
  if (words.find("ZFS modules") != std::string::npos || words.find("/dev/zfs") != std::string::npos) {
    throw Error("ZFS is not loaded on this host", "load it with 'modprobe zfs'");
  }
  throw Error(fmt::format("{}: {}", what, words.empty() ? fmt::format("exit status {}", result.status) : words));
}

}  // namespace

std::string Dataset::property(const std::string& name_of) const {
  const auto found = user.find(name_of);
  return found == user.end() ? std::string() : found->second;
}

std::string Snapshot::property(const std::string& name_of) const {
  const auto found = user.find(name_of);
  return found == user.end() ? std::string() : found->second;
}

std::string Snapshot::dataset() const { return name.substr(0, name.find('@')); }
std::string Snapshot::short_name() const {
  const auto at = name.find('@');
  return at == std::string::npos ? std::string() : name.substr(at + 1);
}

std::string pool_of(std::string_view dataset) { return std::string(dataset.substr(0, dataset.find_first_of("/@"))); }

std::string last_component(std::string_view dataset) {
  const auto slash = dataset.rfind('/');
  return std::string(slash == std::string_view::npos ? dataset : dataset.substr(slash + 1));
}

std::string parent_of(std::string_view dataset) {
  const auto slash = dataset.rfind('/');
  return slash == std::string_view::npos ? std::string() : std::string(dataset.substr(0, slash));
}

bool is_below(std::string_view dataset, std::string_view ancestor) {
  return dataset.size() > ancestor.size() && dataset.substr(0, ancestor.size()) == ancestor &&
         dataset[ancestor.size()] == '/';
}

namespace {

Dataset read_dataset(const std::vector<std::string_view>& field) {
  Dataset dataset;
  dataset.name = field[0];
  dataset.kind = field[1] == "volume" ? Kind::volume : Kind::filesystem;
  dataset.guid = number(field[2]);
  dataset.createtxg = number(field[3]);
  dataset.origin = unless_dash(field[4]);
  dataset.used = number(field[5]);
  dataset.referenced = number(field[6]);
  dataset.volsize = number(field[7]);
  dataset.volblocksize = number(field[8]);
  dataset.refreservation = number(field[9]);
  dataset.written = number(field[10]);
  dataset.compressratio = ratio(field[11]);
  dataset.mountpoint = unless_dash(field[12]);
  dataset.mounted = field[13] == "yes";
  dataset.can_mount = field[14] != "off";
  dataset.volmode = unless_dash(field[15]);
  dataset.key_missing = field[16] == "unavailable";
  dataset.encryption_root = unless_dash(field[17]);
  dataset.available = number(field[18]);
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
  snapshot.guid = number(field[2]);
  snapshot.createtxg = number(field[3]);
  snapshot.used = number(field[5]);
  snapshot.referenced = number(field[6]);
  snapshot.written = number(field[10]);
  constexpr std::size_t mixed = kColumns.size() + kUserProperties.size();
  snapshot.creation = static_cast<UnixTime>(number(field[mixed]));
  snapshot.holds = number(field[mixed + 1]);
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
    snapshot.guid = number(field[1]);
    snapshot.createtxg = number(field[2]);
    snapshot.creation = static_cast<UnixTime>(number(field[3]));
    snapshot.holds = number(field[4]);
    snapshot.clones = clones_in(field[5]);
    if (sizes) {
      snapshot.used = number(field[6]);
      snapshot.referenced = number(field[7]);
      snapshot.written = number(field[8]);
    }
    snapshot.user = user_properties(kSnapshotProperties, field, first_user);
    result.push_back(std::move(snapshot));
  });
  sort_by_age(result);
  return result;
}

std::vector<Pool> parse_pools(std::string_view text) {
  std::vector<Pool> result;
  for_each_line(text, 6, [&](const std::vector<std::string_view>& field) {
    Pool pool;
    pool.name = field[0];
    pool.size = number(field[1]);
    pool.allocated = number(field[2]);
    pool.free = number(field[3]);
    pool.health = field[4];
    pool.readonly = field[5] == "on";
    result.push_back(std::move(pool));
  });
  return result;
}

namespace {

/// What the tool says of those of the names that exist.
struct Found {
  std::string text;
  bool all = true;  ///< none of the names is missing
};

Found list(const std::string& types, const std::string& wanted, const std::vector<std::string>& options,
           const std::vector<std::string>& names) {
  Argv argv = {"zfs", "list", "-Hp", "-t", types, "-o", wanted};
  argv.insert(argv.end(), options.begin(), options.end());
  argv.insert(argv.end(), names.begin(), names.end());
  auto result = run_process(argv);
  const bool all = result.status == 0;
  if (all || is_missing(result)) return {std::move(result.out), all};
  fail(fmt::format("cannot list '{}'", names.front()), result);
}

Found list_all(const std::vector<std::string>& names) {
  return list("filesystem,volume", columns(kColumns, kUserProperties), {"-r"}, names);
}

/// -d 1 reaches a filesystem's children, too: `.state/web` would bring in the snapshots of `.state/web/tpm` twice.
void keep_own(std::vector<Snapshot>& snapshots, const std::vector<std::string>& datasets) {
  std::erase_if(snapshots, [&](const Snapshot& snapshot) {
    return std::find(datasets.begin(), datasets.end(), snapshot.dataset()) == datasets.end();
  });
  snapshots.erase(std::unique(snapshots.begin(), snapshots.end()), snapshots.end());
}

}  // namespace

std::optional<std::vector<Dataset>> list_datasets(const std::string& root) {
  const auto found = list_all({root});
  return found.all ? std::optional(parse_datasets(found.text)) : std::nullopt;
}

std::vector<Dataset> list_below(const std::vector<std::string>& datasets) {
  auto found = parse_datasets(list_all(datasets).text);
  std::erase_if(found, [&](const Dataset& one) {
    return std::find(datasets.begin(), datasets.end(), one.name) != datasets.end();
  });
  return found;
}

Listing list_shallow(const std::vector<std::string>& datasets, bool snapshots) {
  if (!snapshots) {
    const auto found = list("filesystem,volume", columns(kColumns, kUserProperties), {"-d", "1"}, datasets);
    return {parse_datasets(found.text), {}};
  }
  const auto found =
      list("filesystem,volume,snapshot", columns(kColumns, kUserProperties, kMixedColumns), {"-d", "1"}, datasets);
  auto listing = parse_listing(found.text);
  keep_own(listing.snapshots, datasets);
  return listing;
}

std::vector<Dataset> list_origins(const std::string& pool) {
  const auto result = run_process({"zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,origin", pool});
  if (result.status != 0) fail(fmt::format("cannot list '{}'", pool), result);
  std::vector<Dataset> datasets;
  for_each_line(result.out, 2, [&](const std::vector<std::string_view>& field) {
    Dataset dataset;
    dataset.name = field[0];
    dataset.origin = unless_dash(field[1]);
    datasets.push_back(std::move(dataset));
  });
  return datasets;
}

std::vector<Snapshot> list_snapshots(const std::vector<std::string>& datasets, bool sizes) {
  if (datasets.empty()) return {};
  Argv argv = {"zfs",
               "list",
               "-Hp",
               "-d",
               "1",
               "-t",
               "snapshot",
               "-o",
               sizes ? columns(kSnapshotColumns, kSnapshotSizes, kSnapshotProperties)
                     : columns(kSnapshotColumns, kSnapshotProperties)};
  argv.insert(argv.end(), datasets.begin(), datasets.end());
  const auto result = run_process(
      argv, {.limit = std::chrono::minutes(5), .input = {}, .on_output = {}, .stop = {}, .dies_with_us = false});
  if (result.status != 0 && !is_missing(result)) fail("cannot list snapshots", result);
  auto snapshots = parse_snapshots(result.out, sizes);
  keep_own(snapshots, datasets);
  return snapshots;
}

std::optional<Pool> find_pool(const std::string& name) {
  const auto result = run_process({"zpool", "list", "-Hp", "-o", "name,size,allocated,free,health,readonly", name});
  if (result.status != 0) {
    if (is_missing(result)) return std::nullopt;
    fail(fmt::format("cannot look at pool '{}'", name), result);
  }
  const auto pools = parse_pools(result.out);
  return pools.empty() ? std::nullopt : std::optional(pools.front());
}

std::optional<std::uint64_t> dataset_guid(const std::string& name) {
  const auto result = run_process({"zfs", "get", "-Hp", "-o", "value", "guid", name});
  if (result.status != 0) {
    if (is_missing(result)) return std::nullopt;
    fail(fmt::format("cannot look at '{}'", name), result);
  }
  return number(std::string_view(result.out).substr(0, result.out.find('\n')));
}

UnixTime creation_time(const std::string& name) {
  const auto result = run_process({"zfs", "get", "-Hp", "-o", "value", "creation", name});
  if (result.status == 0) {
    return static_cast<UnixTime>(number(std::string_view(result.out).substr(0, result.out.find('\n'))));
  }
  if (is_missing(result)) return 0;
  fail(fmt::format("cannot look at '{}'", name), result);
}

std::vector<std::pair<std::string, std::string>> local_property(const std::string& property,
                                                                const std::vector<std::string>& names) {
  if (names.empty()) return {};
  Argv argv = {"zfs", "get", "-Hp", "-s", "local", "-o", "name,value", property};
  argv.insert(argv.end(), names.begin(), names.end());
  const auto result = run_process(argv);
  if (result.status != 0 && !is_missing(result)) fail("cannot read properties", result);
  std::vector<std::pair<std::string, std::string>> values;
  for_each_line(result.out, 2, [&](const std::vector<std::string_view>& field) {
    values.emplace_back(std::string(field[0]), std::string(field[1]));
  });
  return values;
}

}  // namespace kld::zfs
