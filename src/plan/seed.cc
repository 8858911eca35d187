// SPDX-License-Identifier: Apache-2.0
#include "plan/seed.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/name.h"
#include "plan/view.h"

namespace kld::plan {
namespace {

// A cloned disk carries its source's machine-id, and with it the same DHCP identity. cloud-init-per runs this once per
// instance; under KVM systemd derives the new id from the machine's UUID.
constexpr char kVendorData[] =
    "#cloud-config\n"
    "bootcmd:\n"
    "  - [cloud-init-per, instance, machine-id, sh, -c, 'rm -f /etc/machine-id /var/lib/dbus/machine-id; "
    "systemd-machine-id-setup']\n";

/// A YAML double-quoted scalar: JSON's string form is one.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string user_data_from(const SeedRequest& request) {
  std::string text = "#cloud-config\n";
  if (request.user || request.password_hash || !request.ssh_keys.empty()) {
    text += "users:\n";
    text += fmt::format("  - name: {}\n", quoted(request.user.value_or("root")));
    if (request.user) text += "    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n    shell: /bin/bash\n";
    if (request.password_hash) {
      text += fmt::format("    hashed_passwd: {}\n    lock_passwd: false\n", quoted(*request.password_hash));
    }
    if (!request.ssh_keys.empty()) {
      text += "    ssh_authorized_keys:\n";
      for (const auto& key : request.ssh_keys) text += fmt::format("      - {}\n", quoted(key));
    }
    if (request.user.value_or("root") == "root") text += "disable_root: false\n";
  }
  return text;
}

/// "#include" and archives may name what must be fetched first.
bool needs_network(const std::string& user_data) {
  return !user_data.starts_with("#cloud-config") && !user_data.starts_with("#!");
}

bool has_control(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

bool is_host_name(const std::string& name) {
  if (name.empty() || name.size() > 253 || name.front() == '-' || name.front() == '.') return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") ==
         std::string::npos;
}

}  // namespace

bool SeedRequest::any() const {
  return hostname || user || !ssh_keys.empty() || password_hash || user_data || network_config || instance_id;
}

std::optional<std::string> seed_problem(const SeedRequest& request) {
  if (request.user_data && (request.user || !request.ssh_keys.empty() || request.password_hash)) {
    return "--user-data says everything about users: it does not go with --user, --ssh-key or --password-hash";
  }
  if (request.hostname && !is_host_name(*request.hostname)) {
    return fmt::format("--hostname '{}' is not a host name", *request.hostname);
  }
  if (request.user && (request.user->empty() || machine_name_problem(*request.user) == "is empty" ||
                       has_control(*request.user) || request.user->find_first_of(" :/\"\\") != std::string::npos)) {
    return fmt::format("--user '{}' is not a user name", *request.user);
  }
  if (request.password_hash && (!request.password_hash->starts_with("$") || has_control(*request.password_hash))) {
    return "--password-hash wants a crypt(5) hash such as 'mkpasswd -m yescrypt' prints, never a password";
  }
  for (const auto& key : request.ssh_keys) {
    if (has_control(key) || key.find(' ') == std::string::npos) return "--ssh-key wants a file of public keys";
  }
  if (request.instance_id && (request.instance_id->empty() || has_control(*request.instance_id))) {
    return "--instance-id must be one line of text";
  }
  return std::nullopt;
}

SeedDocuments seed_documents(const SeedRequest& request, const SeedDocuments& before, const std::string& machine,
                             const std::string& uuid) {
  SeedDocuments documents = before;
  documents["meta-data"] =
      fmt::format("instance-id: {}\nlocal-hostname: {}\n", quoted(request.instance_id.value_or("iid-" + uuid)),
                  quoted(request.hostname.value_or(machine)));
  if (request.user_data) {
    documents["user-data"] = *request.user_data;
  } else if (request.user || !request.ssh_keys.empty() || request.password_hash || !documents.contains("user-data")) {
    documents["user-data"] = user_data_from(request);
  }
  // Applied before there is a network: with its source's machine-id a clone would be given its source's address.
  if (!needs_network(documents["user-data"])) documents["meta-data"] += "dsmode: local\n";
  if (request.network_config) documents["network-config"] = *request.network_config;
  if (!documents.contains("vendor-data")) documents["vendor-data"] = kVendorData;
  return documents;
}

std::string seed_directory(const std::string& machine) { return state_directory(machine) + "/seed"; }

std::vector<File> seed_files(const std::string& machine, const SeedDocuments& documents) {
  std::vector<File> files;
  for (const auto& [name, content] : documents) {
    files.push_back({fmt::format("{}/{}", seed_directory(machine), name), content, false, ""});
  }
  return files;
}

Seed seed_image(const std::string& machine, const SeedDocuments& documents) { return {seed_path(machine), documents}; }

}  // namespace kld::plan
