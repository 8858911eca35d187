// SPDX-License-Identifier: Apache-2.0
#include "virt/listing.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/size.h"
#include "virt/definition.h"

namespace kld::virt {

namespace {

constexpr unsigned wanted_stats =
    VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_BLOCK;
// A domain busy with a long job answers with what its definition says, which is all we read, instead of making us wait.
constexpr unsigned no_wait = VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;

struct Flag {
  unsigned filter;
  bool DomainInfo::*member;
  bool value;
};

constexpr std::array<Flag, 5> flags = {{
    {VIR_CONNECT_LIST_DOMAINS_TRANSIENT, &DomainInfo::persistent, false},
    {VIR_CONNECT_LIST_DOMAINS_AUTOSTART, &DomainInfo::autostart, true},
    {VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, &DomainInfo::has_managed_save, true},
    {VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, &DomainInfo::has_snapshots, true},
    {VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, &DomainInfo::has_checkpoints, true},
}};

std::string uuid_of(virDomainPtr domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> text{};
  check(api().virDomainGetUUIDString(domain, text.data()), "reading the UUID of a domain");
  return text.data();
}

/// "block.0.path", not "block.count" or "block.0.physical".
bool is_block_path(const virTypedParameter& parameter) {
  const std::string_view field = parameter.field;
  return parameter.type == VIR_TYPED_PARAM_STRING && field.starts_with("block.") && field.ends_with(".path");
}

/// What a driver without these statistics (libvirt's test driver) tells only by the definition.
void read_definition(DomainInfo& info, virDomainPtr domain) {
  const Definition definition = Definition::parse(
      take(check(api().virDomainGetXMLDesc(domain, 0), "reading the definition of '" + info.name + "'")));
  info.memory = definition.memory();
  info.vcpus = definition.vcpus();
  for (const Disk& disk : definition.disks())
    if ((disk.type == "block" || disk.type == "file") && !disk.source.empty()) info.block_paths.push_back(disk.source);
}

/// Only the disks of a paused domain know whether the error was a lack of space.
State refine_io_error(virDomainPtr domain) {
  const int disks = api().virDomainGetDiskErrors(domain, nullptr, 0, 0);
  if (disks <= 0) return State::paused_io_error;
  std::vector<virDomainDiskError> errors(static_cast<std::size_t>(disks));
  const int count = api().virDomainGetDiskErrors(domain, errors.data(), static_cast<unsigned>(disks), 0);
  State state = State::paused_io_error;
  for (int i = 0; i < count; ++i) {
    const virDomainDiskError& error = errors[static_cast<std::size_t>(i)];
    if (error.error == VIR_DOMAIN_DISK_ERROR_NO_SPACE) state = State::paused_no_space;
    std::free(error.disk);
  }
  return state;
}

DomainInfo read_record(const virDomainStatsRecord& record) {
  DomainInfo info;
  info.name = api().virDomainGetName(record.dom);
  info.uuid = uuid_of(record.dom);
  int state = VIR_DOMAIN_NOSTATE;
  int reason = 0;
  api().virTypedParamsGetInt(record.params, record.nparams, "state.state", &state);
  api().virTypedParamsGetInt(record.params, record.nparams, "state.reason", &reason);
  info.state = state_from(state, reason);
  if (info.state == State::paused_io_error) info.state = refine_io_error(record.dom);
  unsigned long long kib = 0;
  if (api().virTypedParamsGetULLong(record.params, record.nparams, "balloon.maximum", &kib) != 1) {
    read_definition(info, record.dom);
    return info;
  }
  info.memory = kib * KiB;
  api().virTypedParamsGetUInt(record.params, record.nparams, "vcpu.current", &info.vcpus);
  for (int i = 0; i < record.nparams; ++i)
    if (is_block_path(record.params[i])) info.block_paths.emplace_back(record.params[i].value.s);
  unsigned drives = 0;
  api().virTypedParamsGetUInt(record.params, record.nparams, "block.count", &drives);
  info.has_pathless_drives = info.block_paths.size() < drives;
  return info;
}

std::vector<DomainInfo> read_records(virDomainStatsRecordPtr* records, int count) {
  std::vector<DomainInfo> domains;
  for (int i = 0; i < count; ++i) domains.push_back(read_record(*records[i]));
  std::sort(domains.begin(), domains.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return domains;
}

std::vector<Domain> filtered(virConnectPtr connect, unsigned filter) {
  virDomainPtr* domains = nullptr;
  const int count = check(api().virConnectListAllDomains(connect, &domains, filter), "listing domains");
  return take_all<Domain>(domains, count);
}

}  // namespace

std::vector<DomainInfo> list_domains(virConnectPtr connect, Details details) {
  virDomainStatsRecordPtr* records = nullptr;
  const int count =
      check(api().virConnectGetAllDomainStats(connect, wanted_stats, &records, no_wait), "listing domains");
  const DomainStats owner(records);
  std::vector<DomainInfo> domains = read_records(records, count);
  std::unordered_map<std::string_view, DomainInfo*> by_uuid;
  for (DomainInfo& domain : domains) by_uuid.emplace(domain.uuid, &domain);
  for (const Flag& flag : flags) {
    const bool wanted =
        details == Details::all || (details == Details::autostart && flag.member == &DomainInfo::autostart);
    if (!wanted) continue;
    for (const Domain& domain : filtered(connect, flag.filter))
      if (const auto found = by_uuid.find(uuid_of(domain.get())); found != by_uuid.end())
        found->second->*flag.member = flag.value;
  }
  return domains;
}

std::optional<DomainInfo> describe_domain(virDomainPtr domain) {
  const std::string doing = std::string("asking about domain '") + api().virDomainGetName(domain) + "'";
  std::array<virDomainPtr, 2> one = {domain, nullptr};
  virDomainStatsRecordPtr* records = nullptr;
  const int count = check(api().virDomainListGetStats(one.data(), wanted_stats, &records, no_wait), doing);
  const DomainStats owner(records);
  if (count != 1) return std::nullopt;
  DomainInfo info = read_record(*records[0]);
  int autostart = 0;
  check(api().virDomainGetAutostart(domain, &autostart), doing);
  info.autostart = autostart != 0;
  info.persistent = check(api().virDomainIsPersistent(domain), doing) == 1;
  info.has_managed_save = check(api().virDomainHasManagedSaveImage(domain, 0), doing) == 1;
  info.has_snapshots = check(api().virDomainSnapshotNum(domain, 0), doing) > 0;
  virDomainCheckpointPtr* checkpoints = nullptr;
  const int checkpoint_count = check(api().virDomainListAllCheckpoints(domain, &checkpoints, 0), doing);
  using Checkpoint = std::unique_ptr<virDomainCheckpoint, Release<&Api::virDomainCheckpointFree>>;
  info.has_checkpoints = !take_all<Checkpoint>(checkpoints, checkpoint_count).empty();
  return info;
}

State state_from(int state, int reason) {
  switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
      return State::running;
    case VIR_DOMAIN_PAUSED:
      return reason == VIR_DOMAIN_PAUSED_IOERROR ? State::paused_io_error : State::paused;
    case VIR_DOMAIN_SHUTDOWN:
      return State::shutting_down;
    case VIR_DOMAIN_SHUTOFF:
      return State::shut_off;
    case VIR_DOMAIN_CRASHED:
      return State::crashed;
    case VIR_DOMAIN_PMSUSPENDED:
      return State::suspended;
    default:
      return State::other;
  }
}

State state_of(virDomainPtr domain) {
  int state = VIR_DOMAIN_NOSTATE;
  int reason = 0;
  if (api().virDomainGetState(domain, &state, &reason, 0) < 0) {
    if (last_error() == VIR_ERR_NO_DOMAIN) return State::shut_off;
    fail(std::string("reading the state of domain '") + api().virDomainGetName(domain) + "'");
  }
  return state_from(state, reason);
}

std::string to_string(State state) {
  switch (state) {
    case State::running:
      return "running";
    case State::paused:
      return "paused";
    case State::paused_no_space:
      return "paused (no space)";
    case State::paused_io_error:
      return "paused (I/O error)";
    case State::shut_off:
      return "shut off";
    case State::shutting_down:
      return "in shutdown";
    case State::crashed:
      return "crashed";
    case State::suspended:
      return "pmsuspended";
    case State::other:
      return "no state";
  }
  return "no state";
}

bool is_active(State state) { return state != State::shut_off; }

}  // namespace kld::virt
