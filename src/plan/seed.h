// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/step.h"

namespace kld::plan {

/// Contents of a NoCloud seed by document name: "meta-data", "user-data", "network-config", "vendor-data".
using SeedDocuments = std::map<std::string, std::string>;

/// The cloud-init flags, their files already read.
struct SeedRequest {
  std::optional<std::string> hostname;
  std::optional<std::string> user;
  std::vector<std::string> ssh_keys;  ///< public keys, one line each
  std::optional<std::string> password_hash;
  std::optional<std::string> user_data;
  std::optional<std::string> network_config;
  std::optional<std::string> instance_id;

  bool any() const;
};

/// A new instance's documents: `before` carries on, the request's words win, instance-id and host name are always
/// the new machine's own. vendor-data makes a copied system take a machine-id of its own at its first boot.
SeedDocuments seed_documents(const SeedRequest& request, const SeedDocuments& before, const std::string& machine,
                             const std::string& uuid);

/// Why the flags contradict each other or a value is wrong; nullopt when they are fine.
std::optional<std::string> seed_problem(const SeedRequest& request);

/// Directory inside a state filesystem where the seed's documents lie as plain files.
std::string seed_directory(const std::string& machine);

/// The steps that write the documents and the image made of them.
std::vector<File> seed_files(const std::string& machine, const SeedDocuments& documents);
Seed seed_image(const std::string& machine, const SeedDocuments& documents);

}  // namespace kld::plan
