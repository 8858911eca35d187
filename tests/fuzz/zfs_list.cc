// SPDX-License-Identifier: Apache-2.0
// The parsers of `zfs list -Hp` and `zpool list -Hp`: any text is read or refused by an Error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "zfs/parse.h"
#include "zfs/txg.h"

namespace {

template <typename Parse>
void try_parse(Parse&& parse) {
  try {
    parse();
  } catch (const kld::Error&) {  // the only exception that may come out
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_parse([&] {
    for (const auto& dataset : kld::zfs::parse_datasets(text)) {
      kld::zfs::pool_of(dataset.name);
      if (kld::zfs::is_below(dataset.name, dataset.name)) std::abort();
      const auto parent = kld::zfs::parent_of(dataset.name);
      if (!parent.empty() && !kld::zfs::is_below(dataset.name, parent)) std::abort();
    }
  });
  try_parse([&] { kld::zfs::newest_txg(text); });
  try_parse([&] {
    const auto listing = kld::zfs::parse_listing(text);
    for (const auto& dataset : listing.datasets) kld::zfs::last_component(dataset.name);
    for (const auto& snapshot : listing.snapshots) snapshot.short_name();
  });
  for (const bool sizes : {false, true}) {
    try_parse([&] {
      std::uint64_t before = 0;
      for (const auto& snapshot : kld::zfs::parse_snapshots(text, sizes)) {
        if (snapshot.createtxg < before) std::abort();
        before = snapshot.createtxg;
        snapshot.dataset();
        snapshot.short_name();
      }
    });
  }
  try_parse([&] { kld::zfs::parse_pools(text); });
  return 0;
}
