// SPDX-License-Identifier: Apache-2.0
#include "plan/retention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>

#include "base/time.h"

namespace kld::plan {
namespace {

constexpr UnixTime kHour = 3600;
constexpr UnixTime kDay = 24 * kHour;

/// A day, week or month that a time lies in: a number that grows by one from each to the next, and its name.
struct Period {
  std::int64_t number = 0;
  std::string name;
};

std::int64_t days_of(UnixTime time) { return time >= 0 ? time / kDay : (time - kDay + 1) / kDay; }

Period day_of(UnixTime time) { return {days_of(time), format_utc(time).substr(0, 10)}; }

Period month_of(UnixTime time) {
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{days_of(time)}}};
  const auto month = static_cast<std::int64_t>(static_cast<unsigned>(date.month()));
  return {static_cast<int>(date.year()) * std::int64_t{12} + month, format_utc(time).substr(0, 7)};
}

/// ISO 8601: weeks begin on Mondays, and belong to the year that their Thursday lies in.
Period week_of(UnixTime time) {
  const auto days = days_of(time);
  const auto since_monday = ((days + 3) % 7 + 7) % 7;  // 1970-01-01 was a Thursday
  const auto thursday = days - since_monday + 3;
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{thursday}}};
  const auto first = std::chrono::sys_days{date.year() / 1 / 1}.time_since_epoch().count();
  return {thursday, fmt::format("{}-W{:02}", static_cast<int>(date.year()), (thursday - first) / 7 + 1)};
}

/// The automatic ones of a machine, oldest first, and what each is kept for.
struct Autos {
  std::vector<Verdict*> all;
  std::map<const Verdict*, std::vector<std::string>> reasons;
  UnixTime now = 0;

  void keep(const Verdict& verdict, std::string reason) { reasons[&verdict].push_back(std::move(reason)); }
};

void by_age(Autos& autos, unsigned hours) {
  for (const auto* one : autos.all) {
    const auto age = autos.now - one->snapshot.creation;
    if (age < 0 || age >= hours * kHour) continue;
    autos.keep(*one, fmt::format("hourly: {} old, kept until {} h", format_age(age), hours));
  }
}

/// The oldest of each of the last so many periods that have one. What lies ahead counts as none: it would take the
/// place of real ones.
void by_period(Autos& autos, unsigned count, const char* rule, Period (*period_of)(UnixTime)) {
  std::map<std::int64_t, std::pair<const Verdict*, std::string>, std::greater<>> oldest;
  for (const auto* one : autos.all) {
    if (one->snapshot.creation > autos.now) continue;
    const auto period = period_of(one->snapshot.creation);
    oldest.try_emplace(period.number, one, period.name);
  }
  for (const auto& [number, found] : oldest) {
    if (count-- == 0) return;
    autos.keep(*found.first, fmt::format("{}: oldest of {}", rule, found.second));
  }
}

void newest(Autos& autos, std::size_t count, const std::string& reason) {
  for (auto one = autos.all.rbegin(); one != autos.all.rend() && count > 0; ++one, --count) autos.keep(**one, reason);
}

/// Why a snapshot is none of those that the timer made.
std::string foreign_reason(const MachineSnapshot& snapshot) {
  if (snapshot.by == "hand") return "by hand";
  // Its increment may be the next one to be sent.
  if (snapshot.by == "repl") return "base of a replication";
  if (snapshot.by == "clone" || snapshot.by == "safety" || snapshot.by == "golden") {
    return fmt::format("not by the clock: {}", snapshot.by);
  }
  return "not ours";
}

}  // namespace

bool is_automatic(const MachineSnapshot& snapshot) {
  return is_named(snapshot.name, "auto") &&
         std::all_of(snapshot.parts.begin(), snapshot.parts.end(),
                     [](const zfs::Snapshot& part) { return part.property(zfs::property::by) == "auto"; });
}

std::vector<Verdict> judge(const View& view, std::vector<MachineSnapshot> all, const RetentionRule& rule, UnixTime now,
                           bool early) {
  std::vector<Verdict> verdicts;
  verdicts.reserve(all.size());
  for (auto& snapshot : all) {
    const bool automatic = is_automatic(snapshot);
    verdicts.push_back({std::move(snapshot), automatic, false, {}});
  }
  Autos autos;
  autos.now = now;
  for (auto& verdict : verdicts) {
    if (verdict.automatic) autos.all.push_back(&verdict);
    if (!verdict.automatic) verdict.reason = foreign_reason(verdict.snapshot);
  }
  if (rule.none) {
    for (const auto* one : autos.all) autos.keep(*one, "keep=none: nothing is removed");
  }
  for (const auto* one : autos.all) {
    // The clock was wrong, then or now.
    if (one->snapshot.creation > now) autos.keep(*one, "its time is still to come");
  }
  if (rule.hourly && !early) by_age(autos, *rule.hourly);
  if (rule.daily) by_period(autos, *rule.daily, "daily", day_of);
  if (rule.weekly) by_period(autos, *rule.weekly, "weekly", week_of);
  if (rule.monthly) by_period(autos, *rule.monthly, "monthly", month_of);
  if (rule.last) newest(autos, *rule.last, fmt::format("last: one of the newest {}", *rule.last));
  newest(autos, kNewestKept, fmt::format("newest {}", kNewestKept));
  for (auto* one : autos.all) {
    if (one->snapshot.holds > 0) autos.keep(*one, "held");
    if (!one->snapshot.clones.empty()) {
      autos.keep(*one, fmt::format("cloned by {}", fmt::join(owners_of_clones(view, one->snapshot.clones), ", ")));
    }
    const auto& reasons = autos.reasons[one];
    one->goes = reasons.empty();
    const bool young = rule.hourly && now - one->snapshot.creation < *rule.hourly * kHour;
    one->reason = !one->goes ? fmt::format("{}", fmt::join(reasons, "; "))
                  : young    ? "kept by the hourly rule alone"
                             : "older than every rule";
  }
  return verdicts;
}

bool clock_jumped(const std::vector<MachineSnapshot>& all, UnixTime now) {
  std::optional<UnixTime> latest;
  for (const auto& snapshot : all) {
    if (is_automatic(snapshot)) latest = std::max(latest.value_or(snapshot.creation), snapshot.creation);
  }
  return !latest || now - *latest > kDay || *latest - now > kDay;
}

bool removes_most(const std::vector<Verdict>& verdicts) {
  const auto count = [&](auto&& predicate) { return std::count_if(verdicts.begin(), verdicts.end(), predicate); };
  return 2 * count([](const Verdict& one) { return one.goes; }) >
         count([](const Verdict& one) { return one.automatic; });
}

}  // namespace kld::plan
