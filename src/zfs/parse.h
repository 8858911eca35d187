// SPDX-License-Identifier: Apache-2.0
// The `-Hp` output of zfs and zpool: which columns are asked for, and what their lines mean. Apart from asking, so that
// it can be tested on stored text. Throws Error for lines that the tools never print.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "zfs/dataset.h"

namespace kld::zfs {

/// For -o, as the parsers below read them: of datasets, of datasets and snapshots together, of snapshots.
std::string dataset_columns();
std::string mixed_columns();
std::string snapshot_columns(bool sizes);

std::vector<Dataset> parse_datasets(std::string_view text);
Listing parse_listing(std::string_view text);
std::vector<Snapshot> parse_snapshots(std::string_view text, bool sizes);
std::vector<Pool> parse_pools(std::string_view text);

/// The snapshot that a resume token names, by what `zfs send -nvt TOKEN` prints; empty when it names none.
std::string snapshot_in_token(std::string_view text);

std::vector<std::string_view> split(std::string_view text, char separator);
/// Calls `row` with the fields of each line that is not empty.
void for_each_line(std::string_view text, std::size_t columns,
                   const std::function<void(const std::vector<std::string_view>&)>& row);
/// "-" and "none" are 0.
std::uint64_t parse_number(std::string_view field);
/// "-" is empty.
std::string unless_dash(std::string_view field);

}  // namespace kld::zfs
