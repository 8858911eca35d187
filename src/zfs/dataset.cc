// SPDX-License-Identifier: Apache-2.0
#include "zfs/dataset.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/process.h"
#include "zfs/parse.h"

namespace kld::zfs {
namespace {

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

std::string dataset_of(const std::string& snapshot) { return snapshot.substr(0, snapshot.find('@')); }
std::vector<std::string> names_of(const std::vector<Dataset>& datasets) {
  std::vector<std::string> names;
  for (const auto& dataset : datasets) names.push_back(dataset.name);
  return names;
}

std::string Snapshot::dataset() const { return dataset_of(name); }
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

// Thousands of datasets on a busy host take minutes; nothing is better than waiting.
constexpr auto kListingLimit = std::chrono::minutes(15);

/// What the tool says of those of the names that exist.
struct Found {
  std::string text;
  bool all = true;  ///< none of the names is missing
};

Found list(const std::string& types, const std::string& wanted, const std::vector<std::string>& options,
           const std::vector<std::string>& names, const std::function<void()>& on_start) {
  Argv argv = {"zfs", "list", "-Hp", "-t", types, "-o", wanted};
  argv.insert(argv.end(), options.begin(), options.end());
  argv.insert(argv.end(), names.begin(), names.end());
  ProcessOptions how;
  how.limit = kListingLimit;
  how.on_start = on_start;
  auto result = run_process(argv, how);
  const bool all = result.status == 0;
  if (all || is_missing(result)) return {std::move(result.out), all};
  fail(fmt::format("cannot list '{}'", names.front()), result);
}

Found list_all(const std::vector<std::string>& names, const std::function<void()>& on_start = nullptr) {
  return list("filesystem,volume", dataset_columns(), {"-r"}, names, on_start);
}

/// -d 1 reaches a filesystem's children, too: `.state/web` would bring in the snapshots of `.state/web/tpm` twice.
void keep_own(std::vector<Snapshot>& snapshots, const std::vector<std::string>& datasets) {
  std::erase_if(snapshots, [&](const Snapshot& snapshot) {
    return std::find(datasets.begin(), datasets.end(), snapshot.dataset()) == datasets.end();
  });
  snapshots.erase(std::unique(snapshots.begin(), snapshots.end()), snapshots.end());
}

}  // namespace

std::optional<std::vector<Dataset>> list_datasets(const std::string& root, const std::function<void()>& on_start) {
  const auto found = list_all({root}, on_start);
  return found.all ? std::optional(parse_datasets(found.text)) : std::nullopt;
}

std::vector<Dataset> list_below(const std::vector<std::string>& datasets) {
  auto found = parse_datasets(list_all(datasets).text);
  std::erase_if(found, [&](const Dataset& one) {
    return std::find(datasets.begin(), datasets.end(), one.name) != datasets.end();
  });
  return found;
}

Listing list_shallow(const std::vector<std::string>& datasets, bool snapshots, const std::function<void()>& on_start) {
  if (!snapshots) {
    const auto found = list("filesystem,volume", dataset_columns(), {"-d", "1"}, datasets, on_start);
    return {parse_datasets(found.text), {}};
  }
  const auto found = list("filesystem,volume,snapshot", mixed_columns(), {"-d", "1"}, datasets, on_start);
  auto listing = parse_listing(found.text);
  keep_own(listing.snapshots, datasets);
  return listing;
}

std::vector<Dataset> list_origins(const std::string& pool) {
  ProcessOptions how;
  how.limit = kListingLimit;
  const auto result =
      run_process({"zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,origin", pool}, how);
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
  Argv argv = {"zfs", "list", "-Hp", "-d", "1", "-t", "snapshot", "-o", snapshot_columns(sizes)};
  argv.insert(argv.end(), datasets.begin(), datasets.end());
  ProcessOptions how;
  how.limit = kListingLimit;
  const auto result = run_process(argv, how);
  if (result.status != 0 && !is_missing(result)) fail("cannot list snapshots", result);
  auto snapshots = parse_snapshots(result.out, sizes);
  keep_own(snapshots, datasets);
  return snapshots;
}

std::vector<Snapshot> find_snapshots(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  return parse_snapshots(list("snapshot", snapshot_columns(false), {}, names, nullptr).text, false);
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
  return parse_number(std::string_view(result.out).substr(0, result.out.find('\n')));
}

std::map<std::string, std::uint64_t> dataset_guids(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  Argv argv = {"zfs", "get", "-Hp", "-o", "name,value", "guid"};
  argv.insert(argv.end(), names.begin(), names.end());
  const auto result = run_process(argv);
  if (result.status != 0 && !is_missing(result)) fail("cannot read guids", result);
  std::map<std::string, std::uint64_t> guids;
  for_each_line(result.out, 2, [&](const std::vector<std::string_view>& field) {
    guids[std::string(field[0])] = parse_number(field[1]);
  });
  return guids;
}

std::map<std::string, std::string> origins_of(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  Argv argv = {"zfs", "get", "-Hp", "-o", "name,value", "origin"};
  argv.insert(argv.end(), names.begin(), names.end());
  const auto result = run_process(argv);
  if (result.status != 0 && !is_missing(result)) fail("cannot read origins", result);
  std::map<std::string, std::string> origins;
  for_each_line(result.out, 2, [&](const std::vector<std::string_view>& field) {
    if (field[1] != "-") origins[std::string(field[0])] = field[1];
  });
  return origins;
}

std::map<std::string, Properties> own_properties(const std::vector<std::string>& names) {
  std::map<std::string, Properties> all;
  if (names.empty()) return all;
  Argv argv = {"zfs", "get", "-Hp", "-s", "local,received", "-o", "name,property,value", "all"};
  argv.insert(argv.end(), names.begin(), names.end());
  const auto result = run_process(argv);
  if (result.status != 0) fail("cannot read properties", result);
  for_each_line(result.out, 3, [&](const std::vector<std::string_view>& field) {
    all[std::string(field[0])][std::string(field[1])] = field[2];
  });
  return all;
}

std::vector<Bookmark> list_bookmarks(const std::vector<std::string>& datasets) {
  if (datasets.empty()) return {};
  const auto found = list("bookmark", "name,createtxg", {"-d", "1"}, datasets, nullptr);
  std::vector<Bookmark> bookmarks;
  for_each_line(found.text, 2, [&](const std::vector<std::string_view>& field) {
    const std::string name(field[0]);
    const auto owner = name.substr(0, name.find('#'));
    // -d 1 reaches a filesystem's children, too.
    if (std::find(datasets.begin(), datasets.end(), owner) == datasets.end()) return;
    bookmarks.push_back({name, parse_number(field[1])});
  });
  return bookmarks;
}

UnixTime creation_time(const std::string& name) {
  const auto result = run_process({"zfs", "get", "-Hp", "-o", "value", "creation", name});
  if (result.status == 0) {
    return static_cast<UnixTime>(parse_number(std::string_view(result.out).substr(0, result.out.find('\n'))));
  }
  if (is_missing(result)) return 0;
  fail(fmt::format("cannot look at '{}'", name), result);
}

std::map<std::string, UnixTime> creation_times(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  Argv argv = {"zfs", "get", "-Hp", "-o", "name,value", "creation"};
  argv.insert(argv.end(), names.begin(), names.end());
  const auto result = run_process(argv);
  if (result.status != 0 && !is_missing(result)) fail("cannot read times", result);
  std::map<std::string, UnixTime> times;
  for_each_line(result.out, 2, [&](const std::vector<std::string_view>& field) {
    times[std::string(field[0])] = static_cast<UnixTime>(parse_number(field[1]));
  });
  return times;
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
