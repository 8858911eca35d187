// SPDX-License-Identifier: Apache-2.0
// A pool's own clock: its transaction groups, which no setting of the host's clock can turn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kld::zfs {

struct TxgClock {
  std::uint64_t txg = 0;      ///< the newest that is known
  std::uint64_t seconds = 5;  ///< that one takes at least while nothing asks for it earlier (zfs_txg_timeout)
};

/// The newest transaction group in the text of /proc/spl/kstat/zfs/POOL/txgs; nullopt when there is none.
std::optional<std::uint64_t> newest_txg(std::string_view kstat);

/// Of an imported pool, by what the kernel says in /proc and /sys; nullopt when it does not say (zfs_txg_history=0).
std::optional<TxgClock> txg_clock(const std::string& pool);

}  // namespace kld::zfs
