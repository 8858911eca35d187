// SPDX-License-Identifier: Apache-2.0
// A journal that something else wrote to: any JSON is a step or an Error, and a step that was read is written back
// and read again the same.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/step.h"

namespace {

void take(const nlohmann::json& json) {
  try {
    const auto step = kld::plan::step_from_json(json);
    if (kld::plan::step_from_json(kld::plan::to_json(step)) != step) std::abort();
    kld::plan::describe(step);
    kld::plan::commands(step);
    if (const auto back = kld::plan::inverse(step)) kld::plan::describe(*back);
  } catch (const kld::Error&) {  // the only exception that may come out
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = nlohmann::json::parse(data, data + size, nullptr, false);
  if (json.is_discarded()) return 0;
  take(json);
  if (!json.is_object()) return 0;
  // The same body as every kind of step: mutations seldom meet a kind's name by themselves.
  for (const char* act :
       {"create-filesystem", "create-volume",       "clone-datasets",   "take-snapshots",  "copy-dataset",
        "mount-filesystems", "unmount-filesystems", "await-devices",    "await-unused",    "write-files",
        "write-seeds",       "write-image",         "copy-files",       "move-aside",      "rename-dataset",
        "set-properties",    "define-domains",      "undefine-domains", "redefine-domain", "save-definition",
        "set-autostart",     "start-domain",        "stop-domain",      "discard-saved",   "destroy-datasets",
        "destroy-snapshots", "destroy-own",         "restore-files"}) {
    auto renamed = json;
    renamed["act"] = act;
    take(renamed);
  }
  return 0;
}
