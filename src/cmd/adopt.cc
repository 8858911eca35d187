// SPDX-License-Identifier: Apache-2.0
#include "plan/adopt.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "base/error.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "run/file.h"
#include "virt/definition.h"
#include "zfs/device.h"
#include "zfs/mount.h"

namespace kld::cmd {
namespace {

namespace fs = std::filesystem;

struct AdoptFlags {
  std::vector<std::string> names;
  bool all = false;
};

/// TPM state that lies under where the state's dataset is to be mounted.
bool has_tpm_state(const std::string& uuid) {
  std::error_code none;
  const auto directory = plan::tpm_directory(uuid);
  return zfs::mounted_at(directory).empty() && fs::is_directory(directory, none) && !fs::is_empty(directory, none);
}

plan::AdoptFacts look(const run::Host& host, const std::string& name) {
  plan::AdoptFacts facts;
  facts.volumes = host.view().volumes;
  const auto* domain = plan::find_domain(host.view(), name);
  auto machine = plan::find_machine(host.view(), name).value_or(plan::Machine{name, {}, {}, {}, {}});
  if (domain != nullptr) machine.domain = *domain;
  const auto definitions = host.definitions(machine);
  facts.inactive = definitions.current;
  facts.volumes.merge(run::pool_volumes(host.libvirt(), facts.inactive));
  facts.saved_exists = definitions.saved_exists;
  facts.saved = definitions.saved;
  if (domain == nullptr) {
    if (facts.saved_exists) facts.saved_at = run::written_at(plan::definition_path(name));
    if (facts.saved_exists) facts.tpm_state_exists = has_tpm_state(virt::Definition::parse(facts.saved).uuid());
    return facts;
  }
  facts.block_jobs = host.block_jobs(machine);
  std::error_code none;
  const auto definition = virt::Definition::parse(facts.inactive);
  for (const auto& disk : definition.disks()) {
    if (zfs::is_partition(disk.source)) facts.partitions.insert(disk.source);
  }
  if (const auto variables = definition.variables()) facts.nvram_exists = fs::exists(*variables, none);
  facts.tpm_state_exists = has_tpm_state(domain->uuid);
  return facts;
}

std::vector<std::string> candidates(const run::Host& host) {
  std::map<std::string, std::string> definitions;
  auto volumes = host.view().volumes;
  const auto machines = plan::machines(host.view());
  for (const auto& domain : host.view().domains) {
    if (machines.contains(domain.name)) continue;
    auto xml = host.libvirt().inactive_xml_if_any(domain.uuid);
    if (!xml) continue;
    volumes.merge(run::pool_volumes(host.libvirt(), *xml));
    definitions[domain.name] = std::move(*xml);
  }
  return plan::adoptable(host.view(), definitions, volumes);
}

void adopt_one(cli::Context& context, const std::string& name) {
  context.dispose({{name, run::Lock::exclusive}}, {.pending_disks = true}, [&](const run::Host& host) {
    cli::Proposal proposal;
    proposal.result = plan::plan_adopt(host.view(), {name}, look(host, name), run::fresh());
    if (const auto* plan = std::get_if<plan::Plan>(&proposal.result)) {
      proposal.question.push_back(fmt::format("To take in '{}':", name));
      for (const auto& step : plan->steps) proposal.question.push_back("  " + plan::describe(step));
    }
    std::vector<std::string> originals;
    if (const auto* plan = std::get_if<plan::Plan>(&proposal.result)) originals = plan::originals(*plan);
    proposal.report = [name, originals](const run::Host&) {
      std::string text = fmt::format("Machine {} adopted.\n", name);
      if (originals.empty()) return text;
      Argv remove = {"rm", "-r"};
      remove.insert(remove.end(), originals.begin(), originals.end());
      return text + fmt::format("What was copied is kept; once the machine has started: {}\n", shell_line(remove));
    };
    proposal.report_json = [originals](const run::Host&) { return nlohmann::json{{"kept", originals}}; };
    return proposal;
  });
}

/// What is said of one among several.
std::string told(const std::string& name, const Error& error) {
  std::string text = fmt::format("{}: {}", name, error.message());
  if (const auto* refused = dynamic_cast<const Refused*>(&error)) {
    for (const auto& line : refused->refusal().evidence) text += "\n  - " + line;
  }
  return error.hint().empty() ? text : text + "\n  " + error.hint();
}

void run_adopt(cli::Context& context, const AdoptFlags& flags) {
  if (flags.all == !flags.names.empty()) throw UsageError("name machines, or give --all", "see 'kvm-adopt --help'");
  cli::Context::require_root();
  const auto names = flags.all ? candidates(context.look()) : flags.names;
  if (names.empty()) context.talk("Nothing to adopt.");
  if (names.size() == 1 && !flags.all) return adopt_one(context, names.front());
  // One that cannot be taken in does not keep the others out.
  context.begin_array();
  std::vector<std::string> failed;
  Exit exit = Exit::refused;
  for (const auto& name : names) {
    try {
      adopt_one(context, name);
      if (exit == Exit::refused && context.executing()) exit = Exit::failed;
    } catch (const Error& error) {
      const auto* refused = dynamic_cast<const Refused*>(&error);
      if (refused != nullptr && refused->refusal().kind == "already-adopted") {
        context.talk(refused->message());
        continue;
      }
      failed.push_back(name);
      if (context.common.json) context.answer({{"machine", name}, {"error", cli::to_json(error, context.executing())}});
      if (!context.common.json) context.warn(told(name, error));
      if (exit == Exit::refused && context.executing()) exit = Exit::failed;
      if (error.exit() == Exit::needs_recovery) exit = Exit::needs_recovery;
      if (error.exit() == Exit::interrupted) {
        exit = Exit::interrupted;
        break;
      }
    }
  }
  context.finish_array();
  if (failed.empty()) return;
  if (context.common.json) {
    context.outcome = exit;
    return;
  }
  Error error(fmt::format("not adopted: {}", fmt::join(failed, ", ")), "each warning above says why", exit);
  error.set_undone(false);
  throw error;
}

}  // namespace

cli::Command adopt() {
  cli::Command command{"adopt", "kvm-adopt", "Take libvirt machines on ZFS volumes into the layout", "", {}, nullptr};
  command.description =
      "Takes a shut-off libvirt machine whose disks are volumes below the root, whoever made it, into the layout: "
      "names "
      "and marks its volumes, gives it a state filesystem, and copies firmware variables and TPM there; the originals "
      "of these stay until you remove them. No disk data is copied. A machine whose datasets are there but which "
      "libvirt no longer knows is defined from its saved "
      "definition.";
  command.examples = {{"kvm-adopt legacy", "shows what changes, asks, adopts"},
                      {"kvm-adopt --all --yes", "everything that can be, for example after reinstalling the host"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<AdoptFlags>();
    app.add_option("MACHINE", flags->names, "The machines");
    app.add_flag("--all", flags->all, "All that can be adopted");
    return [flags, &context] { run_adopt(context, *flags); };
  };
  return command;
}

}  // namespace kld::cmd
