// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace kld::run {

inline constexpr char kConfigFile[] = "/etc/kldload/kvm.toml";

/// What the file says; the environment and the flags are applied on top by the callers.
struct Config {
  std::string path;
  std::optional<std::string> root;
  std::optional<std::uint64_t> root_guid;
  std::optional<std::string> connect;
  std::optional<std::string> keep;  ///< how long automatic snapshots are kept, where a machine does not say
  bool early_deletion = false;      ///< a full pool takes what only the hourly rule keeps
};

/// Reads the file; one that is not there is empty. Throws UsageError with line and column when it is no TOML, names an
/// unknown key, or holds a value of the wrong kind.
Config load_config(const std::string& path);
/// The same of text, for tests and fuzzing.
Config parse_config(const std::string& text, const std::string& path);

/// Adds `root` and `root_guid` at the top of the file; everything else in it stays as it is.
void remember_root(const std::string& path, const std::string& root, std::uint64_t guid);

/// The VM root dataset in force and where it comes from.
struct Root {
  std::string dataset;
  std::optional<std::uint64_t> guid;  ///< what it must be, from the configuration
  bool remember = false;              ///< found by looking: to be written down at the first change
};

/// Flag over KLD_ROOT over the configuration; without any, the one of vmpool/vms and rpool/vms that exists.
/// Throws Refused when none or both do.
Root resolve_root(const std::optional<std::string>& flag, const Config& config);

}  // namespace kld::run
