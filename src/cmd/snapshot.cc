// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "cmd/commands.h"
#include "cmd/snapshot_run.h"

namespace kld::cmd {

cli::Command snapshot() {
  cli::Command command{"snapshot", "kvm-snapshot", "Take automatic snapshots and prune old ones, as every hour", "",
                       {},         nullptr};
  command.description =
      "Takes a snapshot @auto-UTC of every machine, all machines of one consistency in one call, then destroys "
      "automatic snapshots that no rule keeps. kvm-snapshot.timer runs it every hour.\n\n"
      "The rule is the property com.kldload:keep, inherited from the root or set on the machine's first disk, or else "
      "'keep' in kvm.toml(5), or else hourly=48: every snapshot younger than 48 hours. daily=N, weekly=N and monthly=N "
      "keep the oldest of each of the last N days (UTC), ISO weeks and months that have one, last=N the newest N; "
      "joined by commas, a snapshot stays as long as one of them wants it. none opts a machine out. Golden images "
      "(com.kldload:golden=true) take part only with a rule of their own.\n\n"
      "Only what it made itself goes: never a snapshot that is held or cloned, nor the newest two. When the clock has "
      "jumped by more than a day, or the host stood still for so long, and more than half of a machine's would go, "
      "nothing of it goes until --prune is given by hand.\n\n"
      "A machine whose snapshot would not be whole is left out, and the exit status is 1. One that another command "
      "works on is left out with a warning, and once its newest automatic snapshot is two hours old that is a failure, "
      "too. Above 80 % of the pool there is a warning, above 90 % there are no new snapshots, exit status 1.";
  command.examples = {{"kvm-snapshot", "takes and prunes, as the timer does"},
                      {"kvm-snapshot --explain", "each snapshot: stays or goes, and why"},
                      {"kvm-snapshot web --prune", "prunes one machine, also what was held back"},
                      {"zfs set com.kldload:keep=hourly=24,daily=14 rpool/vms/web", "another rule for one machine"},
                      {"zfs set com.kldload:keep=none rpool/vms/scratch", "no automatic snapshots"}};
  command.declare = [](CLI::App& app, cli::Context& context) -> std::function<void()> {
    auto flags = std::make_shared<SnapshotFlags>();
    app.add_option("MACHINE", flags->machines, "These machines alone; without, all");
    app.add_flag("--prune", flags->prune, "Take none, prune only; accepts a prune that was held back");
    app.add_flag("--explain", flags->explain, "Say of each snapshot whether it stays or goes, and why; change nothing");
    return [flags, &context] {
      if (flags->explain && flags->prune) throw UsageError("--explain changes nothing: it goes without --prune");
      if (flags->explain) return explain_retention(context, *flags);
      SnapshotRun(context, *flags).run();
    };
  };
  return command;
}

}  // namespace kld::cmd
