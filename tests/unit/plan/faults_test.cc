// SPDX-License-Identifier: Apache-2.0
// Every step of representative plans fails, in every way it can: before it did anything, half done, wholly done but
// reported as failed, interrupted, and by the death of the process with or without a restart of the host. What is left
// is the state before, or from the commit point on the state after.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <nlohmann/json.hpp>

#include "plan/adopt.h"
#include "plan/auto_snapshot.h"
#include "plan/clone.h"
#include "plan/create.h"
#include "plan/delete.h"
#include "plan/ghost.h"
#include "plan/prune.h"
#include "plan/revive.h"
#include "plan/rollback.h"
#include "plan/snapshot.h"
#include "run/journal.h"
#include "run/open_entry.h"
#include "run/recover.h"
#include "unit/plan/builders.h"
#include "unit/run/fake_runner.h"

namespace kld::plan {
namespace {

using run::test::difference;
using run::test::FakeDataset;
using run::test::FakeHost;
using run::test::FakeRunner;
using test::Host;

struct Scene {
  FakeHost before;
  Plan plan;
};

struct Case {
  std::string name;
  std::function<Scene()> make;
};

/// The host of a view, with the definitions and files that machines made by us have.
FakeHost with_files(const Host& host) {
  FakeHost fake = FakeHost::of(host.view);
  for (const auto& [name, machine] : machines(host.view)) {
    const std::string xml = test::definition(host, name);
    if (machine.domain) fake.domains.at(machine.domain->uuid).xml = xml;
    if (machine.state && machine.state->mounted) {
      fake.file(definition_path(name)) = xml;
      fake.file(nvram_path(name)) = "variables of " + name;
    }
    if (machine.tpm && machine.tpm->mounted)
      fake.file(tpm_directory(test::uuid_of(name)) + "/tpm2/tpm2-00.permall") = "keys of " + name;
  }
  return fake;
}

Scene scene(FakeHost before, const Result& result) {
  if (const auto* refusal = std::get_if<Refusal>(&result)) throw std::runtime_error("refused: " + refusal->message);
  return {std::move(before), std::get<Plan>(result)};
}

Scene create_scene(bool state_root, bool thick = false) {
  Host host(state_root);
  host.machine("other", {.state = virt::State::running});
  if (!state_root)
    std::erase_if(host.view.datasets, [](const auto& d) { return d.name.find(".state") != d.name.npos; });
  CreateRequest request;
  request.name = "web";
  request.disks = {{"", 20 * GiB}, {"data", 40 * GiB}};
  request.image = "/images/debian.qcow2";
  request.autostart = true;
  request.seed.hostname = "web.example";
  request.thick = thick;
  CreateFacts facts;
  facts.pool = {"rpool", 1000 * GiB, 100 * GiB, 900 * GiB, "ONLINE", false};
  facts.host = {64 * GiB, 16, "host"};
  facts.networks = {"default"};
  facts.image = ImageInfo{};
  facts.image->format = "qcow2";
  facts.image->virtual_size = 2 * GiB;
  return scene(with_files(host), plan_create(host.view, request, facts, test::fresh()));
}

struct CloneOptions {
  CloneRequest request;
  bool saved_differs = false;
  bool reusable = false;
  std::string snapshot;        ///< there already, on all datasets but the TPM's
  bool without_state = false;  ///< nor on the state filesystem
};

Scene clone_scene(const std::function<void(CloneOptions&)>& choose) {
  CloneOptions options;
  choose(options);
  Host host;
  host.machine("golden", {.labels = {"data"}}).machine("other");
  FakeHost before = with_files(host);
  CloneFacts facts;
  facts.definitions = {test::definition(host, "golden"), true, test::definition(host, "golden")};
  if (options.saved_differs) {
    facts.definitions.saved = "<domain>before an edit</domain>";
    before.file(definition_path("golden")) = facts.definitions.saved;
  }
  if (options.reusable) facts.snapshots = host.snapshots("golden", "clone-2026-04-04T12:00:00Z", 200, "clone");
  if (options.reusable) {
    for (auto& snapshot : facts.snapshots) snapshot.written = 0;
  }
  if (!options.snapshot.empty()) {
    facts.snapshots = host.snapshots("golden", options.snapshot, 200);
    std::erase_if(facts.snapshots, [](const auto& s) { return s.name.find("/tpm@") != s.name.npos; });
    if (options.without_state) {
      std::erase_if(facts.snapshots, [](const auto& s) { return s.name.find("/.state/") != s.name.npos; });
    } else {
      facts.snapshot_definition = facts.definitions.current;
    }
    options.request.snapshot = options.snapshot;
  }
  before.add(facts.snapshots);
  facts.pool = zfs::Pool{"rpool", 1000 * GiB, 100 * GiB, 900 * GiB, "ONLINE", false};
  options.request.source = "golden";
  if (options.request.targets.empty()) options.request.targets = {"web-1", "web-2"};
  return scene(std::move(before), plan_clone(host.view, options.request, facts, test::fresh()));
}

Scene snapshot_scene() {
  Host host;
  host.machine("web", {.state = virt::State::running, .labels = {"data"}});
  FakeHost before = with_files(host);
  const auto definition = test::definition(host, "web");
  before.file(definition_path("web")) = "<old/>";
  return scene(std::move(before),
               plan_snapshot(host.view, {"web", "s"}, {definition, true, "<old/>"}, {}, {}, test::fresh()));
}

Scene snapshot_delete_scene() {
  Host host;
  host.machine("web", {.labels = {"data"}});
  FakeHost before = with_files(host);
  const auto snapshots = host.snapshots("web", "s", 200);
  before.add(snapshots);
  before.add(host.snapshots("web", "t", 300));
  return scene(std::move(before), plan_snapshot_delete(host.view, "web", "s", snapshots, test::fresh()));
}

/// Three machines in one call; of two the saved definition is not up to date.
Scene auto_snapshot_scene() {
  Host host;
  host.machine("web", {.labels = {"data"}}).machine("db").machine("mail");
  FakeHost before = with_files(host);
  AutoFacts facts;
  for (const auto& name : {"web", "db", "mail"}) {
    const auto xml = test::definition(host, name);
    facts.definitions[name] = {xml, true, xml};
  }
  for (const auto& name : {"web", "mail"}) {
    before.file(definition_path(name)) = facts.definitions[name].saved = "<old/>";
  }
  const auto machines = std::get<std::vector<AutoMachine>>(auto_machines(host.view, {{}, "hourly=48", {}}));
  const auto run = group_auto_snapshots(host.view, machines, facts, test::kNow);
  return scene(std::move(before), plan_group(run.groups.at(0), test::kOp));
}

/// Two snapshots of one machine and one of another go in one call; each has one that stays.
Scene prune_scene() {
  Host host;
  host.machine("web", {.labels = {"data"}}).machine("db");
  FakeHost before = with_files(host);
  std::vector<Condemned> batch;
  const auto add = [&](const std::string& machine, const std::string& name, std::uint64_t txg, bool goes) {
    const auto parts = host.snapshots(machine, name, txg, "auto");
    before.add(parts);
    if (goes) batch.push_back({machine, machine_snapshots(host.require(machine), parts).at(0)});
  };
  add("web", "auto-2026-04-01T00:00:00Z", 200, true);
  add("web", "auto-2026-04-01T01:00:00Z", 201, true);
  add("web", "auto-2026-04-04T14:00:00Z", 202, false);
  add("db", "auto-2026-04-01T00:00:00Z", 200, true);
  add("db", "auto-2026-04-04T14:00:00Z", 202, false);
  return scene(std::move(before), plan_prune(batch, test::kOp));
}

Scene hold_back_scene(bool release) {
  Host host;
  host.machine("web");
  if (release) host.dataset("rpool/vms/web").user[zfs::property::held_back] = "2026-04-01T00:00:00Z";
  const auto web = host.require("web");
  return scene(with_files(host), release ? plan_release(web, test::kOp) : plan_hold_back(web, test::kNow, test::kOp));
}

/// golden with clones web-1 and web-2; `request` says which go.
Scene delete_scene(DeleteRequest request, virt::State state, bool managed_save) {
  Host host;
  host.machine("golden", {.labels = {"data"}});
  host.clone("golden", "clone-2026-04-04T12:00:00Z", "web-1", {.state = state});
  host.clone("golden", "clone-2026-04-04T13:00:00Z", "web-2");
  host.domain_of("web-1").autostart = true;
  host.domain_of("web-1").has_managed_save = managed_save;
  FakeHost before = with_files(host);
  DeleteFacts facts;
  for (const auto& [clone, at] : {std::pair("web-1", "12"), std::pair("web-2", "13")}) {
    const auto part = host.snapshots("golden", fmt::format("clone-2026-04-04T{}:00:00Z", at), 200, "clone", {clone});
    facts.snapshots.insert(facts.snapshots.end(), part.begin(), part.end());
  }
  const auto own = host.snapshots("web-1", "by-hand", 400);
  facts.snapshots.insert(facts.snapshots.end(), own.begin(), own.end());
  before.add(facts.snapshots);
  facts.origins = host.view.datasets;
  for (const auto& name : request.machines) facts.definitions[name] = test::definition(host, name);
  return scene(std::move(before), plan_delete(host.view, request, facts, test::fresh()));
}

/// A machine made elsewhere: two zvols with other names, firmware variables and TPM where libvirt keeps them.
Scene adopt_scene(bool autostart) {
  Host host(false);
  host.add(test::volume("rpool/vms/disk-of-legacy")).add(test::volume("rpool/vms/legacy-extra"));
  host.dataset("rpool/vms/legacy-extra").user["com.kldload:disk"] = "scratch";
  virt::Spec spec;
  spec.name = "legacy";
  spec.uuid = test::uuid_of("legacy");
  spec.genid = test::uuid_of("genid");
  spec.memory = 2 * GiB;
  spec.vcpus = 2;
  spec.nvram = "/var/lib/libvirt/qemu/nvram/legacy_VARS.fd";
  spec.tpm = true;
  spec.disks = {"/dev/zvol/rpool/vms/disk-of-legacy", "/dev/zvol/rpool/vms/legacy-extra"};
  host.add(test::domain("legacy", virt::State::shut_off, spec.disks));
  host.domain_of("legacy").autostart = autostart;
  AdoptFacts facts;
  facts.inactive = virt::new_definition(spec);
  facts.nvram_exists = true;
  facts.tpm_state_exists = true;
  FakeHost before = FakeHost::of(host.view);
  before.domains.at(spec.uuid).xml = facts.inactive;
  before.file(spec.nvram) = "variables";
  before.file(tpm_directory(spec.uuid) + "/tpm2/tpm2-00.permall") = "keys";
  return scene(std::move(before), plan_adopt(host.view, {"legacy"}, facts, test::fresh()));
}

/// A machine whose datasets are there and mounted nowhere, and which libvirt does not know.
Scene define_again_scene() {
  Host host;
  host.machine("web", {.defined = false});
  FakeHost before = with_files(host);
  for (const auto& name : {"rpool/vms/.state/web", "rpool/vms/.state/web/tpm"}) host.dataset(name).mounted = false;
  before.mounts.erase(state_directory("web"));
  before.mounts.erase(tpm_directory(test::uuid_of("web")));
  before.guarded = {"/rpool/vms"};
  AdoptFacts facts;
  facts.saved_exists = true;
  facts.saved = test::definition(host, "web");
  return scene(std::move(before), plan_adopt(host.view, {"web"}, facts, test::fresh()));
}

/// web with snapshots @then and @later, and a clone of each; golden is what web was cloned from.
struct Rollback {
  Host host;
  RollbackRequest request{{"web", true, 60, kKeptFor}, "then", false, false};
  RollbackFacts facts;
  FakeHost before;

  explicit Rollback(virt::State state) {
    host.machine("golden", {.labels = {"data"}});
    host.clone("golden", "clone-2026-04-04T12:00:00Z", "web", {.state = state});
    host.clone("web", "then", "early");
    host.clone("web", "later", "late");
    host.domain_of("web").autostart = true;
    before = with_files(host);
    before.add(host.snapshots("golden", "clone-2026-04-04T12:00:00Z", 200, "clone", {"web"}));
    facts.snapshots = host.snapshots("web", "first", 250);
    for (const auto& [name, txg, clone] : {std::tuple("then", 300, "early"), std::tuple("later", 400, "late")}) {
      const auto parts = host.snapshots("web", name, static_cast<std::uint64_t>(txg), "hand", {clone});
      facts.snapshots.insert(facts.snapshots.end(), parts.begin(), parts.end());
    }
    before.add(facts.snapshots);
    // What was then is not what is now.
    for (auto& [name, snapshot] : before.snapshots) {
      if (name.ends_with("@then")) snapshot.content += ", then";
    }
    const auto xml = test::definition(host, "web");
    facts.definitions = {xml, true, "<old/>"};
    before.file(definition_path("web")) = "<old/>";
    facts.past_definition = xml;
    facts.host.interfaces = {"br0"};
    for (const auto& dataset : host.require("web").datasets()) facts.properties[dataset.name] = dataset.user;
    facts.properties["rpool/vms/web"]["compression"] = "zstd";
    facts.properties["rpool/vms/web"]["volsize"] = "1";
    facts.properties["rpool/vms/.state/web/tpm"]["mountpoint"] = tpm_directory(test::uuid_of("web"));
    before.datasets.at("rpool/vms/web").properties["compression"] = "zstd";
  }
  Scene scene_of(const Result& result) const { return scene(before, result); }
  Scene rollback() const { return scene_of(plan_rollback(host.view, request, facts, test::fresh())); }
};

Scene rollback_scene(virt::State state, const std::function<void(Rollback&)>& change = {}) {
  Rollback one(state);
  if (change) change(one);
  return one.rollback();
}

/// A disk that was added since, and is in no snapshot.
void without_data(Rollback& one) {
  std::erase_if(one.facts.snapshots, [](const auto& s) { return s.name.find("web-data@") != s.name.npos; });
  std::erase_if(one.before.snapshots, [](const auto& s) { return s.first.find("web-data@") != s.first.npos; });
  one.facts.past_definition = test::definition("web", {"/dev/zvol/rpool/vms/web"});
  for (const auto& name : {"early", "late"}) {
    const auto disk = fmt::format("rpool/vms/{}-data", name);
    one.host.dataset(disk).origin = "";
    one.before.datasets.at(disk).origin = "";
  }
}

/// The datasets that a fake host has by now, in a view of it.
View view_of(const FakeHost& host, const View& earlier) {
  View view = earlier;
  view.datasets.clear();
  for (const auto& [name, fake] : host.datasets) {
    zfs::Dataset dataset = fake.filesystem ? test::filesystem(name) : test::volume(name);
    dataset.guid = fake.guid;
    dataset.origin = fake.origin;
    dataset.user = fake.properties;
    dataset.mountpoint = fake.mountpoint;
    dataset.mounted =
        !fake.mountpoint.empty() && host.mounts.contains(fake.mountpoint) && host.mounts.at(fake.mountpoint) == name;
    dataset.can_mount = !name.ends_with("/.state") || name.find(".kept") != name.npos;
    if (name == "rpool/vms/.state") dataset.mountpoint = kStateDirectory;
    view.datasets.push_back(dataset);
  }
  return view;
}

/// Nothing was cloned from what is newer.
void the_classic_way(Rollback& one) {
  one.request.destroy_newer = true;
  for (auto& snapshot : one.facts.snapshots) {
    if (snapshot.short_name() == "later") snapshot.clones.clear();
  }
  for (auto& [name, dataset] : one.before.datasets) {
    if (dataset.origin.ends_with("@later")) dataset.origin.clear();
  }
}

/// The host as a rollback leaves it, as a view and as a fake host.
Scene undo_scene(virt::State state, bool only_disks) {
  Rollback first(state);
  first.request.only_disks = only_disks;
  const auto done = first.rollback();
  FakeHost before = first.before;
  {
    FakeRunner runner(before);
    for (const auto& step : done.plan.steps) runner.run(step);
  }
  const View view = view_of(before, first.host.view);
  RollbackFacts facts;
  for (const auto& [name, fake] : before.snapshots) {
    auto snapshot = test::snapshot(name, fake.createtxg);
    snapshot.guid = fake.guid;
    facts.snapshots.push_back(snapshot);
  }
  const auto& domain = before.domains.at(test::uuid_of("web"));
  facts.definitions = {domain.xml, true, domain.xml};
  facts.past_definition = test::definition(first.host, "web");
  facts.host.interfaces = {"br0"};
  View as_it_runs = view;
  for (auto& info : as_it_runs.domains) info.state = state;
  return scene(std::move(before), plan_undo(as_it_runs, {{"web", true, 60, kKeptFor}, {}}, facts, test::fresh_again()));
}

/// golden with a clone; `request` says who is set aside.
struct Ghost {
  Host host;
  DeleteFacts facts;
  GhostFacts more;
  FakeHost before;

  explicit Ghost(virt::State state) {
    host.machine("golden", {.state = state, .labels = {"data"}});
    host.clone("golden", "clone-2026-04-04T12:00:00Z", "web");
    host.domain_of("golden").autostart = true;
    host.domain_of("web").has_managed_save = state != virt::State::shut_off;
    before = with_files(host);
    facts.snapshots = host.snapshots("golden", "clone-2026-04-04T12:00:00Z", 200, "clone", {"web"});
    before.add(facts.snapshots);
    facts.origins = host.view.datasets;
    for (const auto& name : {"golden", "web"}) {
      facts.definitions[name] = test::definition(host, name);
      more.definitions[name] = {facts.definitions[name], true, "<old/>"};
      before.file(definition_path(name)) = "<old/>";
    }
  }
  Scene set_aside(const DeleteRequest& request) const {
    return scene(before, plan_ghost(host.view, request, facts, more, test::fresh()));
  }
};

/// golden, deleted and set aside, comes back; `web` is cloned from it.
Scene revive_scene() {
  const Ghost ghost(virt::State::shut_off);
  const auto done = ghost.set_aside({{"golden"}, false, false, true});
  FakeHost before = done.before;
  {
    FakeRunner runner(before);
    for (const auto& step : done.plan.steps) runner.run(step);
  }
  View view = view_of(before, ghost.host.view);
  std::erase_if(view.domains, [](const auto& domain) { return domain.name == "golden"; });
  ReviveFacts facts;
  facts.definition = ghost.facts.definitions.at("golden");
  facts.autostart = true;
  facts.host.interfaces = {"br0"};
  return scene(std::move(before), plan_revive(view, {"golden", {}}, facts, test::fresh_again()));
}

std::vector<Case> cases() {
  const auto off = virt::State::shut_off;
  return {
      {"Create", [] { return create_scene(true); }},
      {"CreateTheFirst", [] { return create_scene(false); }},
      {"CreateThick", [] { return create_scene(true, true); }},
      {"CloneWithSnapshot", [] { return clone_scene([](auto& o) { o.saved_differs = true; }); }},
      {"CloneReusing", [] { return clone_scene([](auto& o) { o.reusable = true; }); }},
      {"CloneStarted", [] { return clone_scene([](auto& o) { o.request.start = true; }); }},
      {"CloneMany", [] { return clone_scene([](auto& o) { o.request.targets = numbered("worker-", 3); }); }},
      {"CloneFull", [] { return clone_scene([](auto& o) { o.request.full = true; }); }},
      {"CloneOfSnapshot", [] { return clone_scene([](auto& o) { o.snapshot = "monday"; }); }},
      {"CloneOfSnapshotWithoutState",
       [] { return clone_scene([](auto& o) { o.snapshot = "monday", o.without_state = true; }); }},
      {"CloneFullOfSnapshot",
       [] { return clone_scene([](auto& o) { o.snapshot = "monday", o.request.full = true; }); }},
      {"CloneNewTpm", [] { return clone_scene([](auto& o) { o.request.new_tpm = true; }); }},
      {"CloneSeeded", [] { return clone_scene([](auto& o) { o.request.seed.user = "ann"; }); }},
      {"Snapshot", snapshot_scene},
      {"SnapshotDelete", snapshot_delete_scene},
      {"AutoSnapshot", auto_snapshot_scene},
      {"Prune", prune_scene},
      {"HoldBack", [] { return hold_back_scene(false); }},
      {"Release", [] { return hold_back_scene(true); }},
      {"Delete",
       [=] {
         return delete_scene({{"web-1"}, false, false}, off, false);
       }},
      {"DeleteRunning",
       [] {
         return delete_scene({{"web-1"}, true, false}, virt::State::running, false);
       }},
      {"DeleteSaved",
       [=] {
         return delete_scene({{"web-1"}, false, true}, off, true);
       }},
      {"DeleteFamily",
       [=] {
         return delete_scene({{"golden", "web-2", "web-1"}, false, false}, off, false);
       }},
      {"Adopt", [] { return adopt_scene(false); }},
      {"AdoptOfWhatStartsWithTheHost", [] { return adopt_scene(true); }},
      {"DefineAgain", define_again_scene},
      {"Rollback", [=] { return rollback_scene(off); }},
      {"RollbackOfWhatRuns", [] { return rollback_scene(virt::State::running); }},
      {"RollbackOfDisks",
       [] { return rollback_scene(virt::State::running, [](auto& o) { o.request.only_disks = true; }); }},
      {"RollbackToTheNewest", [=] { return rollback_scene(off, [](auto& o) { o.request.snapshot.reset(); }); }},
      {"RollbackBeforeADisk", [=] { return rollback_scene(off, without_data); }},
      {"RollbackTheClassicWay", [=] { return rollback_scene(off, the_classic_way); }},
      {"RollbackTheClassicWayOfWhatRuns", [] { return rollback_scene(virt::State::running, the_classic_way); }},
      {"RollbackTheClassicWayOfDisks",
       [=] {
         return rollback_scene(off, [](auto& o) {
           the_classic_way(o);
           o.request.only_disks = true;
         });
       }},
      {"RollbackTheClassicWayToTheNewest",
       [=] {
         return rollback_scene(off, [](auto& o) {
           the_classic_way(o);
           o.request.snapshot = "later";
         });
       }},
      {"Undo", [=] { return undo_scene(off, false); }},
      {"UndoOfWhatRuns", [] { return undo_scene(virt::State::running, false); }},
      {"UndoOfDisks", [=] { return undo_scene(off, true); }},
      {"Ghost",
       [=] {
         return Ghost(off).set_aside({{"golden"}, false, false, true});
       }},
      {"GhostOfTwo",
       [] {
         return Ghost(virt::State::running).set_aside({{"golden", "web"}, true, true, true, 60});
       }},
      {"Revive", [] { return revive_scene(); }},
  };
}

struct MemoryRecord : run::Record {
  std::optional<std::size_t> begun;
  bool undoing = false;
  std::set<std::size_t> undone_steps;
  bool closed = false;
  void begin(std::size_t step) override { begun = step; }
  void begin_undo() override { undoing = true; }
  void undone(std::size_t step) override { undone_steps.insert(step); }
  void close() override { closed = true; }
};

run::OpenEntry entry_of(const Plan& plan, std::optional<std::size_t> begun, bool other_boot = false) {
  run::OpenEntry entry(::memfd_create("entry", 0), "/nonexistent/entry.json");
  entry.plan = plan;
  entry.begun = begun;
  entry.boot_id = other_boot ? "another boot" : run::current_boot_id();
  return entry;
}

bool is_about_a_domain(const Step& step) {
  return std::holds_alternative<UndefineDomains>(step) || std::holds_alternative<RedefineDomain>(step) ||
         std::holds_alternative<StopDomain>(step) || std::holds_alternative<PromoteDatasets>(step) ||
         std::holds_alternative<RestoreFiles>(step);
}

class Faults : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    scene_ = GetParam().make();
    after_ = carried_out(false);
    after_backwards_ = carried_out(true);
    // What recovery reads has been through the journal's text.
    for (auto& step : scene_.plan.steps) step = step_from_json(nlohmann::json::parse(to_json(step).dump()));
  }

  const Plan& plan() const { return scene_.plan; }
  const FakeHost& before() const { return scene_.before; }
  const FakeHost& after(bool backwards = false) const { return backwards ? after_backwards_ : after_; }
  FakeHost carried_out(bool backwards) const {
    FakeHost host = before();
    FakeRunner runner(host);
    runner.backwards = backwards;
    MemoryRecord record;
    run::execute(plan(), runner, record, {});
    EXPECT_TRUE(record.closed);
    EXPECT_TRUE(runner.unsynced.empty()) << "nobody would write " << runner.unsynced.front().first << " again";
    return host;
  }
  bool is_all_or_nothing(std::size_t step) const {
    return std::holds_alternative<DestroySnapshots>(plan().steps[step]);
  }
  /// The first step that a process which lives does not undo.
  std::size_t no_return() const {
    std::size_t at = plan().commit;
    while (at < plan().steps.size() && !is_destructive(plan().steps[at])) ++at;
    return at;
  }
  /// Of a process that died with this step begun: recovery finishes.
  bool is_finished(std::size_t step, bool done) const {
    // A snapshot of a later moment would not be the one that was asked for.
    if (std::holds_alternative<TakeSnapshots>(plan().steps[step])) return step >= plan().commit && done;
    return step >= plan().commit;
  }

  /// Calls `body` with each point at which a run can be cut: the step, and how many of its acts were done.
  void at_every_point(const std::function<void(std::size_t step, std::size_t act, std::size_t acts)>& body) {
    std::vector<std::size_t> acts_of;
    FakeHost host = before();
    FakeRunner runner(host);
    runner.trouble = [&](const Step&, std::size_t act, std::size_t acts) {
      if (act == 0) acts_of.push_back(acts);
    };
    MemoryRecord record;
    run::execute(plan(), runner, record, {});
    ASSERT_EQ(acts_of.size(), plan().steps.size());
    for (std::size_t step = 0; step < acts_of.size(); ++step) {
      for (std::size_t act = 0; act <= acts_of[step]; ++act) {
        SCOPED_TRACE(
            fmt::format("step {} ({}), {} of {} acts done", step, describe(plan().steps[step]), act, acts_of[step]));
        body(step, act, acts_of[step]);
        if (HasFailure()) return;
      }
    }
  }

  /// Makes the runner throw `what` when step number `step` has done `act` acts; what runs after that is healthy.
  template <typename Thrown>
  static void trouble_at(FakeRunner& runner, std::size_t step, std::size_t at, Thrown what) {
    runner.trouble = [=, seen = std::size_t{0}, done = false](const Step&, std::size_t act, std::size_t acts) mutable {
      if (done) return;
      if (seen == step && act == at) {
        done = true;
        throw what;
      }
      if (act == acts) ++seen;
    };
  }

  /// Runs until the process dies. The host as it left it; `begun` is what its journal says.
  /// `power`: what had not reached the disk is gone.
  FakeHost die_at(std::size_t step, std::size_t act, bool backwards, std::optional<std::size_t>& begun,
                  bool power = false) {
    FakeHost host = before();
    FakeHost left;
    FakeRunner runner(host);
    runner.backwards = backwards;
    MemoryRecord record;
    // What the executor does after that, the dead process does not do any more.
    runner.trouble = [&, seen = std::size_t{0}, dead = false](const Step&, std::size_t at, std::size_t acts) mutable {
      if (dead) return;
      if (seen == step && at == act) {
        dead = true;
        left = host;
        if (power) left.lose(runner.unsynced);
        begun = record.begun;
        throw Error("died");
      }
      if (at == acts) ++seen;
    };
    EXPECT_THROW(run::execute(plan(), runner, record, {}), Error);
    return left;
  }

  void expect_recovers(FakeHost host, std::optional<std::size_t> begun, const FakeHost& expected, bool finish,
                       bool other_boot = false, bool undoing = false, const std::set<std::size_t>& undone = {}) {
    auto entry = entry_of(plan(), begun, other_boot);
    entry.undoing = undoing;
    entry.undone = undone;
    FakeRunner runner(host);
    runner.recovering = true;
    const auto result = run::recover_one(entry, runner, {});
    EXPECT_EQ(result.problem, "");
    EXPECT_EQ(result.how, finish ? run::Recovered::How::finished : run::Recovered::How::undone);
    EXPECT_EQ(difference(expected, host), "");
  }

 private:
  Scene scene_;
  FakeHost after_;
  FakeHost after_backwards_;
};

TEST_P(Faults, PlanIsReversibleUpToItsCommitPoint) {
  EXPECT_NE(before(), after());
  ASSERT_LE(plan().commit, plan().steps.size());
  for (std::size_t i = 0; i < plan().commit; ++i) EXPECT_FALSE(is_destructive(plan().steps[i])) << i;
}

TEST_P(Faults, WhatFailsIsUndone) {
  for (const bool backwards : {false, true}) {
    at_every_point([&](std::size_t step, std::size_t act, std::size_t acts) {
      // A call that is all or nothing does not fail when it is done.
      if (step >= plan().commit && is_all_or_nothing(step) && act == acts) return;
      FakeHost host = before();
      FakeRunner runner(host);
      runner.backwards = backwards;
      trouble_at(runner, step, act, Error("made to fail"));
      MemoryRecord record;
      const bool undone = step < no_return() || (step == plan().commit && is_all_or_nothing(step));
      const bool settled = undone || is_whole_without(plan(), step);
      try {
        run::execute(plan(), runner, record, {});
        ADD_FAILURE() << "did not fail";
      } catch (const Error& error) {
        EXPECT_EQ(error.message(), "made to fail");
        EXPECT_EQ(error.exit(), settled ? Exit::failed : Exit::needs_recovery);
        EXPECT_EQ(error.undone(), undone);
      }
      EXPECT_EQ(record.closed, settled);
      if (undone) {
        EXPECT_EQ(difference(before(), host), "");
      } else if (!settled) {
        expect_recovers(host, record.begun, after(backwards), true);
      }
    });
  }
}

TEST_P(Faults, AnInterruptionIsUndone) {
  for (std::size_t stop = 0; stop <= plan().steps.size(); ++stop) {
    SCOPED_TRACE(fmt::format("before step {}", stop));
    FakeHost host = before();
    FakeRunner runner(host);
    MemoryRecord record;
    run::Watch watch;
    std::size_t asked = 0;
    watch.interrupted = [&] { return asked++ >= stop; };
    if (stop < no_return()) {
      try {
        run::execute(plan(), runner, record, watch);
        ADD_FAILURE() << "was not interrupted";
      } catch (const Error& error) {
        EXPECT_EQ(error.exit(), Exit::interrupted);
      }
      EXPECT_EQ(difference(before(), host), "");
    } else {
      run::execute(plan(), runner, record, watch);
      EXPECT_EQ(difference(after(), host), "");
    }
    EXPECT_TRUE(record.closed);
  }
}

TEST_P(Faults, AnInterruptionInsideAStepIsUndone) {
  at_every_point([&](std::size_t step, std::size_t act, std::size_t) {
    if (step >= no_return()) return;
    FakeHost host = before();
    FakeRunner runner(host);
    trouble_at(runner, step, act, Interrupted());
    MemoryRecord record;
    try {
      run::execute(plan(), runner, record, {});
      ADD_FAILURE() << "was not interrupted";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit(), Exit::interrupted);
    }
    EXPECT_EQ(difference(before(), host), "");
    EXPECT_TRUE(record.closed);
  });
}

TEST_P(Faults, ARecordThatCannotBeWrittenIsUndone) {
  struct Failing : MemoryRecord {
    std::size_t at = 0;
    void begin(std::size_t step) override {
      if (step == at) throw Error("cannot sync journal: No space left on device");
      MemoryRecord::begin(step);
    }
  };
  for (std::size_t step = 0; step < no_return(); ++step) {
    SCOPED_TRACE(fmt::format("step {}", step));
    FakeHost host = before();
    FakeRunner runner(host);
    Failing record;
    record.at = step;
    EXPECT_THROW(run::execute(plan(), runner, record, {}), Error);
    EXPECT_EQ(difference(before(), host), "");
    EXPECT_TRUE(record.closed);
  }
}

TEST_P(Faults, WhatDiesIsRecovered) {
  expect_recovers(before(), std::nullopt, before(), false);
  for (const bool backwards : {false, true}) {
    at_every_point([&](std::size_t step, std::size_t act, std::size_t acts) {
      std::optional<std::size_t> begun;
      const FakeHost left = die_at(step, act, backwards, begun);
      EXPECT_EQ(begun, step);
      const bool finish = is_finished(step, act == acts);
      expect_recovers(left, begun, finish ? after(backwards) : before(), finish);
    });
  }
}

// The next step was written down, and not one act of it was done.
TEST_P(Faults, WhatDiesBehindItsRecordIsRecovered) {
  FakeHost host = before();
  FakeRunner runner(host);
  for (std::size_t step = 0; step < plan().steps.size(); ++step) {
    expect_recovers(host, step, is_finished(step, false) ? after() : before(), is_finished(step, false));
    runner.run(plan().steps[step]);
  }
}

/// A host that has started anew, and the plan's machines with it that ran and start with the host.
FakeHost booted(FakeHost host, const Plan& plan) {
  const auto ran = host.domains;
  host.boot();
  for (const auto& step : plan.steps) {
    const auto* autostart = std::get_if<SetAutostart>(&step);
    if (autostart == nullptr || autostart->autostart || !ran.contains(autostart->domain.uuid)) continue;
    const auto& domain = ran.at(autostart->domain.uuid);
    host.domains.at(autostart->domain.uuid).running = domain.running && domain.autostart;
  }
  return host;
}

TEST_P(Faults, WhatAPowerCutLeavesIsRecovered) {
  const FakeHost booted_before = booted(before(), plan());
  const FakeHost booted_after = booted(after(), plan());
  at_every_point([&](std::size_t step, std::size_t act, std::size_t acts) {
    for (const bool files_lost : {false, true}) {
      std::optional<std::size_t> begun;
      const FakeHost left = booted(die_at(step, act, false, begun, files_lost), plan());
      const bool finish = is_finished(step, act == acts);
      expect_recovers(left, begun, finish ? booted_after : booted_before, finish, true);
      // Of the journal's notes only that of the commit point is sure to be there.
      const auto noted = step < plan().commit ? std::nullopt : std::optional(plan().commit);
      expect_recovers(left, noted, finish ? booted_after : booted_before, finish, true);
    }
  });
}

TEST_P(Faults, ARecoveryThatDiesIsRecovered) {
  at_every_point([&](std::size_t step, std::size_t act, std::size_t acts) {
    std::optional<std::size_t> begun;
    const FakeHost left = die_at(step, act, false, begun);
    // Count the points of the recovery, then die at each.
    std::size_t points = 0;
    {
      FakeHost host = left;
      FakeRunner runner(host);
      runner.recovering = true;
      runner.trouble = [&](const Step&, std::size_t, std::size_t) { ++points; };
      auto entry = entry_of(plan(), begun);
      run::recover_one(entry, runner, {});
    }
    for (std::size_t point = 0; point < points; ++point) {
      SCOPED_TRACE(fmt::format("recovery dies at {} of {}", point, points));
      FakeHost host = left;
      FakeHost left_again;
      std::set<std::size_t> undone;
      FakeRunner runner(host);
      runner.recovering = true;
      auto entry = entry_of(plan(), begun);
      runner.trouble = [&, seen = std::size_t{0}](const Step&, std::size_t, std::size_t) mutable {
        if (seen++ != point) return;
        left_again = host;
        undone = entry.undone;
        throw Error("died");
      };
      run::recover_one(entry, runner, {});
      // Cut off before the undo of a step that it was about to find out about, or behind it.
      const bool finish = is_finished(step, act == acts);
      expect_recovers(left_again, begun, finish ? after() : before(), finish, false, false, undone);
      if (HasFailure()) return;
    }
  });
}

TEST_P(Faults, AnUndoThatFailsKeepsTheRecord) {
  at_every_point([&](std::size_t step, std::size_t act, std::size_t acts) {
    if (step >= no_return() || act != acts) return;
    std::vector<Step> undos;
    for (std::size_t i = step + 1; i-- > 0;) {
      if (const auto back = inverse(plan().steps[i])) undos.push_back(*back);
    }
    const std::size_t inverses = undos.size();
    for (std::size_t broken = 0; broken < inverses; ++broken) {
      // All the others are tried, but nothing is started over what is left.
      const auto tried = broken + 1 +
                         static_cast<std::size_t>(std::count_if(
                             undos.begin() + static_cast<std::ptrdiff_t>(broken) + 1, undos.end(),
                             [](const Step& back) { return !std::holds_alternative<StartDomain>(back); }));
      SCOPED_TRACE(fmt::format("inverse {} of {} fails", broken, inverses));
      FakeHost host = before();
      FakeRunner runner(host);
      std::size_t undone = 0;
      std::size_t failed = 0;
      runner.trouble = [&, seen = std::size_t{0}](const Step&, std::size_t at, std::size_t of) mutable {
        if (undone == 0 && seen == step && at == of) throw Error("made to fail");
        if (undone == broken + 1 && at == 0) throw Error("cannot be undone");
        if (at == of) ++seen;
      };
      run::Watch watch;
      // A domain that cannot be taken back keeps what it stands on.
      bool stopped = false;
      watch.undo = [&](const Step& inverse) {
        ++undone;
        stopped = stopped || (undone == broken + 1 && is_about_a_domain(inverse));
      };
      watch.undo_failed = [&](const Error&) { ++failed; };
      MemoryRecord record;
      try {
        run::execute(plan(), runner, record, watch);
        ADD_FAILURE() << "did not fail";
      } catch (const Error& error) {
        EXPECT_EQ(error.message(), "made to fail");
        EXPECT_EQ(error.exit(), Exit::needs_recovery);
      }
      EXPECT_FALSE(record.closed);
      EXPECT_TRUE(record.undoing);
      EXPECT_TRUE(stopped || undone == tried) << "the others are tried all the same";
      EXPECT_GE(failed, 1U);
      // What it had started, and could not take back, may be in use by the time of the recovery.
      const auto started = started_by(plan(), *record.begun, record.undone_steps);
      const auto is_there = [&](const Started& one) {
        const auto found = host.domains.find(one.domain.uuid);
        return found != host.domains.end() && (one.defined || found->second.running);
      };
      if (std::any_of(started.begin(), started.end(), is_there)) {
        auto entry = entry_of(plan(), record.begun);
        entry.undoing = true;
        entry.undone = record.undone_steps;
        FakeHost untouched = host;
        FakeRunner recovery(untouched);
        recovery.recovering = true;
        EXPECT_EQ(run::recover_one(entry, recovery, {}).how, run::Recovered::How::failed);
        EXPECT_EQ(difference(host, untouched), "");
        for (const auto& one : started) {
          if (one.defined) host.domains.erase(one.domain.uuid);
          if (!one.defined) host.domains.at(one.domain.uuid).running = false;
        }
      }
      expect_recovers(host, record.begun, before(), false, false, true, record.undone_steps);
    }
  });
}

// Everything that it made was cleared away by hand, the definitions, too: nothing is defined again without its disks.
TEST_P(Faults, WhatWasClearedAwayIsNotFinished) {
  const auto made = made_by(plan());
  // What was promoted has clones: nobody can clear it away.
  const auto promotes = [](const Step& step) { return std::holds_alternative<PromoteDatasets>(step); };
  if (made.empty() || std::any_of(plan().steps.begin(), plan().steps.end(), promotes)) return;
  for (std::size_t step = plan().commit; step < plan().steps.size(); ++step) {
    SCOPED_TRACE(describe(plan().steps[step]));
    std::optional<std::size_t> begun;
    FakeHost host = die_at(step, 0, false, begun);
    std::erase_if(host.domains, [&](const auto& domain) { return !before().domains.contains(domain.first); });
    for (const auto& name : made) {
      std::erase_if(host.mounts, [&](const auto& mount) { return mount.second == name; });
      host.datasets.erase(name);
    }
    auto entry = entry_of(plan(), begun);
    FakeRunner runner(host);
    runner.recovering = true;
    const auto result = run::recover_one(entry, runner, {});
    EXPECT_EQ(result.how, run::Recovered::How::undone) << result.problem;
    for (const auto& [uuid, domain] : host.domains) EXPECT_TRUE(before().domains.contains(uuid)) << domain.name;
    EXPECT_TRUE(entry.undoing) << "noted before it begins";
  }
}

TEST_P(Faults, ARecoveryThatFailsKeepsItsEntry) {
  std::optional<std::size_t> begun;
  FakeHost host = die_at(plan().steps.size() - 1, 0, false, begun);
  const FakeHost left = host;
  FakeRunner runner(host);
  runner.recovering = true;
  runner.trouble = [](const Step&, std::size_t, std::size_t) { throw Error("the disk is gone"); };
  auto entry = entry_of(plan(), begun);
  const auto result = run::recover_one(entry, runner, {});
  const auto& last = plan().steps.back();
  // One that ran before is taken back when it does not start, and that fails here, too.
  const bool goes_back = takes_all_back(plan(), plan().steps.size() - 1, {begun, false});
  if (!goes_back && (std::holds_alternative<StartDomain>(last) || std::holds_alternative<AwaitDevices>(last))) {
    // The machine is whole, and may have been used since.
    EXPECT_EQ(result.how, run::Recovered::How::finished);
    EXPECT_NE(result.problem, "");
  } else if (plan().steps.size() == 1 && is_all_or_nothing(0)) {
    // Nothing is lost yet: given up rather than tried for ever.
    EXPECT_EQ(result.how, run::Recovered::How::undone);
    EXPECT_EQ(difference(before(), host), "");
  } else {
    EXPECT_EQ(result.how, run::Recovered::How::failed);
    EXPECT_NE(result.problem, "");
    EXPECT_EQ(difference(left, host), "");
  }
}

// A machine that ran before, and as it was does not start: the present comes back, as in a living run.
TEST_P(Faults, AStartThatFailsInRecoveryTakesAllBack) {
  for (std::size_t step = plan().commit + 1; step < plan().steps.size(); ++step) {
    if (!takes_all_back(plan(), step, {step - 1, false})) continue;
    std::optional<std::size_t> begun;
    FakeHost host = die_at(step - 1, 0, false, begun);
    FakeRunner runner(host);
    runner.recovering = true;
    trouble_at(runner, 1, 0, Error("it does not start"));
    auto entry = entry_of(plan(), begun);
    const auto result = run::recover_one(entry, runner, {});
    EXPECT_EQ(result.how, run::Recovered::How::undone);
    EXPECT_EQ(result.problem, "it does not start");
    EXPECT_EQ(difference(before(), host), "");
    EXPECT_TRUE(entry.undoing) << "noted before it begins";
  }
}

// Behind the commit point, but libvirt knows of nothing yet: what cannot be finished can still be undone.
TEST_P(Faults, WhatCannotBePreparedIsUndone) {
  const auto is_preparing = [](const Step& step) {
    return std::holds_alternative<MountFilesystems>(step) || std::holds_alternative<CopyFiles>(step) ||
           std::holds_alternative<WriteFiles>(step) || std::holds_alternative<WriteSeeds>(step);
  };
  for (std::size_t step = plan().commit; step < plan().steps.size() && is_preparing(plan().steps[step]); ++step) {
    for (std::size_t broken = step; broken < plan().steps.size() && is_preparing(plan().steps[broken]); ++broken) {
      SCOPED_TRACE(fmt::format("died in step {}, step {} cannot be done", step, broken));
      std::optional<std::size_t> begun;
      FakeHost host = die_at(step, 0, false, begun);
      FakeRunner runner(host);
      runner.recovering = true;
      trouble_at(runner, broken - step, 0, Error("cannot be done"));
      auto entry = entry_of(plan(), begun);
      const auto result = run::recover_one(entry, runner, {});
      EXPECT_EQ(result.how, run::Recovered::How::undone);
      EXPECT_EQ(difference(before(), host), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, Faults, testing::ValuesIn(cases()), [](const auto& test) { return test.param.name; });

// Two clones of one source share its lock: what one has cloned since stays when the other is undone.
TEST(Undo, LeavesASnapshotThatAnotherCloned) {
  Host host;
  host.machine("golden");
  FakeHost fake = with_files(host);
  FakeRunner runner(fake);
  const zfs::Properties own = {{zfs::property::op, test::kOp}};
  const Step take = TakeSnapshots{{"rpool/vms/golden@s", "rpool/vms/.state/golden@s"}, own};
  runner.run(take);
  runner.run(CloneDatasets{{{"rpool/vms/golden@s", "rpool/vms/theirs", {{zfs::property::op, test::kEarlierOp}}}}});
  EXPECT_TRUE(run::undo({take}, 0, runner, {}, {}));
  EXPECT_TRUE(fake.snapshots.contains("rpool/vms/golden@s"));
  EXPECT_FALSE(fake.snapshots.contains("rpool/vms/.state/golden@s"));
}

// Somebody has started what a dead command had just defined.
TEST(Undo, LeavesWhatAMachineInUseStandsOn) {
  Host host;
  host.machine("web");
  FakeHost fake = with_files(host);
  const auto uuid = test::uuid_of("web");
  fake.domains.at(uuid).running = true;
  const FakeHost untouched = fake;
  FakeRunner runner(fake);
  runner.recovering = true;
  const zfs::Properties own = {{zfs::property::op, host.view.datasets.back().property(zfs::property::op)}};
  EXPECT_FALSE(run::undo({CreateVolume{"rpool/vms/web", GiB, own}, DefineDomains{{{"web", uuid, "<domain/>"}}}}, 1,
                         runner, {}, {}));
  EXPECT_EQ(difference(untouched, fake), "");
}

TEST(Undo, TouchesNothingOfTheSameNameThatAnotherMade) {
  Host host;
  host.machine("web", {.tpm = false});
  FakeHost fake = with_files(host);
  fake.add(host.snapshots("web", "s", 200));
  const FakeHost untouched = fake;
  FakeRunner runner(fake);
  const zfs::Properties own = {{zfs::property::op, test::kOp}};
  EXPECT_TRUE(run::undo({CreateVolume{"rpool/vms/web", GiB, own}, CreateFilesystem{"rpool/vms/.state/web", own},
                         TakeSnapshots{{"rpool/vms/web@s"}, own}},
                        2, runner, {}, {}));
  EXPECT_EQ(difference(untouched, fake), "");
}

TEST(Undo, LeavesACommonFilesystemThatIsInUse) {
  Host host(false);
  FakeHost fake = FakeHost::of(host.view);
  FakeRunner runner(fake);
  const Step state = CreateFilesystem{"rpool/vms/.state", {{"canmount", "off"}, {zfs::property::op, test::kOp}}};
  runner.run(state);
  runner.run(CreateFilesystem{"rpool/vms/.state/theirs", {{zfs::property::op, test::kEarlierOp}}});
  EXPECT_TRUE(run::undo({state}, 0, runner, {}, {}));
  EXPECT_TRUE(fake.datasets.contains("rpool/vms/.state"));
}

}  // namespace
}  // namespace kld::plan
