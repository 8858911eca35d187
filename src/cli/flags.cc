// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/size.h"
#include "run/file.h"

namespace kld::cli {
namespace {

std::string read_flag_file(const std::string& flag, const std::string& path) {
  std::optional<std::string> content;
  try {
    content = run::read_file(path, 1U << 20);
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}: {}", flag, error.message()));
  }
  if (!content) throw UsageError(fmt::format("{}: '{}' does not exist", flag, path));
  // What libvirt, cloud-init and our journal take.
  if (!is_utf8(*content)) throw UsageError(fmt::format("{}: '{}' is not UTF-8 text", flag, path));
  return *content;
}

}  // namespace

void add_freeze_flag(CLI::App& app, std::string& value) {
  app.add_flag("--freeze{always}", value,
               "Have the guest's agent freeze its file systems meanwhile; --freeze=try: where it can");
}

plan::FreezeMode freeze_mode(const std::string& value) {
  if (value.empty()) return plan::FreezeMode::never;
  if (value == "always") return plan::FreezeMode::always;
  if (value == "try") return plan::FreezeMode::attempt;
  throw UsageError(fmt::format("--freeze={} is neither --freeze nor --freeze=try", value));
}

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

void add_seed_flags(CLI::App& app, SeedFlags& flags) {
  const std::string group = "cloud-init";
  app.add_option("--hostname", flags.hostname, "Host name inside (the machine's name by default)")
      ->type_name("NAME")
      ->group(group);
  app.add_option("--user", flags.user, "User to create, with sudo")->type_name("NAME")->group(group);
  app.add_option("--ssh-key", flags.ssh_key_file, "File of public keys to let in")->type_name("FILE")->group(group);
  app.add_option("--password-hash", flags.password_hash, "crypt(5) hash of the user's password")
      ->type_name("HASH")
      ->group(group);
  app.add_option("--user-data", flags.user_data_file, "user-data document to use as it is")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--network-config", flags.network_config_file, "network-config document")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--instance-id", flags.instance_id, "Instance id (derived from the UUID by default)")
      ->type_name("ID")
      ->group(group);
}

plan::SeedRequest read_seed_flags(const SeedFlags& flags) {
  plan::SeedRequest request;
  request.hostname = flags.hostname;
  request.user = flags.user;
  request.password_hash = flags.password_hash;
  request.instance_id = flags.instance_id;
  if (flags.user_data_file) request.user_data = read_flag_file("--user-data", *flags.user_data_file);
  if (flags.network_config_file)
    request.network_config = read_flag_file("--network-config", *flags.network_config_file);
  if (flags.ssh_key_file) {
    std::istringstream lines(read_flag_file("--ssh-key", *flags.ssh_key_file));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (!line.empty() && line[0] != '#') request.ssh_keys.push_back(line);
    }
    if (request.ssh_keys.empty()) throw UsageError(fmt::format("--ssh-key: '{}' holds no key", *flags.ssh_key_file));
  }
  if (const auto problem = plan::seed_problem(request)) throw UsageError(*problem);
  return request;
}

std::uint64_t memory_size(const std::string& text) { return parse_size(text, MiB, "--ram"); }

unsigned positive(const std::string& text, const std::string& flag, unsigned most) {
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value == 0 || value > most) {
    throw UsageError(fmt::format("{} '{}' is not a number from 1 to {}", flag, text, most));
  }
  return value;
}

}  // namespace kld::cli
