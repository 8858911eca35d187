// SPDX-License-Identifier: Apache-2.0
// A machine before a rollback, and behind one.
#pragma once

#include <stdexcept>
#include <string>

#include "plan/rollback.h"
#include "unit/plan/builders.h"

namespace kld::plan::test {

/// web with two disks, shut off, and its snapshots @old, @then and @later.
struct Back {
  Host host;
  RollbackRequest request{{"web", false, 60, kKeptFor}, "then", false, false};
  RollbackFacts facts;

  explicit Back(const MachineOptions& options = {.labels = {"data"}}) {
    host.machine("web", options).machine("mail");
    for (const auto& [name, txg] : {std::pair("old", 200), std::pair("then", 300), std::pair("later", 400)}) {
      const auto parts = host.snapshots("web", name, static_cast<std::uint64_t>(txg));
      facts.snapshots.insert(facts.snapshots.end(), parts.begin(), parts.end());
    }
    const auto xml = definition(host, "web");
    facts.definitions = {xml, true, xml};
    facts.past_definition = xml;
    facts.host.interfaces = {"br0"};
    for (const auto& dataset : host.require("web").datasets()) facts.properties[dataset.name] = dataset.user;
    facts.properties["rpool/vms/.state/web/tpm"]["mountpoint"] = tpm_directory(uuid_of("web"));
  }
  void drop_snapshot(const std::string& name) {
    std::erase_if(facts.snapshots, [&](const auto& snapshot) { return snapshot.name == name; });
  }
  Result result() const { return plan_rollback(host.view, request, facts, fresh()); }
  std::string text() const { return to_text(result()); }
  Plan plan() const {
    const auto answer = result();
    if (refused(answer)) throw std::runtime_error(to_text(answer));
    return std::get<Plan>(answer);
  }
};

/// web after a rollback to @then: what was the present lies aside.
struct Undo {
  Host host;
  UndoRequest request{{"web", false, 60, kKeptFor}, {}};
  RollbackFacts facts;
  static constexpr char kAside[] = "rpool/vms/.kept/web-2026-04-04T14:35:00Z";

  explicit Undo(const std::string& container = kAside) {
    host.machine("web", {.labels = {"data"}});
    auto root = filesystem("rpool/vms/.kept", "none");
    root.mounted = false;
    host.add(root);
    add(container, "then");
    for (const auto& name : {"old", "then"}) {
      const auto parts = host.snapshots("web", name, name == std::string("old") ? 200 : 300);
      facts.snapshots.insert(facts.snapshots.end(), parts.begin(), parts.end());
    }
    facts.snapshots.push_back(snapshot(container + "/web@later", 400));
    const auto xml = definition(host, "web");
    facts.definitions = {xml, true, xml};
    facts.past_definition = xml;
    facts.host.interfaces = {"br0"};
  }
  void add(const std::string& container, const std::string& snapshot) {
    auto aside = filesystem(container, "none");
    aside.mounted = false;
    aside.user = {{zfs::property::machine, "web"}, {zfs::property::kept, "rollback"}};
    aside.createtxg = number_of(container);
    host.add(aside);
    for (const auto& label : {kFirstDisk, "data"}) {
      const auto name = zfs::last_component(disk_dataset(kRoot, "web", label));
      auto disk = volume(container + "/" + name);
      disk.origin = fmt::format("rpool/vms/{}@{}", name, snapshot);
      disk.user = {{zfs::property::machine, "web"}, {zfs::property::disk, label}};
      host.add(disk);
    }
    for (const auto& [name, origin] :
         {std::pair("/.state", "rpool/vms/.state/web@"), std::pair("/.state/tpm", "rpool/vms/.state/web/tpm@")}) {
      auto state = filesystem(container + name, "none");
      state.mounted = false;
      state.origin = origin + snapshot;
      state.user = {{zfs::property::machine, "web"}};
      host.add(state);
    }
  }
  Result result() const { return plan_undo(host.view, request, facts, fresh_again()); }
};

}  // namespace kld::plan::test
