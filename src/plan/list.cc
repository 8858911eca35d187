// SPDX-License-Identifier: Apache-2.0
#include "plan/list.h"

#include <algorithm>
#include <unordered_map>

#include "plan/kept.h"

namespace kld::plan {
namespace {

using Names = std::set<std::string>;

// ---- What is there ----

/// The request with its view, where a dataset is found without a walk: listings are long.
struct Look {
  const View& view;
  const ListRequest& request;
  std::unordered_map<std::string_view, const zfs::Dataset*> by_name;

  Look(const View& seen, const ListRequest& asked) : view(seen), request(asked) {
    for (const auto& dataset : view.datasets) by_name.emplace(dataset.name, &dataset);
  }
  const zfs::Dataset* find(const std::string& name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
};

std::string relative(const View& view, const std::string& dataset) {
  return zfs::is_below(dataset, view.root) ? dataset.substr(view.root.size() + 1) : dataset;
}

bool is_set_aside(const View& view, const zfs::Dataset& dataset) {
  return zfs::is_below(dataset.name, view.root + "/.kept") || !dataset.property(zfs::property::kept).empty();
}

void add_sizes(Row& row) {
  double weighted = 0;
  for (const auto& disk : row.disks) {
    row.used += disk.volume.used;
    row.referenced += disk.volume.referenced;
    weighted += static_cast<double>(disk.volume.used) * disk.volume.compressratio;
    row.locked = row.locked || disk.volume.key_missing;
  }
  if (row.used > 0) {
    row.ratio = weighted / static_cast<double>(row.used);
  } else if (!row.disks.empty()) {
    row.ratio = row.disks.front().volume.compressratio;
  }
}

/// ZFS's word on where the first disk comes from; our property only where ZFS names a dataset that is no machine's. A
/// promotion turns the origin round, and the property stays behind.
void add_origin(Row& row, const Look& look) {
  if (row.disks.empty() || row.disks.front().volume.origin.empty()) return;
  const auto& volume = row.disks.front().volume;
  const auto at = std::min(volume.origin.find('@'), volume.origin.size());
  const auto dataset = volume.origin.substr(0, at);
  const auto snapshot = volume.origin.substr(at);
  const auto* found = look.find(dataset);
  row.parent = found == nullptr ? "" : found->property(zfs::property::machine);
  const auto said = volume.property(zfs::property::clone_origin);
  if (!row.parent.empty()) {
    row.origin = row.parent + snapshot;
  } else if (said.ends_with(snapshot) && said.size() > snapshot.size()) {
    row.origin = said;
  } else {
    row.origin = relative(look.view, dataset) + snapshot;
  }
}

std::vector<std::string> volumes_below_root(const Look& look, const virt::DomainInfo& domain) {
  std::vector<std::string> volumes;
  for (const auto& path : domain.block_paths) {
    auto volume = volume_of(path, look.request.volumes);
    if (zfs::is_below(volume, look.view.root)) volumes.push_back(std::move(volume));
  }
  return volumes;
}

std::string state_of(const Row& row) {
  if (row.interrupted) return "interrupted";
  if (!row.domain) return "no domain";
  if (virt::is_active(row.domain->state)) return virt::to_string(row.domain->state);
  if (row.locked) return "locked";
  if (!row.missing.empty() || (row.adopted && row.disks.empty())) return "no disk";
  return virt::to_string(row.domain->state);
}

/// What a domain without a volume here shows instead: the path of its first disk.
std::string path_shown(const Look& look, const virt::DomainInfo& domain) {
  const auto& paths = domain.block_paths;
  const auto path = std::find_if(paths.begin(), paths.end(), [](const auto& p) { return !p.ends_with(".iso"); });
  if (path == paths.end()) return "-";
  const auto volume = volume_of(*path, look.request.volumes);
  return volume.empty() ? *path : volume;
}

void finish(Row& row, const Look& look) {
  add_sizes(row);
  add_origin(row, look);
  row.interrupted = row.replica_of.empty() && row.kept.empty() && look.request.interrupted.contains(row.name);
  if (row.domain) {
    for (auto& volume : volumes_below_root(look, *row.domain)) {
      if (look.find(volume) == nullptr) row.missing.push_back(std::move(volume));
    }
  }
  row.zvol = !row.disks.empty() ? row.disks.front().volume.name : row.domain ? path_shown(look, *row.domain) : "-";
  row.state = !row.kept.empty() ? "deleted" : row.replica_of.empty() ? state_of(row) : "replica";
  const auto known = look.request.snapshots.find(row.name);
  if (row.adopted && known != look.request.snapshots.end()) row.snapshots = known->second;
}

Row machine_row(const Machine& machine) {
  Row row;
  row.name = machine.name;
  row.adopted = true;
  row.domain = machine.domain;
  for (const auto& disk : machine.disks) {
    row.disks.push_back({disk.label, disk.volume});
    row.golden = row.golden || disk.volume.property(zfs::property::golden) == "true";
  }
  for (const auto& part : {machine.state, machine.tpm}) row.locked = row.locked || (part && part->key_missing);
  return row;
}

Row stranger_row(const Look& look, const virt::DomainInfo& domain) {
  Row row;
  row.name = domain.name;
  row.domain = domain;
  for (const auto& volume : volumes_below_root(look, domain)) {
    const auto* dataset = look.find(volume);
    if (dataset != nullptr && dataset->kind == zfs::Kind::volume) row.disks.push_back({"", *dataset});
  }
  return row;
}

void add_replicas(std::vector<Row>& rows, const View& view) {
  std::map<std::string, Row> replicas;
  for (const auto& dataset : view.datasets) {
    const auto source = dataset.property(zfs::property::replica_of);
    if (source.empty() || dataset.kind != zfs::Kind::volume || is_set_aside(view, dataset)) continue;
    auto& row = replicas[source];
    row.replica_of = source;
    row.name = zfs::last_component(source);
    row.golden = row.golden || dataset.property(zfs::property::golden) == "true";
    row.disks.push_back({dataset.property(zfs::property::disk), dataset});
  }
  for (auto& [source, row] : replicas) {
    std::stable_partition(row.disks.begin(), row.disks.end(),
                          [](const auto& disk) { return disk.label == kFirstDisk; });
    rows.push_back(std::move(row));
  }
}

void add_unused_volumes(std::vector<Row>& rows, const Look& look) {
  Names used;
  for (const auto& row : rows) {
    for (const auto& disk : row.disks) used.insert(disk.volume.name);
  }
  for (const auto& domain : look.view.domains) {
    for (auto& volume : volumes_below_root(look, domain)) used.insert(std::move(volume));
  }
  for (const auto& dataset : look.view.datasets) {
    const bool claimed = !dataset.property(zfs::property::replica_of).empty() || is_set_aside(look.view, dataset);
    if (dataset.kind != zfs::Kind::volume || claimed || used.contains(dataset.name)) continue;
    Row row;
    row.name = relative(look.view, dataset.name);
    row.disks.push_back({"", dataset});
    rows.push_back(std::move(row));
  }
}

/// Deleted machines, for the tree: those that nobody was cloned from do not stay in it.
void add_ghosts(std::vector<Row>& rows, const View& view) {
  for (const auto& kept : all_kept(view)) {
    if (!kept.is_ghost()) continue;
    Row row;
    row.name = kept.machine;
    row.kept = kept.name;
    for (const auto& disk : kept.disks) row.disks.push_back({disk.label, disk.volume});
    rows.push_back(std::move(row));
  }
}

std::vector<Row> all_rows(const View& view, const ListRequest& request) {
  const Look look(view, request);
  std::vector<Row> rows;
  const auto known = machines(view);
  for (const auto& [name, machine] : known) rows.push_back(machine_row(machine));
  for (const auto& domain : view.domains) {
    const auto machine = known.find(domain.name);
    if (machine == known.end() || !machine->second.domain) rows.push_back(stranger_row(look, domain));
  }
  add_replicas(rows, view);
  add_unused_volumes(rows, look);
  if (request.tree) add_ghosts(rows, view);
  for (auto& row : rows) finish(row, look);
  return rows;
}

/// Clones behind their origins, siblings in the order given; with names, those subtrees alone.
class Tree {
 public:
  explicit Tree(std::vector<Row> rows) : rows_(std::move(rows)), parents_(rows_.size()), children_(rows_.size()) {
    std::unordered_map<std::string_view, std::size_t> row_of;
    for (std::size_t at = 0; at < rows_.size(); ++at) {
      for (const auto& disk : rows_[at].disks) row_of.emplace(disk.volume.name, at);
    }
    for (std::size_t at = 0; at < rows_.size(); ++at) {
      if (rows_[at].disks.empty()) continue;
      const std::string_view origin = rows_[at].disks.front().volume.origin;
      const auto found = row_of.find(origin.substr(0, origin.find('@')));
      if (found == row_of.end() || descends(found->second, at)) continue;
      parents_[at] = found->second;
      children_[found->second].push_back(at);
    }
  }

  std::vector<Row> drawn(const Names& names) const {
    std::vector<Row> result;
    for (std::size_t at = 0; at < rows_.size(); ++at) {
      const bool top = names.empty() ? !parents_[at] : names.contains(rows_[at].name) && !is_below(at, names);
      if (top && (is_shown(at) || names.contains(rows_[at].name))) draw(at, "", "", result);
    }
    return result;
  }

 private:
  /// A deleted machine is there for the sake of those that were cloned from it.
  bool is_shown(std::size_t at) const {
    return rows_[at].kept.empty() ||
           std::any_of(children_[at].begin(), children_[at].end(), [&](std::size_t child) { return is_shown(child); });
  }
  /// True when `at` is `ancestor` or below it. Machines of several disks can be each other's origin.
  bool descends(std::size_t at, std::size_t ancestor) const {
    for (std::optional<std::size_t> above = at; above; above = parents_[*above]) {
      if (*above == ancestor) return true;
    }
    return false;
  }
  bool is_below(std::size_t at, const Names& names) const {
    for (auto above = parents_[at]; above; above = parents_[*above]) {
      if (names.contains(rows_[*above].name)) return true;
    }
    return false;
  }
  void draw(std::size_t at, const std::string& branch, const std::string& indent, std::vector<Row>& result) const {
    result.push_back(rows_[at]);
    result.back().branch = branch;
    if (rows_[at].golden) result.back().mark = " (golden)";
    if (!rows_[at].kept.empty()) result.back().mark = " (deleted, kept until its clones are gone)";
    std::vector<std::size_t> shown = children_[at];
    std::erase_if(shown, [&](std::size_t child) { return !is_shown(child); });
    for (const auto child : shown) {
      const bool last = child == shown.back();
      draw(child, indent + (last ? "└─ " : "├─ "), indent + (last ? "   " : "│  "), result);
    }
  }

  std::vector<Row> rows_;
  std::vector<std::optional<std::size_t>> parents_;
  std::vector<std::vector<std::size_t>> children_;
};

}  // namespace

Listing list_machines(const View& view, const ListRequest& request) {
  auto rows = all_rows(view, request);
  const Names names(request.names.begin(), request.names.end());
  for (const auto& name : request.names) {
    const bool known = std::any_of(rows.begin(), rows.end(), [&](const Row& row) { return row.name == name; });
    if (!known) return no_such_machine(view, name);
  }
  sort_rows(rows, request.sort);
  if (request.tree) return Tree(std::move(rows)).drawn(names);
  if (!names.empty()) std::erase_if(rows, [&](const Row& row) { return !names.contains(row.name); });
  return rows;
}

}  // namespace kld::plan
