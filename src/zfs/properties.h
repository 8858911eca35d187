// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

namespace kld::zfs {

/// ZFS and user properties as typed after `-o`: {"volblocksize": "65536", "com.kldload:machine": "web"}.
using Properties = std::map<std::string, std::string>;

/// True for a property that a dataset can be given in the call that makes it; others are set afterwards.
bool is_given_when_made(const std::string& name);
/// True for what ZFS fixes when a dataset is made, or computes: a clone cannot be given it.
bool is_fixed(const std::string& name);

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
inline constexpr char expires[] = "com.kldload:expires";
inline constexpr char autostart[] = "com.kldload:autostart";
inline constexpr char replica_of[] = "com.kldload:replica-of";
inline constexpr char keep[] = "com.kldload:keep";
inline constexpr char freeze[] = "com.kldload:freeze";
inline constexpr char held_back[] = "com.kldload:held-back";
}  // namespace property

}  // namespace kld::zfs
