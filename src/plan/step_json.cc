// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/step.h"

namespace kld::plan {

using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CreateFilesystem, name, properties)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CreateVolume, name, size, properties)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CloneOf, snapshot, name, properties)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CloneDatasets, clones)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DomainName, name, uuid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Freeze, domain, seconds, required)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TakeSnapshots, names, properties, freezes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CopyDataset, snapshot, name, properties)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MountPoint, filesystem, directory)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MountFilesystems, mounts)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(UnmountFilesystems, mounts)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AwaitDevices, volumes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AwaitUnused, volumes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(File, path, content, existed, previous)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(WriteFiles, files, synced)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Seed, path, documents)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(WriteSeeds, seeds, sync)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WriteImage, image, format, volume, size)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CopyFiles, from, to)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MoveAside, from, to)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RenameDataset, from, to, guid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Promotion, past, present, guid, present_was)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PromoteDatasets, promotions, back)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SetProperties, dataset, properties, previous, guid, or_at)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DomainDefinition, name, uuid, xml)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(DefineDomains, domains, validate, sync)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(UndefineDomains, domains, stop_first)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(RedefineDomain, now, before, validate)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SaveDefinition, domain, path)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SetAutostart, domain, autostart)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StartDomain, domain)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StopDomain, domain, graceful_seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DiscardSaved, domain)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Doomed, name, guid, directory)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DestroyDatasets, datasets)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DoomedSnapshot, name, guid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DestroySnapshots, snapshots, if_unused)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GoingBack, dataset, snapshot, guid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CheckNewer, domain, datasets, snapshots, bookmarks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RollbackDatasets, datasets, bookmarks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(DestroyOwn, datasets, snapshots, op, if_unused)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RestoreFiles, files)

namespace {

// The words of the journal and of --json, in the order of Step's alternatives.
constexpr const char* kActs[] = {"create-filesystem", "create-volume",     "clone-datasets",      "take-snapshots",
                                 "copy-dataset",      "mount-filesystems", "unmount-filesystems", "await-devices",
                                 "await-unused",      "write-files",       "write-seeds",         "write-image",
                                 "copy-files",        "move-aside",        "rename-dataset",      "promote-datasets",
                                 "set-properties",    "define-domains",    "undefine-domains",    "redefine-domain",
                                 "save-definition",   "set-autostart",     "start-domain",        "stop-domain",
                                 "discard-saved",     "destroy-datasets",  "destroy-snapshots",   "check-newer",
                                 "rollback-datasets", "destroy-own",       "restore-files"};
static_assert(std::size(kActs) == std::variant_size_v<Step>);

template <std::size_t Index = 0>
Step read_alternative(std::size_t index, const Json& json) {
  if constexpr (Index < std::variant_size_v<Step>) {
    if (index == Index) return json.get<std::variant_alternative_t<Index, Step>>();
    return read_alternative<Index + 1>(index, json);
  } else {
    throw Error("a step of an unknown kind");
  }
}

Json size_of(const Json& text) { return {{"bytes", text.get<std::string>().size()}}; }

void hide_contents(Json& node) {
  if (node.is_array()) {
    for (auto& entry : node) hide_contents(entry);
  }
  if (!node.is_object()) return;
  for (auto& [key, value] : node.items()) {
    if ((key == "content" || key == "previous" || key == "xml") && value.is_string()) {
      value = size_of(value);
    } else if (key == "documents") {
      for (auto& document : value) document = size_of(document);
    } else if (key == "guid") {
      value = std::to_string(value.get<std::uint64_t>());
    } else {
      hide_contents(value);
    }
  }
}

}  // namespace

Json to_json(const Step& step) {
  Json json = std::visit([](const auto& act) { return Json(act); }, step);
  json["act"] = kActs[step.index()];
  return json;
}

Json to_public_json(const Step& step) {
  Json json = to_json(step);
  hide_contents(json);
  return json;
}

Step step_from_json(const Json& json) {
  try {
    const auto act = json.at("act").get<std::string>();
    for (std::size_t index = 0; index < std::size(kActs); ++index) {
      if (act == kActs[index]) return read_alternative(index, json);
    }
    throw Error(fmt::format("a step of an unknown kind: '{}'", act));
  } catch (const Json::exception& problem) {
    throw Error(fmt::format("a step that cannot be read: {}", problem.what()));
  }
}

}  // namespace kld::plan
