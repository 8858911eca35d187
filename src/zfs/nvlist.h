// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "zfs/properties.h"

// Declared, not included: the headers that ZFS brings along stay inside this layer's sources.
struct nvlist;

namespace kld::zfs {

struct NvlistFree {
  void operator()(nvlist* list) const;
};
using Nvlist = std::unique_ptr<nvlist, NvlistFree>;

Nvlist make_nvlist();
/// A set: each name with no value, as snapshot and destroy calls want.
Nvlist name_set(const std::vector<std::string>& names);
/// Native properties in the kernel's types (numbers, indices), user properties as strings. Throws on a native
/// property that this program does not set.
Nvlist native(const Properties& properties);

}  // namespace kld::zfs
