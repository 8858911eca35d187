# SPDX-License-Identifier: Apache-2.0
"""Ways to break a command on the host, from outside: the product has no hook for it.

The journal's records are the header, then one before each step: record 1 is the header, record N+2 is written before
step N runs. Behind each it makes one call that nothing else makes in the command's main thread: fdatasync where it waits,
sync_file_range where it does not. strace makes that very call deliver a signal, fail or wait.
"""

import collections
import os
import random
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import Callable

from host import JOURNAL, LIBVIRTD, REPOSITORY, ROOT, STATE, TPM, UTC, environment

SEED = int(environment("KLD_SEED"))
REPEATABLE = {"mount-filesystems", "write-files", "write-seeds", "define-domains", "await-devices",
              "save-definition", "start-domain"}
KILLED = (137, 255)  # what a process killed by SIGKILL looks like through ssh

LEGACY_UUID = "5f3c0f5e-0b5e-4c39-9f0e-0123456789ab"
LEGACY = f"""
<domain type='qemu'>
  <name>legacy</name>
  <uuid>{LEGACY_UUID}</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source dev='/dev/zvol/{ROOT}/disk-of-legacy'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>
"""


@dataclass
class Command:
    """A command that is broken. `make` makes what it removes, on a host that has the state after it."""

    name: str
    argv: list
    make: Callable = field(default=lambda host: None)
    finishes: bool = False  # what died behind its commit point is finished
    changes: int = 1  # calls to ZFS that its main thread makes at most once it changes something
    take_back: Callable = field(default=lambda host: None)  # by hand, once it went through or was finished
    whole: Callable = field(default=lambda host: None)  # asserts that what it makes is there and whole
    anew: bool = False  # what `take_back` makes is like the state before, with other guids
    loses: bool = False  # what fails behind its commit point is finished, too

    def plan(self, host):
        return plan_of(host, self.argv)


def _make_legacy(host):
    host.sh(f"zfs create -s -V 1G {ROOT}/disk-of-legacy; mkdir -p {TPM}/{LEGACY_UUID}/tpm2; "
            f"echo secret >{TPM}/{LEGACY_UUID}/tpm2/tpm2-00.permall; sync; udevadm settle")
    host.write("/tmp/legacy.xml", LEGACY)
    host.run("virsh", "define", "/tmp/legacy.xml")


def _legacy_is_adopted(host):
    assert host.kvm_list()["legacy"]["adopted"]
    assert host.read(f"{TPM}/{LEGACY_UUID}/tpm2/tpm2-00.permall") == "secret\n"
    assert f"/dev/zvol/{ROOT}/legacy'" in host.xml("legacy")


def _unadopt_legacy(host):
    host.sh(f"kvm-delete -q --yes legacy; rm -r {TPM}/{LEGACY_UUID}.before-*")
    _make_legacy(host)


def are_machines(*names):
    def check(host):
        listed = host.kvm_list(*names)
        assert all(listed[name]["state"] == "shut off" and not listed[name]["missing"] for name in names), listed
    return check


def _monday_is_whole(host):
    (snapshot,) = [one for one in host.run("kvm-snap", "edited", "list", "--json").json if one["name"] == "monday"]
    assert snapshot["missing"] == [], snapshot


def _forget_monday(host):
    """With the definition saved as it was before, so that the next run saves it again."""
    host.run("kvm-snap", "-q", "edited", "delete", "monday", "--yes")
    host.sh(f"cp /root/edited.xml {STATE}/edited/domain.xml")


def _make_victim(host):
    host.run("kvm-clone", "-q", "parent", "victim")
    host.run("virsh", "autostart", "victim")


def newer(name):
    """What is newer than @then on a machine that went back to it."""
    def make(host):
        host.fill(name, mib=1)
        host.run("kvm-snap", "-q", name, "snap", "later")
        host.run("virsh", "desc", name, "--config", "--new-desc", "edited since")
        host.run("kvm-snap", "-q", name, "snap", "latest")
    return make


def set_back(name):
    """A machine with two disks that has a snapshot, and newer ones."""
    def make(host):
        host.create(name, "-q", "--disk", "data=64M", tpm=True)
        host.run("kvm-snap", "-q", name, "snap", "then")
        newer(name)(host)
    return make


def _bring_back(host):
    host.run("kvm-snap", "-q", "back", "undo")
    (kept,) = host.run("kvm-snap", "back", "kept", "--json").json
    host.run("kvm-snap", "-q", "back", "drop", kept["name"], "--yes")
    host.sh(f"zfs list -Ho name -t snapshot -r {ROOT} | grep '/back.*@safety-' | xargs -n 1 zfs destroy; "
            f"zfs list -Ho name -r {ROOT}/.kept | grep -c / | grep -qx 1 && zfs destroy {ROOT}/.kept || true")


def _is_back(name, text):
    def check(host):
        are_machines(name)(host)
        assert ("edited since" in host.xml(name)) == (text == "now")
        assert len(host.run("kvm-snap", name, "kept", "--json").json) == 1
    return check


def _make_old(host):
    """Five automatic snapshots of the machine, of which the newest two stay."""
    host.sh(f"""
        now=$(date +%s); up=$(cut -d. -f1 /proc/uptime)
        for dataset in {ROOT}/pruned {ROOT}/.state/pruned; do
          names=$(zfs list -Ho name -d 1 -t snapshot $dataset | sed 's/.*@//' | paste -sd,)
          [ -z "$names" ] || zfs destroy $dataset@$names
        done
        for hours in 75 74 73 2 1; do
          date -s @$((now - hours * 3600)) >/dev/null
          name=auto-$(date -u +%FT%TZ)
          zfs snapshot -o com.kldload:by=auto -o com.kldload:op=test {ROOT}/pruned@$name {ROOT}/.state/pruned@$name
        done
        date -s @$((now + $(cut -d. -f1 /proc/uptime) - up)) >/dev/null""")


def _is_pruned(host):
    assert len(host.snapshots("pruned")) == len(host.snapshots(".state/pruned")) == 2


def _is_ghost(host):
    (kept,) = host.run("kvm-snap", "leaver", "kept", "--json").json
    assert kept["reason"] == "ghost" and "leaver" not in host.kvm_list() and "leaver" not in host.domains()


@dataclass
class Trouble:
    """What breaks around a command while it runs, and how it is mended. `begin` gets the machines that it works on."""

    name: str
    begin: Callable
    end: Callable


def _stop_libvirtd(host, _):
    host.sh(f"systemctl stop {LIBVIRTD} 2>&1")


def _fill_pool(host, _):
    """To the last block that anybody but ZFS itself may have."""
    host.sh("""
        zpool sync
        for less in 0 64 128 256 512; do
          left=$(($(zfs get -Hpo value available vmpool) - less * 1024))
          zfs create -o mountpoint=none -o refreservation=$left vmpool/ballast && exit
        done
        exit 1""")


def _open_disks(host, machines):
    """Those that are there by now."""
    devices = " ".join(f"/dev/zvol/{ROOT}/{name} /dev/zvol/{ROOT}/{name}-*" for name in machines)
    host.sh(f"for device in {devices}; do if [ -b $device ]; then setsid sleep 7777 <$device >/dev/null 2>&1 & fi; done")


TROUBLES = [
    Trouble("libvirtd stopped", _stop_libvirtd,
            lambda host: host.sh("systemctl start libvirtd.socket libvirtd.service; virsh -q list >/dev/null")),
    Trouble("pool full", _fill_pool, lambda host: host.sh("zfs destroy vmpool/ballast; zpool sync")),
    Trouble("datasets read-only", lambda host, _: host.sh("zfs set readonly=on vmpool"),
            lambda host: host.sh("zfs inherit readonly vmpool")),
    Trouble("disk held open", _open_disks, lambda host: host.sh("pkill -x -f 'sleep 7777' || true; udevadm settle")),
]


def named(*commands):
    return {command.name: command for command in commands}


COMMANDS = named(
    Command("create", ["kvm-create", "new", "--no-start", "--disk", "1", "--disk", "data=1", "--ram", "256",
                       "--cpus", "1", "--firmware", "bios", "--hostname", "new.example"],
            changes=5, take_back=lambda host: host.run("kvm-delete", "-q", "--yes", "new"), whole=are_machines("new")),
    Command("clone", ["kvm-clone", "source", "copy-1", "copy-2"],
            changes=4, take_back=lambda host: host.run("kvm-delete", "-q", "--yes", "copy-1", "copy-2"),
            whole=are_machines("copy-1", "copy-2")),
    Command("snap", ["kvm-snap", "edited", "snap", "monday"],
            take_back=_forget_monday,
            whole=_monday_is_whole, anew=True),
    Command("snap-delete", ["kvm-snap", "parent", "delete", "doomed", "--yes"],
            lambda host: host.run("kvm-snap", "-q", "parent", "snap", "doomed"), True, 2),
    Command("delete", ["kvm-delete", "victim", "--yes"], _make_victim, True, 5),
    Command("adopt", ["kvm-adopt", "legacy", "--yes"], changes=3, take_back=_unadopt_legacy,
            whole=_legacy_is_adopted, anew=True),
    Command("rollback", ["kvm-snap", "back", "rollback", "then"], changes=10, take_back=_bring_back,
            whole=_is_back("back", "then"), anew=True),
    Command("undo", ["kvm-snap", "undone", "undo"], changes=10,
            take_back=lambda host: host.run("kvm-snap", "-q", "undone", "undo"), whole=_is_back("undone", "now"), anew=True),
    Command("prune", ["kvm-snapshot", "pruned", "--prune"], changes=2, take_back=_make_old, whole=_is_pruned, anew=True),
    Command("ghost", ["kvm-delete", "leaver", "--ghost", "--yes"], changes=4,
            take_back=lambda host: host.run("kvm-snap", "-q", "leaver", "undo"), whole=_is_ghost, anew=True),
)

# A host that starts anew would start this one before anything was recovered, and swtpm would change its TPM.
COLD_DELETE = replace(COMMANDS["delete"], name="delete of what the host does not start",
                      make=lambda host: host.run("kvm-clone", "-q", "parent", "victim"))


def prepare(host):
    """What all commands work on; each leaves the others' alone."""
    for name in ("parent", "source", "edited"):
        host.create(name, "-q", tpm=True)
        host.sh(f"uuid=$(virsh domuuid {name}); mkdir -p {TPM}/$uuid/tpm2; echo {name} >{TPM}/$uuid/tpm2/tpm2-00.permall")
    host.run("virsh", "desc", "edited", "--config", "--new-desc", "edited by hand")
    host.sh(f"cp {STATE}/edited/domain.xml /root/edited.xml")
    for name in ("back", "undone"):
        set_back(name)(host)
    host.run("kvm-snap", "-q", "undone", "rollback", "then")
    host.create("pruned", "-q")
    _make_old(host)
    host.create("leaver", "-q", tpm=True)
    _make_legacy(host)
    # The first snapshot of a machine saves its definition as libvirt words it, and that changes when it starts again.
    host.sh("systemctl restart libvirtd")
    for name in ("parent", "source"):
        host.run("kvm-snap", "-q", name, "snap", "first")
        host.run("kvm-snap", "-q", name, "delete", "first", "--yes")
    TRIALS.clear()


def strace(inject, argv, *, path=None):
    """The command under strace with one injection into its main thread; with a path, only calls on it count.
    Not --seccomp-bpf: with it, strace 6.1 delivers no signals."""
    call = inject.split(":")[0]
    return ["strace", "-qq", "-o", "/tmp/strace", *(["-P", path] if path else []), "-e", f"trace={call}",
            "-e", f"inject={inject}", *argv]


def at_record(plan, record, what):
    """What to inject so that it happens when this record of the plan was written."""
    acts = [step["act"] for step in plan["steps"]]

    def is_synced(step):
        before = acts[step - 1] if step > 0 else None
        return step == plan["commit"] or before == "set-autostart" or (step > plan["commit"] and before not in REPEATABLE)

    calls = ["fdatasync"] + ["fdatasync" if is_synced(step) else "sync_file_range" for step in range(len(acts))]
    call = calls[record - 1]
    return f"{call}:{what}:when={calls[:record].count(call)}"


def record_before(plan, act):
    """The record that is written before the first step of this kind."""
    return [step["act"] for step in plan["steps"]].index(act) + 2


def hold(host, argv, record, seconds, plan=None):
    """Starts the command; it waits so long once the record is written and on disk as far as it asks for that."""
    what = f"delay_exit={seconds * 1000000}"
    background(host, strace(at_record(plan or plan_of(host, argv), record, what), argv))
    await_record(host, record)


def stop_at(host, argv, record, plan=None):
    """Starts the command and stops it once the record is written; go_on() lets it go on."""
    background(host, strace(at_record(plan or plan_of(host, argv), record, "signal=STOP"), argv))
    await_record(host, record)
    host.sh(f"for i in $(seq 300); do case $(ps -o stat= -C {argv[0]}) in [Tt]*) exit ;; esac; sleep 0.1; done; exit 1")


def go_on(host, argv):
    """Its exit status and what it said."""
    host.sh(f"pkill -CONT -x {argv[0]}")
    return background_status(host)


def plan_of(host, argv):
    """Of a command that shows several plans, the only one."""
    plan = host.run(*argv, "--dry-run", "--json").json
    if isinstance(plan, list):
        (plan,) = plan
    return plan


def count_calls(host, call, argv, path=None):
    """How often the command's main thread makes this call when nothing is broken; argv must change nothing."""
    host.run("strace", "-qq", "-o", "/tmp/strace", "-e", f"trace={call}", *(["-P", path] if path else []), *argv,
             check=False)
    return int(host.sh(f"grep -c '^{call}(' /tmp/strace || true"))


def background(host, argv):
    """Starts a command on the host, detached from us. Its status and output come to /tmp/job."""
    script = f"echo $$ >/tmp/job/pid; {shlex.join(argv)} >/tmp/job/out 2>/tmp/job/err; echo $? >/tmp/job/rc"
    host.sh(f"rm -rf /tmp/job; mkdir /tmp/job; setsid bash -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 &")


def end_background(host):
    host.sh("kill -- -$(cat /tmp/job/pid)")


def background_status(host, timeout=120):
    """Waits for it; its exit status and what it said."""
    host.sh(f"for i in $(seq {timeout * 5}); do [ -s /tmp/job/rc ] && exit; sleep 0.2; done; exit 1",
            timeout=timeout + 30)
    return int(host.read("/tmp/job/rc")), host.read("/tmp/job/out") + host.read("/tmp/job/err")


def await_record(host, records, timeout=60):
    """Waits until a journal holds this many records."""
    host.sh(f"for i in $(seq {timeout * 5}); do "
            f"[ \"$(cat {JOURNAL}/*.json 2>/dev/null | wc -l)\" -ge {records} ] && exit; sleep 0.2; done; exit 1",
            timeout=timeout + 30)


def journal_entries(host):
    return int(host.sh(f"find {JOURNAL} -name '*.json' | wc -l"))


def generator(*words):
    """Random numbers for one test: the same with the same KLD_SEED, whatever other tests run."""
    return random.Random(f"{SEED} {' '.join(map(str, words))}")


def sample(request, what, population, size=1):
    """All of them with --soak, or as many as --points says, else a few; chosen by the printed seed."""
    population = list(population)
    if request.config.getoption("--soak"):
        size = request.config.getoption("--points") or len(population)
    if len(population) <= size:
        return population
    chosen = [population[at] for at in sorted(generator(what).sample(range(len(population)), size))]
    print(f"KLD_SEED={SEED}: {what}: {[getattr(one, 'name', one) for one in chosen]} of {len(population)}")
    return chosen


def some(request, what, population, size):
    """All with --soak, whatever --points says."""
    return list(population) if request.config.getoption("--soak") else sample(request, what, population, size)


class Table:
    """What came of each fault: command × fault × outcome. A soak run writes it as a table; a row that it did not run
    stays as it was."""

    WORDS = ["as before", "finished"]
    FILE = REPOSITORY / "bench" / "FAULTS.md"
    ABOUT = ("# What came of each fault\n\n"
             "Written by `tools/test soak`, that is, by `pytest --soak tests/lab/test_faults.py tests/lab/test_fault_variants.py` "
             "with `KLD_WRITE_TABLE=1`. "
             "Each point is one run on a real host, compared afterwards: name, guid, origin and local properties of all "
             "datasets, the XML of all domains, the files of the states. *as before*: refused or undone; *finished*: the "
             "state is the one after.\n\n")

    def __init__(self):
        self.outcomes = collections.defaultdict(collections.Counter)

    def add(self, command, fault, outcome):
        self.outcomes[command, fault][outcome] += 1

    def rows(self):
        return {(command, fault): [str(counts[word] or "") for word in self.WORDS]
                for (command, fault), counts in self.outcomes.items()}

    def earlier_rows(self):
        if not self.FILE.exists():
            return {}
        lines = [line.split("|")[1:-1] for line in self.FILE.read_text().splitlines() if line.startswith("|")][2:]
        return {(cells[0].strip(), cells[1].strip()): [cell.strip() for cell in cells[3:]] for cells in lines}

    def text(self, rows):
        lines = ["| command | fault | points | " + " | ".join(self.WORDS) + " |", "|---|---|---|" + "---|" * len(self.WORDS)]
        for (command, fault), cells in sorted(rows.items()):
            points = sum(int(cell or 0) for cell in cells)
            lines.append(f"| {command} | {fault} | {points} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def show(self):
        print(f"\n{self.text(self.rows())}")

    def write(self):
        if os.environ.get("KLD_WRITE_TABLE") == "1":
            self.FILE.write_text(self.ABOUT + self.text({**self.earlier_rows(), **self.rows()}))


TABLE = Table()

# What differs from one run of a command to the next: guids, UUIDs, MAC addresses, times, sums of files that hold these.
FRESH = re.compile(r"guid=\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|52:54:00(?::[0-9a-f]{2}){3}|" + UTC +
                   r"|^content [0-9a-f]+")


def shape(lines):
    """A state without what is fresh in each run, as a multiset."""
    elements = lines.elements() if isinstance(lines, collections.Counter) else lines
    return collections.Counter(FRESH.sub("X", line) for line in elements)


class Trial:
    """A command that is broken again and again: knows the states before and after, as multisets of lines."""

    def __init__(self, host, command):
        self.host, self.command = host, command
        self.without = collections.Counter(host.state())
        self.make()
        self.plan = command.plan(host)
        self.commit = self.plan["commit"]
        self.records = range(1, 2 + len(self.plan["steps"]))
        self.reference = None

    def make(self):
        self.command.make(self.host)
        self.before = collections.Counter(self.host.state()) if self.command.finishes else self.without

    def is_undone(self, record):
        """Of a run that died when `record` was written, its step not begun."""
        step = record - 2
        # A snapshot of a later moment would not be the one that was asked for.
        return step < self.commit or self.plan["steps"][step]["act"] == "take-snapshots"

    def settle(self, fault, *, recover=None):
        """Recovers what is left, and compares. True when it was undone. Afterwards everything is as before."""
        left = journal_entries(self.host)
        if recover is not None:
            recover()
        else:
            # Also when it has nothing to undo: it sweeps the journal.
            result = self.host.run("kld", "recover", "--json")
            assert [entry["result"] for entry in result.json] in ([["undone"], ["finished"]] if left else [[]]), result
        assert journal_entries(self.host) == 0
        now = collections.Counter(self.host.state())
        if self.command.finishes and now == self.without:
            TABLE.add(self.command.name, fault, "finished")
            self.make()
            return False
        if now != self.before and not self.command.finishes and self.is_whole():
            self.take_back()
            assert shape(now) == self.after(), f"not as a run that nothing broke: {self.strange(now)}"
            TABLE.add(self.command.name, fault, "finished")
            return False
        assert now == self.before, self.differences(now)
        TABLE.add(self.command.name, fault, "as before")
        return True

    def after(self):
        """The shape of the state that an unbroken run leaves; afterwards everything is as before."""
        if self.reference is None:
            self.host.run(*self.command.argv)
            self.reference = shape(self.host.state())
            self.take_back()
        return self.reference

    def strange(self, now):
        return sorted(((shape(now) - self.reference) + (self.reference - shape(now))).elements())

    def differences(self, now):
        """From the state that is nearer."""
        nearest = min((self.before, self.without), key=lambda state: ((now - state) + (state - now)).total())
        lines = [f"from the state {'before' if nearest is self.before else 'after'}:"]
        lines += [f"+ {line}" for line in sorted((now - nearest).elements())]
        lines += [f"- {line}" for line in sorted((nearest - now).elements())]
        return "\n".join(lines)

    def take_back(self):
        """The command went through; by hand to the state before."""
        self.command.take_back(self.host)
        if self.command.finishes:
            self.make()
        elif self.command.anew:
            self.before = self.without = collections.Counter(self.host.state())
        now = collections.Counter(self.host.state())
        assert now == self.before, self.differences(now)

    def is_whole(self):
        try:
            self.command.whole(self.host)
        except (AssertionError, KeyError, ValueError):
            return False
        return True


TRIALS = {}


def trial_of(host, command):
    """The trial of this command on the host that the module shares."""
    # Those that remove something take back what they made, so that the others' states stay.
    for other in [trial.command for name, trial in TRIALS.items() if name != command.name]:
        TRIALS.pop(other.name)
        if other.finishes:
            host.run(*other.argv)
    if command.name not in TRIALS:
        TRIALS[command.name] = Trial(host, command)
    return TRIALS[command.name]
