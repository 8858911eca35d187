// SPDX-License-Identifier: Apache-2.0
#include "run/config.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include "base/error.h"
#include "run/file.h"
#include "zfs/change.h"

namespace kld::run {
namespace {

UsageError wrong(const std::string& path, const toml::source_region& where, const std::string& what) {
  return UsageError(fmt::format("{}:{}:{}: {}", path, where.begin.line, where.begin.column, what),
                    "see kvm.toml(5) for what the file may hold");
}

std::string text_value(const std::string& path, const toml::key& key, const toml::node& node) {
  const auto value = node.value<std::string>();
  if (!value || !node.is_string() || value->empty()) {
    throw wrong(path, node.source(), fmt::format("'{}' wants a text in quotes", key.str()));
  }
  return *value;
}

}  // namespace

Config parse_config(const std::string& text, const std::string& path) {
  Config config;
  config.path = path;
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& problem) {
    throw wrong(path, problem.source(), std::string(problem.description()));
  }
  for (const auto& [key, node] : table) {
    if (key == "root") {
      config.root = text_value(path, key, node);
    } else if (key == "root_guid") {
      const std::string guid = text_value(path, key, node);
      std::uint64_t value = 0;
      const auto [end, problem] = std::from_chars(guid.data(), guid.data() + guid.size(), value);
      if (problem != std::errc() || end != guid.data() + guid.size()) {
        throw wrong(path, node.source(), "'root_guid' wants a dataset's guid in quotes");
      }
      config.root_guid = value;
    } else if (key == "connect") {
      config.connect = text_value(path, key, node);
    } else if (key == "keep") {
      config.keep = text_value(path, key, node);
    } else if (key == "early_deletion") {
      if (!node.is_boolean()) throw wrong(path, node.source(), "'early_deletion' wants true or false");
      config.early_deletion = *node.value<bool>();
    } else {
      throw wrong(path, key.source(), fmt::format("unknown key '{}'", key.str()));
    }
  }
  return config;
}

Config load_config(const std::string& path) {
  const auto text = read_file(path, 1U << 20);
  if (!text) {
    Config config;
    config.path = path;
    return config;
  }
  return parse_config(*text, path);
}

void remember_root(const std::string& path, const std::string& root, std::uint64_t guid) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const std::string lines =
      fmt::format("# The VM root dataset, written down at first use.\nroot = \"{}\"\nroot_guid = \"{}\"\n", root, guid);
  // Before anything else: keys at the end would belong to the last table.
  write_file(path, lines + read_file(path).value_or(""), true);
}

namespace {

/// udev writes '+' for a blank: no device would be where libvirt is told that it is.
Root checked(Root root) {
  if (root.dataset.find(' ') == std::string::npos) return root;
  throw Refused({"root-name",
                 fmt::format("the root dataset '{}' has a blank in its name", root.dataset),
                 {},
                 "machines need a root without: zfs rename OLD NEW"});
}

}  // namespace

Root resolve_root(const std::optional<std::string>& flag, const Config& config) {
  if (flag) return checked({*flag, std::nullopt, false});
  if (const char* variable = std::getenv("KLD_ROOT"); variable != nullptr && *variable != '\0') {
    return checked({variable, std::nullopt, false});
  }
  if (config.root) return checked({*config.root, config.root_guid, false});
  const bool vmpool = zfs::exists("vmpool/vms");
  const bool rpool = zfs::exists("rpool/vms");
  if (vmpool && rpool) {
    throw Refused({"two-roots",
                   "two datasets could be the root of the machines",
                   {"vmpool/vms", "rpool/vms"},
                   fmt::format("write the one to use into {}: root = \"vmpool/vms\"", config.path)});
  }
  if (!vmpool && !rpool) {
    throw Refused({"no-root",
                   "there is no root dataset for machines: neither vmpool/vms nor rpool/vms exists",
                   {},
                   "create it, 'zfs create -o compression=lz4 -o volmode=dev POOL/vms', or name another with --root"});
  }
  return {vmpool ? "vmpool/vms" : "rpool/vms", std::nullopt, true};
}

}  // namespace kld::run
