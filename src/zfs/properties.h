// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

namespace kld::zfs {

/// ZFS and user properties as typed after `-o`: {"volblocksize": "65536", "com.kldload:machine": "web"}.
using Properties = std::map<std::string, std::string>;

/// Our user properties, by what they say.
namespace property {
inline constexpr char machine[] = "com.kldload:machine";
inline constexpr char disk[] = "com.kldload:disk";
inline constexpr char op[] = "com.kldload:op";
inline constexpr char clone_origin[] = "com.kldload:clone-origin";
inline constexpr char golden[] = "com.kldload:golden";
inline constexpr char by[] = "com.kldload:by";
inline constexpr char consistency[] = "com.kldload:consistency";
inline constexpr char kept[] = "com.kldload:kept";
inline constexpr char replica_of[] = "com.kldload:replica-of";
}  // namespace property

}  // namespace kld::zfs
