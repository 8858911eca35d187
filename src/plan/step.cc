// SPDX-License-Identifier: Apache-2.0
#include "plan/step.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"
#include "zfs/dataset.h"
#include "zfs/device.h"

namespace kld::plan {
namespace {

template <typename... Cases>
struct overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
overloaded(Cases...) -> overloaded<Cases...>;

// Of fifty clones nobody reads fifty names.
constexpr std::size_t kNamesShown = 6;

template <typename List, typename Name>
std::string join(const List& list, Name&& name) {
  std::string result;
  for (std::size_t i = 0; i < list.size() && i < kNamesShown; ++i) result += (i == 0 ? "" : ", ") + name(list[i]);
  return list.size() <= kNamesShown ? result : fmt::format("{} and {} more", result, list.size() - kNamesShown);
}

std::string join(const std::vector<std::string>& names) {
  return join(names, [](const std::string& name) { return name; });
}

std::string property_words(const zfs::Properties& properties) {
  std::string words;
  for (const auto& [name, value] : properties) {
    if (name.starts_with("com.kldload:")) continue;
    words += fmt::format("{}{}={}", words.empty() ? "" : ", ", name, value);
  }
  return words;
}

void add_options(Argv& argv, const zfs::Properties& properties) {
  for (const auto& [name, value] : properties) {
    argv.push_back("-o");
    argv.push_back(name + "=" + value);
  }
}

Argv with_options(Argv argv, const zfs::Properties& properties, const std::vector<std::string>& names) {
  add_options(argv, properties);
  argv.insert(argv.end(), names.begin(), names.end());
  return argv;
}

std::string op_of(const zfs::Properties& properties) {
  const auto found = properties.find(zfs::property::op);
  return found == properties.end() ? std::string() : found->second;
}

std::vector<std::string> names_of(const std::vector<CloneOf>& clones) {
  std::vector<std::string> names;
  for (const auto& clone : clones) names.push_back(clone.name);
  return names;
}

void add_syncs(std::vector<Argv>& lines, const std::vector<std::string>& sync) {
  for (const auto& what : sync) {
    lines.push_back(what.starts_with('/') ? Argv{"sync", "-f", what} : Argv{"zpool", "sync", what});
  }
}

const std::string& promoted(const Promotion& promotion, bool back) { return back ? promotion.present : promotion.past; }

DestroyOwn destroy_own(std::vector<std::string> datasets, const zfs::Properties& properties) {
  return {std::move(datasets), {}, op_of(properties)};
}

}  // namespace

std::string describe(const Step& step) {
  const auto domain_names = [](const auto& domains) { return join(domains, [](const auto& d) { return d.name; }); };
  return std::visit(
      overloaded{
          [](const CreateFilesystem& s) { return fmt::format("Creating filesystem {}", s.name); },
          [](const CreateVolume& s) {
            const auto words = property_words(s.properties);
            return fmt::format("Creating zvol {} ({}{}{})", s.name, exact_size(s.size), words.empty() ? "" : ", ",
                               words);
          },
          [](const CloneDatasets& s) {
            return fmt::format("Cloning to {}", join(s.clones, [](const auto& c) { return c.name; }));
          },
          [](const TakeSnapshots& s) {
            const auto frozen = join(s.freezes, [](const auto& f) { return f.domain.name; });
            return fmt::format("Snapshotting {}{}", join(s.names),
                               frozen.empty() ? "" : fmt::format(", with {} frozen", frozen));
          },
          [](const CopyDataset& s) { return fmt::format("Copying {} to {}", s.snapshot, s.name); },
          [](const MountFilesystems& s) {
            return fmt::format("Mounting {}", join(s.mounts, [](const auto& m) { return m.directory; }));
          },
          [](const UnmountFilesystems& s) {
            return fmt::format("Unmounting {}", join(s.mounts, [](const auto& m) { return m.directory; }));
          },
          [](const AwaitDevices& s) { return fmt::format("Waiting for the device of {}", join(s.volumes)); },
          [](const AwaitUnused& s) { return fmt::format("Checking that nobody uses {}", join(s.volumes)); },
          [](const WriteFiles& s) {
            return fmt::format("Saving {}", join(s.files, [](const auto& f) { return f.path; }));
          },
          [](const WriteSeeds& s) {
            return fmt::format("Writing cloud-init seed {}", join(s.seeds, [](const auto& f) { return f.path; }));
          },
          [](const WriteImage& s) { return fmt::format("Writing {} ({}) to {}", s.image, s.format, s.volume); },
          [](const CopyFiles& s) { return fmt::format("Copying {} to {}", s.from, s.to); },
          [](const MoveAside& s) { return fmt::format("Moving {} aside to {}", s.from, s.to); },
          [](const RenameDataset& s) { return fmt::format("Renaming {} to {}", s.from, s.to); },
          [](const PromoteDatasets& s) {
            return fmt::format("Promoting {}", join(s.promotions, [&](const auto& p) { return promoted(p, s.back); }));
          },
          [](const SetProperties& s) { return fmt::format("Setting properties of {}", s.dataset); },
          [&](const DefineDomains& s) { return fmt::format("Defining {}", domain_names(s.domains)); },
          [&](const UndefineDomains& s) { return fmt::format("Undefining {}", domain_names(s.domains)); },
          [](const RedefineDomain& s) { return fmt::format("Changing the definition of {}", s.now.name); },
          [](const SaveDefinition& s) {
            return fmt::format("Saving the definition of {} as libvirt words it", s.domain.name);
          },
          [](const SetAutostart& s) {
            return fmt::format("{} autostart of {}", s.autostart ? "Enabling" : "Disabling", s.domain.name);
          },
          [](const StartDomain& s) { return fmt::format("Starting {}", s.domain.name); },
          [](const StopDomain& s) {
            return fmt::format("{} {}", s.graceful_seconds == 0 ? "Stopping" : "Shutting down", s.domain.name);
          },
          [](const DiscardSaved& s) { return fmt::format("Removing the managed save image of {}", s.domain.name); },
          [](const DestroyDatasets& s) {
            return fmt::format("Destroying {}", join(s.datasets, [](const auto& d) { return d.name; }));
          },
          [](const DestroySnapshots& s) {
            return fmt::format("Destroying snapshot {}", join(s.snapshots, [](const auto& d) { return d.name; }));
          },
          [](const CheckNewer& s) {
            return fmt::format("Checking what is newer than {}",
                               join(s.datasets, [](const auto& d) { return d.snapshot; }));
          },
          [](const RollbackDatasets& s) {
            return fmt::format("Rolling back to {}", join(s.datasets, [](const auto& d) { return d.snapshot; }));
          },
          [](const DestroyOwn& s) {
            auto all = s.datasets;
            all.insert(all.end(), s.snapshots.begin(), s.snapshots.end());
            return fmt::format("Destroying what this operation made of {}", join(all));
          },
          [](const RestoreFiles& s) {
            return fmt::format("Restoring {}", join(s.files, [](const auto& f) { return f.path; }));
          },
      },
      step);
}

std::vector<Argv> commands(const Step& step) {
  using Lines = std::vector<Argv>;
  return std::visit(
      overloaded{
          [](const CreateFilesystem& s) {
            return Lines{with_options({"zfs", "create", "-u"}, s.properties, {s.name})};
          },
          [](const CreateVolume& s) {
            Argv argv = {"zfs", "create"};
            if (!s.properties.contains("refreservation")) argv.emplace_back("-s");
            argv.insert(argv.end(), {"-V", exact_size(s.size)});
            return Lines{with_options(std::move(argv), s.properties, {s.name})};
          },
          [](const CloneDatasets& s) {
            Lines lines;
            for (const auto& clone : s.clones) {
              lines.push_back(with_options({"zfs", "clone"}, clone.properties, {clone.snapshot, clone.name}));
            }
            return lines;
          },
          [](const TakeSnapshots& s) {
            Lines lines;
            for (const auto& freeze : s.freezes) lines.push_back({"virsh", "domfsfreeze", freeze.domain.name});
            lines.push_back(with_options({"zfs", "snapshot"}, s.properties, s.names));
            for (const auto& freeze : s.freezes) lines.push_back({"virsh", "domfsthaw", freeze.domain.name});
            return lines;
          },
          [](const CopyDataset& s) {
            return Lines{{"zfs", "send", "-Lce", s.snapshot},
                         with_options({"zfs", "receive", "-u"}, s.properties, {s.name})};
          },
          [](const MountFilesystems& s) {
            Lines lines;
            for (const auto& mount : s.mounts) lines.push_back({"zfs", "mount", mount.filesystem});
            return lines;
          },
          [](const UnmountFilesystems& s) {
            Lines lines;
            for (const auto& mount : s.mounts) lines.push_back({"zfs", "unmount", mount.filesystem});
            return lines;
          },
          [](const AwaitDevices&) {
            return Lines{{"udevadm", "settle"}};
          },
          [](const AwaitUnused& s) {
            Argv argv = {"fuser", "-v"};
            for (const auto& volume : s.volumes) argv.push_back(zfs::device_path(volume));
            return Lines{argv};
          },
          [](const WriteFiles& s) {
            Lines lines;
            for (const auto& file : s.files) lines.push_back({"tee", file.path});
            return lines;
          },
          [](const WriteSeeds& s) {
            Lines lines;
            for (const auto& seed : s.seeds) {
              Argv argv = {"xorriso", "-as", "mkisofs", "-V", "cidata", "-J", "-r", "-o", seed.path};
              for (const auto& [name, content] : seed.documents) argv.push_back(name);
              lines.push_back(argv);
            }
            add_syncs(lines, s.sync);
            return lines;
          },
          [](const WriteImage& s) {
            return Lines{{"qemu-img", "convert", "-n", "-p", "--target-is-zero", "-t", "none", "-f", s.format, "-O",
                          "raw", s.image, zfs::device_path(s.volume)}};
          },
          [](const CopyFiles& s) {
            return Lines{{"cp", "-a", "-T", s.from, s.to}};
          },
          [](const MoveAside& s) {
            return Lines{{"mv", "-T", s.from, s.to}};
          },
          [](const RenameDataset& s) {
            return Lines{{"zfs", "rename", s.from, s.to}};
          },
          [](const PromoteDatasets& s) {
            Lines lines;
            for (const auto& promotion : s.promotions) {
              lines.push_back({"zfs", "promote", promoted(promotion, s.back)});
            }
            return lines;
          },
          [](const SetProperties& s) {
            Lines lines;
            Argv set = {"zfs", "set"};
            for (const auto& [name, value] : s.properties) {
              if (value.empty()) {
                lines.push_back(name == "canmount" ? Argv{"zfs", "inherit", "-S", name, s.dataset}
                                                   : Argv{"zfs", "inherit", name, s.dataset});
              } else {
                set.push_back(name + "=" + value);
              }
            }
            set.push_back(s.dataset);
            if (set.size() > 3) lines.push_back(set);
            return lines;
          },
          [](const DefineDomains& s) {
            Lines lines;
            for (const auto& domain : s.domains) {
              lines.push_back({"virsh", "define", domain.name + ".xml"});
              if (s.validate) lines.back().emplace_back("--validate");
            }
            add_syncs(lines, s.sync);
            return lines;
          },
          [](const UndefineDomains& s) {
            Lines lines;
            for (const auto& domain : s.domains) {
              lines.push_back({"virsh", "undefine", domain.name, "--keep-nvram", "--keep-tpm"});
            }
            return lines;
          },
          [](const RedefineDomain& s) {
            Argv argv = {"virsh", "define", s.now.name + ".xml"};
            if (s.validate) argv.emplace_back("--validate");
            return Lines{argv};
          },
          [](const SaveDefinition& s) {
            return Lines{{"virsh", "dumpxml", s.domain.name, "--inactive", "--security-info"}, {"tee", s.path}};
          },
          [](const SetAutostart& s) {
            Argv argv = {"virsh", "autostart", s.domain.name};
            if (!s.autostart) argv.emplace_back("--disable");
            return Lines{argv};
          },
          [](const StartDomain& s) {
            return Lines{{"virsh", "start", s.domain.name}};
          },
          [](const StopDomain& s) {
            return Lines{{"virsh", s.graceful_seconds == 0 ? "destroy" : "shutdown", s.domain.name}};
          },
          [](const DiscardSaved& s) {
            return Lines{{"virsh", "managedsave-remove", s.domain.name}};
          },
          [](const DestroyDatasets& s) {
            Lines lines;
            for (const auto& doomed : s.datasets) lines.push_back({"zfs", "destroy", "-r", doomed.name});
            return lines;
          },
          [](const DestroySnapshots& s) {
            Lines lines;
            for (const auto& doomed : s.snapshots) lines.push_back({"zfs", "destroy", doomed.name});
            return lines;
          },
          [](const CheckNewer& s) {
            Argv argv = {"zfs", "list", "-t", "snapshot,bookmark", "-o", "name,guid,createtxg"};
            for (const auto& one : s.datasets) argv.push_back(one.dataset);
            return Lines{argv};
          },
          [](const RollbackDatasets& s) {
            Lines lines;
            for (const auto& bookmark : s.bookmarks) lines.push_back({"zfs", "destroy", bookmark});
            for (const auto& one : s.datasets) lines.push_back({"zfs", "rollback", one.snapshot});
            return lines;
          },
          [](const DestroyOwn& s) {
            Lines lines;
            for (const auto& name : s.snapshots) lines.push_back({"zfs", "destroy", name});
            for (const auto& name : s.datasets) lines.push_back({"zfs", "destroy", name});
            return lines;
          },
          [](const RestoreFiles& s) {
            Lines lines;
            for (const auto& file : s.files) lines.push_back({file.existed ? "tee" : "rm", file.path});
            return lines;
          },
      },
      step);
}

std::optional<Step> inverse(const Step& step) {
  using Inverse = std::optional<Step>;
  return std::visit(overloaded{
                        [](const CreateFilesystem& s) -> Inverse { return destroy_own({s.name}, s.properties); },
                        [](const CreateVolume& s) -> Inverse { return destroy_own({s.name}, s.properties); },
                        [](const CloneDatasets& s) -> Inverse {
                          if (s.clones.empty()) return std::nullopt;
                          return destroy_own(names_of(s.clones), s.clones.front().properties);
                        },
                        [](const TakeSnapshots& s) -> Inverse {
                          return DestroyOwn{{}, s.names, op_of(s.properties)};
                        },
                        [](const CopyDataset& s) -> Inverse { return destroy_own({s.name}, s.properties); },
                        [](const MountFilesystems& s) -> Inverse {
                          return UnmountFilesystems{{s.mounts.rbegin(), s.mounts.rend()}};
                        },
                        [](const UnmountFilesystems& s) -> Inverse {
                          return MountFilesystems{{s.mounts.rbegin(), s.mounts.rend()}};
                        },
                        // Whatever starts the machine again then must find its own disks behind the links.
                        [](const AwaitUnused& s) -> Inverse { return AwaitDevices{s.volumes}; },
                        [](const WriteFiles& s) -> Inverse { return RestoreFiles{s.files}; },
                        [](const MoveAside& s) -> Inverse {
                          return MoveAside{s.to, s.from};
                        },
                        [](const RenameDataset& s) -> Inverse {
                          return RenameDataset{s.to, s.from, s.guid};
                        },
                        [](const PromoteDatasets& s) -> Inverse {
                          return PromoteDatasets{s.promotions, !s.back};
                        },
                        [](const SetProperties& s) -> Inverse {
                          return SetProperties{s.dataset, s.previous, s.properties, s.guid, s.or_at};
                        },
                        [](const DefineDomains& s) -> Inverse {
                          return UndefineDomains{s.domains, true};
                        },
                        [](const UndefineDomains& s) -> Inverse {
                          return DefineDomains{s.domains, false};
                        },
                        [](const RedefineDomain& s) -> Inverse {
                          return RedefineDomain{s.before, s.now, false};
                        },
                        [](const SetAutostart& s) -> Inverse {
                          return SetAutostart{s.domain, !s.autostart};
                        },
                        [](const StartDomain& s) -> Inverse {
                          return StopDomain{s.domain, 0};
                        },
                        [](const StopDomain& s) -> Inverse {
                          return StartDomain{s.domain, s.graceful_seconds};
                        },
                        // Files inside a dataset that the plan makes go with it; waiting leaves nothing behind.
                        [](const auto&) -> Inverse { return std::nullopt; },
                    },
                    step);
}

bool is_destructive(const Step& step) {
  return std::holds_alternative<DestroyDatasets>(step) || std::holds_alternative<DestroySnapshots>(step) ||
         std::holds_alternative<RollbackDatasets>(step) || std::holds_alternative<DiscardSaved>(step);
}

}  // namespace kld::plan
