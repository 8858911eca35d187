// SPDX-License-Identifier: Apache-2.0
#include "zfs/nvlist.h"

#include <fmt/format.h>
#include <libnvpair.h>
#include <sys/fs/zfs.h>

#include <charconv>
#include <cstdint>
#include <new>
#include <set>

#include "base/error.h"

namespace kld::zfs {
namespace {

void added(int problem) {
  if (problem != 0) throw std::bad_alloc();
}

const std::map<std::string, std::map<std::string, std::uint64_t>>& indices() {
  static const std::map<std::string, std::uint64_t> on_off = {{"off", 0}, {"on", 1}};
  static const std::map<std::string, std::map<std::string, std::uint64_t>> table = {
      {"canmount", {{"off", ZFS_CANMOUNT_OFF}, {"on", ZFS_CANMOUNT_ON}, {"noauto", ZFS_CANMOUNT_NOAUTO}}},
      {"volmode",
       {{"default", ZFS_VOLMODE_DEFAULT},
        {"full", ZFS_VOLMODE_GEOM},
        {"dev", ZFS_VOLMODE_DEV},
        {"none", ZFS_VOLMODE_NONE}}},
      {"sync", {{"standard", ZFS_SYNC_STANDARD}, {"always", ZFS_SYNC_ALWAYS}, {"disabled", ZFS_SYNC_DISABLED}}},
      {"atime", on_off},
      {"devices", on_off},
      {"exec", on_off},
      {"setuid", on_off},
      {"readonly", on_off},
  };
  return table;
}

std::uint64_t number(const std::string& name, const std::string& value) {
  std::uint64_t result = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (problem != std::errc() || end != value.data() + value.size()) {
    throw Error(fmt::format("property {}={} is not a number of bytes", name, value));
  }
  return result;
}

bool is_text(const std::string& name) { return name.find(':') != std::string::npos || name == "mountpoint"; }
bool is_number(const std::string& name) {
  return name == "volsize" || name == "volblocksize" || name == "refreservation";
}

}  // namespace

bool is_given_when_made(const std::string& name) {
  return is_text(name) || is_number(name) || indices().contains(name);
}

bool is_fixed(const std::string& name) {
  static const std::set<std::string> fixed = {
      "volsize",        "volblocksize",     "encryption",       "keyformat", "keylocation",
      "pbkdf2iters",    "utf8only",         "normalization",    "version",   "casesensitivity",
      "snapshot_count", "filesystem_count", "snapshots_changed"};
  return fixed.contains(name);
}

void NvlistFree::operator()(nvlist* list) const { nvlist_free(list); }

Nvlist make_nvlist() {
  nvlist_t* list = nullptr;
  added(nvlist_alloc(&list, NV_UNIQUE_NAME, 0));
  return Nvlist(list);
}

Nvlist name_set(const std::vector<std::string>& names) {
  Nvlist set = make_nvlist();
  for (const auto& name : names) added(nvlist_add_boolean(set.get(), name.c_str()));
  return set;
}

Nvlist native(const Properties& properties) {
  Nvlist list = make_nvlist();
  for (const auto& [name, value] : properties) {
    if (is_text(name)) {
      added(nvlist_add_string(list.get(), name.c_str(), value.c_str()));
    } else if (is_number(name)) {
      added(nvlist_add_uint64(list.get(), name.c_str(), number(name, value)));
    } else {
      const auto known = indices().find(name);
      if (known == indices().end()) throw Error(fmt::format("property '{}' is not one this program sets", name));
      const auto index = known->second.find(value);
      if (index == known->second.end()) throw Error(fmt::format("'{}' is no value of property '{}'", value, name));
      added(nvlist_add_uint64(list.get(), name.c_str(), index->second));
    }
  }
  return list;
}

}  // namespace kld::zfs
