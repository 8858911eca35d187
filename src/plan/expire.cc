// SPDX-License-Identifier: Apache-2.0
#include "plan/expire.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "plan/kept_refusals.h"

namespace kld::plan {
namespace {

/// A transaction group takes as long as it takes: only a small part of the time that must have passed is clear evidence
/// that it did not.
constexpr std::uint64_t kShareToLiveThrough = 2;

std::string value_of(const std::map<std::string, std::string>& values, const std::string& key) {
  const auto found = values.find(key);
  return found == values.end() ? std::string() : found->second;
}

/// What keeps it, whatever depends on it; empty: its time is over.
std::string not_due(const Kept& kept, const ExpireFacts& facts, UnixTime now, bool& unclear) {
  if (kept.reason != kRolledBack && !kept.is_ghost())
    return fmt::format("set aside as '{}', which does not expire by itself", kept.reason);
  const auto expires = value_of(facts.expires, kept.container.name);
  if (expires.empty() || expires == "never") return "never expires";
  const auto time = parse_utc(expires);
  unclear = !time;
  if (!time) return fmt::format("expires at '{}', which is no UTC time", expires);
  if (now < *time) return fmt::format("until {}", expires);
  const auto created = facts.created.find(kept.container.name);
  if (created == facts.created.end()) return "when it was set aside is not known";
  const UnixTime lifetime = *time - created->second;
  if (lifetime <= 0) return {};
  if (!facts.clock) return "whether the clock is right cannot be told: the pool's transaction groups are not known";
  const auto groups = facts.clock->txg - std::min(facts.clock->txg, kept.container.createtxg);
  const auto lived = groups * facts.clock->seconds;
  if (lived >= static_cast<std::uint64_t>(lifetime) / kShareToLiveThrough) return {};
  return fmt::format(
      "expired at {}, but its pool has been in use for about {} of {} since: was the clock set, or the host off?",
      expires, format_age(static_cast<UnixTime>(lived)), format_age(lifetime));
}

/// What depends on it now, though `gone` is gone; empty: nothing.
std::string in_use(const View& view, const Kept& kept, const ExpireFacts& facts, const std::set<std::string>& gone) {
  std::set<std::string> own;
  for (const auto& doomed : doomed_with(kept)) own.insert(doomed.name);
  const zfs::Dataset* clone = nullptr;
  for (const auto& dataset : facts.origins) {
    const auto origin = zfs::dataset_of(dataset.origin);
    if (!own.contains(origin) || own.contains(dataset.name) || gone.contains(dataset.name)) continue;
    // A disk says more than the state that came with it.
    const bool is_disk = std::any_of(kept.disks.begin(), kept.disks.end(),
                                     [&](const MachineDisk& disk) { return disk.volume.name == origin; });
    if (clone == nullptr || is_disk) clone = &dataset;
    if (is_disk) break;
  }
  if (clone != nullptr) return fmt::format("{}{} was cloned from it", clone->name, owner_in_words(view, clone->name));
  for (const auto& snapshot : facts.snapshots) {
    if (snapshot.holds > 0 && own.contains(snapshot.dataset())) return fmt::format("{} is held", snapshot.name);
  }
  for (const auto& [snapshot, words] : facts.sends) {
    if (own.contains(zfs::dataset_of(snapshot))) return words;
  }
  for (const auto& [volume, words] : facts.holders) {
    if (own.contains(volume)) return words;
  }
  if (const auto refusal = kept_in_use(view, kept, {})) return refusal->evidence.front();
  if (!kept.is_ghost()) return {};
  for (const auto& older : kept_before(view, kept)) {
    if (!gone.contains(older.container.name)) return fmt::format("its older version '{}' is set aside", older.name);
  }
  return {};
}

}  // namespace

std::vector<Expiry> expired(const View& view, const ExpireFacts& facts, UnixTime now) {
  std::vector<Expiry> going;
  std::vector<Expiry> staying;
  for (auto& kept : all_kept(view)) {
    bool unclear = false;
    auto why = not_due(kept, facts, now, unclear);
    (why.empty() ? going : staying).push_back({std::move(kept), false, unclear, std::move(why)});
  }
  std::vector<Expiry> result;
  std::set<std::string> gone;
  // Each that goes may be what another waits for.
  for (;;) {
    const auto next = std::find_if(going.begin(), going.end(), [&](Expiry& one) {
      one.why = in_use(view, one.kept, facts, gone);
      return one.why.empty();
    });
    if (next == going.end()) break;
    for (const auto& doomed : doomed_with(next->kept)) gone.insert(doomed.name);
    result.push_back(std::move(*next));
    result.back().goes = true;
    going.erase(next);
  }
  staying.insert(staying.end(), std::make_move_iterator(going.begin()), std::make_move_iterator(going.end()));
  std::stable_sort(staying.begin(), staying.end(), [](const Expiry& a, const Expiry& b) {
    return a.kept.container.createtxg < b.kept.container.createtxg;
  });
  result.insert(result.end(), std::make_move_iterator(staying.begin()), std::make_move_iterator(staying.end()));
  return result;
}

}  // namespace kld::plan
