// SPDX-License-Identifier: Apache-2.0
// Flags that several commands have, and the words they are made of.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan/freeze.h"
#include "plan/seed.h"

namespace kld::cli {

/// The cloud-init flags as typed; files are read when the command runs.
struct SeedFlags {
  std::optional<std::string> hostname, user, ssh_key_file, password_hash, user_data_file, network_config_file,
      instance_id;
};

void add_seed_flags(CLI::App& app, SeedFlags& flags);
/// Reads the files. Throws UsageError when one cannot be read.
plan::SeedRequest read_seed_flags(const SeedFlags& flags);

/// `--freeze`, `--freeze=try`.
void add_freeze_flag(CLI::App& app, std::string& value);
/// Throws UsageError for another value.
plan::FreezeMode freeze_mode(const std::string& value);

/// What libvirt's XML, cloud-init's YAML and the journal can hold.
bool is_utf8(const std::string& text);

/// "2048" (MiB), "4G": memory in bytes. Throws UsageError.
std::uint64_t memory_size(const std::string& text);
/// A count of at least 1. Throws UsageError naming the flag.
unsigned positive(const std::string& text, const std::string& flag, unsigned most);

}  // namespace kld::cli
