// SPDX-License-Identifier: Apache-2.0
// A step is one act as a value. Its sentence, the equivalent command and its inverse stand side by side in step.cc.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/process.h"
#include "zfs/properties.h"

namespace kld::plan {

/// Undone by destroying it, if it still carries our operation's UUID.
struct CreateFilesystem {
  std::string name;
  zfs::Properties properties;
  bool operator==(const CreateFilesystem&) const = default;
};

struct CreateVolume {
  std::string name;
  std::uint64_t size = 0;  ///< bytes
  zfs::Properties properties;
  bool operator==(const CreateVolume&) const = default;
};

struct CloneOf {
  std::string snapshot;
  std::string name;
  zfs::Properties properties;
  bool operator==(const CloneOf&) const = default;
};

/// Independent of each other: made in parallel.
struct CloneDatasets {
  std::vector<CloneOf> clones;
  bool operator==(const CloneDatasets&) const = default;
};

struct DomainName {
  std::string name;
  std::string uuid;
  bool operator==(const DomainName&) const = default;
};

/// A guest whose file systems stand still across a snapshot, by its agent.
struct Freeze {
  DomainName domain;
  std::uint64_t seconds = 0;  ///< that the agent has to answer each time
  bool required = true;       ///< false: when it cannot be frozen, the snapshot is taken all the same
  bool operator==(const Freeze&) const = default;
};

/// One call, one transaction group: all or none. A snapshot of frozen guests says `application` only when each was
/// frozen and thawed with at least one file system, else `crash`.
struct TakeSnapshots {
  std::vector<std::string> names;
  zfs::Properties properties;
  std::vector<Freeze> freezes = {};
  bool operator==(const TakeSnapshots&) const = default;
};

/// A full, independent copy by send and receive.
struct CopyDataset {
  std::string snapshot;
  std::string name;
  zfs::Properties properties;
  bool operator==(const CopyDataset&) const = default;
};

struct MountPoint {
  std::string filesystem;
  std::string directory;
  bool operator==(const MountPoint&) const = default;
};

struct MountFilesystems {
  std::vector<MountPoint> mounts;
  bool operator==(const MountFilesystems&) const = default;
};

struct UnmountFilesystems {
  std::vector<MountPoint> mounts;
  bool operator==(const UnmountFilesystems&) const = default;
};

/// Waits until the device node of each volume is there and is that volume.
struct AwaitDevices {
  std::vector<std::string> volumes;
  bool operator==(const AwaitDevices&) const = default;
};

/// Waits a little until nobody has these volumes open, then names who has.
struct AwaitUnused {
  std::vector<std::string> volumes;
  bool operator==(const AwaitUnused&) const = default;
};

struct File {
  std::string path;
  std::string content;
  bool existed = false;
  std::string previous;  ///< what it held, when it existed
  bool operator==(const File&) const = default;
};

/// Mode 0600, replaced atomically. Unless `synced`, they are on disk only after the next TakeSnapshots, or the next
/// step that syncs: a file's own fsync costs a new filesystem a transaction group and two log writes.
struct WriteFiles {
  std::vector<File> files;
  bool synced = false;
  bool operator==(const WriteFiles&) const = default;
};

/// NoCloud seed: an ISO 9660 image, volume `cidata`.
struct Seed {
  std::string path;
  std::map<std::string, std::string> documents;  ///< "meta-data", "user-data", "network-config", "vendor-data"
  bool operator==(const Seed&) const = default;
};

/// `sync` as in DefineDomains, behind the writing: a clone must not start, after whatever power cut, as its source.
struct WriteSeeds {
  std::vector<Seed> seeds;
  std::vector<std::string> sync = {};
  bool operator==(const WriteSeeds&) const = default;
};

/// Writes a disk image onto a new volume; zeros are skipped.
struct WriteImage {
  std::string image;
  std::string format;  ///< "raw" or "qcow2"
  std::string volume;
  std::uint64_t size = 0;  ///< bytes of the image's contents
  bool operator==(const WriteImage&) const = default;
};

/// Copies a file (NVRAM) into a new state filesystem, or a directory's files (TPM state).
struct CopyFiles {
  std::string from;
  std::string to;
  bool operator==(const CopyFiles&) const = default;
};

/// Renames a directory aside, to make room for a mount; contents untouched.
struct MoveAside {
  std::string from;
  std::string to;
  bool operator==(const MoveAside&) const = default;
};

struct RenameDataset {
  std::string from;
  std::string to;
  std::uint64_t guid = 0;
  bool operator==(const RenameDataset&) const = default;
};

/// Two versions of one dataset, one of which was cloned from the other.
struct Promotion {
  std::string past;         ///< the clone
  std::string present;      ///< what it was cloned from
  std::uint64_t guid = 0;   ///< of `present`
  std::string present_was;  ///< the name that `present` had before this plan renamed it
  bool operator==(const Promotion&) const = default;
};

/// Makes each `past` the origin of its `present`: the history up to where they part moves to it. `back`: the reverse,
/// where it had come to that. What would lose its history when it is taken for a plain clone must not be taken back
/// then: a `present` that is gone is an error.
struct PromoteDatasets {
  std::vector<Promotion> promotions;
  bool back = false;
  bool operator==(const PromoteDatasets&) const = default;
};

/// Empty value: inherited instead. `previous` has the same keys. With a guid, it is the dataset that has it, by its
/// name or at the place that the plan renames it from or to.
struct SetProperties {
  std::string dataset;
  zfs::Properties properties;
  zfs::Properties previous;
  std::uint64_t guid = 0;
  std::string or_at = {};
  bool operator==(const SetProperties&) const = default;
};

struct DomainDefinition {
  std::string name;
  std::string uuid;
  std::string xml;
  bool operator==(const DomainDefinition&) const = default;
};

struct DefineDomains {
  std::vector<DomainDefinition> domains;
  /// Against libvirt's schema, which names what it would silently drop. Not for what libvirt itself has just said.
  bool validate = true;
  /// Brought to disk meanwhile: filesystems by their mount point, which costs each a transaction group and a log write,
  /// or all by the pool's name, which costs three groups.
  std::vector<std::string> sync = {};
  bool operator==(const DefineDomains&) const = default;
};

/// NVRAM and TPM state are kept; they go with their dataset.
struct UndefineDomains {
  std::vector<DomainDefinition> domains;
  bool stop_first = false;  ///< when undoing a definition; otherwise one that runs is an error
  bool operator==(const UndefineDomains&) const = default;
};

/// Another definition for a domain that is there.
struct RedefineDomain {
  DomainDefinition now;
  DomainDefinition before;
  bool validate = true;  ///< as in DefineDomains
  bool operator==(const RedefineDomain&) const = default;
};

/// The inactive definition as libvirt words it: machine type, addresses and models are chosen when it is defined, and
/// only that wording gives the guest the same hardware on another host.
struct SaveDefinition {
  DomainName domain;
  std::string path;
  bool operator==(const SaveDefinition&) const = default;
};

struct SetAutostart {
  DomainName domain;
  bool autostart = true;
  bool operator==(const SetAutostart&) const = default;
};

struct StartDomain {
  DomainName domain;
  /// As an inverse: it may have been asked to shut down, and go off within that time. Not in a journal, which holds no
  /// inverses.
  std::uint64_t asked_seconds = 0;
  bool operator==(const StartDomain&) const = default;
};

struct StopDomain {
  DomainName domain;
  std::uint64_t graceful_seconds = 0;  ///< 0: at once, as by pulling the plug
  bool operator==(const StopDomain&) const = default;
};

struct DiscardSaved {
  DomainName domain;
  bool operator==(const DiscardSaved&) const = default;
};

struct Doomed {
  std::string name;
  std::uint64_t guid = 0;
  std::string directory;  ///< where a filesystem is mounted; empty for a volume
  bool operator==(const Doomed&) const = default;
};

/// Destroys the datasets in this order, each with its snapshots; one whose guid is another is left alone.
struct DestroyDatasets {
  std::vector<Doomed> datasets;
  bool operator==(const DestroyDatasets&) const = default;
};

struct DoomedSnapshot {
  std::string name;
  std::uint64_t guid = 0;
  bool operator==(const DoomedSnapshot&) const = default;
};

/// One call; one whose guid is another is left alone. With `if_unused`, one with clones or holds is left, too.
struct DestroySnapshots {
  std::vector<DoomedSnapshot> snapshots;
  bool if_unused = false;
  bool operator==(const DestroySnapshots&) const = default;
};

struct GoingBack {
  std::string dataset;
  std::string snapshot;    ///< of it, in full
  std::uint64_t guid = 0;  ///< of the snapshot
  bool operator==(const GoingBack&) const = default;
};

/// The last look before what is newer goes: the snapshots to go back to are there, nothing is newer but what is named,
/// nobody has the datasets open, and libvirt holds no memory of the domain that would go on with them.
struct CheckNewer {
  DomainName domain;
  std::vector<GoingBack> datasets;
  std::vector<DoomedSnapshot> snapshots;
  std::vector<std::string> bookmarks;
  bool operator==(const CheckNewer&) const = default;
};

/// The datasets as they were at these snapshots: what was written since is gone, with the bookmarks named and with
/// snapshots that somebody took behind the plan's look. It may be repeated until the datasets are used again.
struct RollbackDatasets {
  std::vector<GoingBack> datasets;
  std::vector<std::string> bookmarks;  ///< newer ones, which ZFS does not roll back past
  bool operator==(const RollbackDatasets&) const = default;
};

/// What undoes a creation: destroys those of these datasets and snapshots that carry the operation's UUID; a dataset
/// with the snapshots that it has by then, unless one has clones or holds. With `if_unused`, what cannot be destroyed
/// stays, and that is no failure.
struct DestroyOwn {
  std::vector<std::string> datasets;  ///< in this order
  std::vector<std::string> snapshots;
  std::string op;
  bool if_unused = false;
  bool operator==(const DestroyOwn&) const = default;
};

/// What undoes WriteFiles.
struct RestoreFiles {
  std::vector<File> files;
  bool operator==(const RestoreFiles&) const = default;
};

using Step = std::variant<CreateFilesystem, CreateVolume, CloneDatasets, TakeSnapshots, CopyDataset, MountFilesystems,
                          UnmountFilesystems, AwaitDevices, AwaitUnused, WriteFiles, WriteSeeds, WriteImage, CopyFiles,
                          MoveAside, RenameDataset, PromoteDatasets, SetProperties, DefineDomains, UndefineDomains,
                          RedefineDomain, SaveDefinition, SetAutostart, StartDomain, StopDomain, DiscardSaved,
                          DestroyDatasets, DestroySnapshots, CheckNewer, RollbackDatasets, DestroyOwn, RestoreFiles>;

/// One sentence a thing done: "Snapshotting rpool/vms/web@…, rpool/vms/.state/web@…".
std::string describe(const Step& step);
/// The same by hand, one command line a row; empty where there is none.
std::vector<Argv> commands(const Step& step);
/// What undoes it, nullopt when nothing must or can. Every inverse tolerates that its step never ran.
std::optional<Step> inverse(const Step& step);
/// True for what cannot be undone: it may stand only behind a plan's commit point.
bool is_destructive(const Step& step);

nlohmann::json to_json(const Step& step);
/// For other eyes: contents of files, seeds and definitions, which hold passwords, as their size alone; guids as text,
/// which JavaScript's numbers could not hold.
nlohmann::json to_public_json(const Step& step);
/// Throws Error for what to_json never wrote.
Step step_from_json(const nlohmann::json& json);

}  // namespace kld::plan
