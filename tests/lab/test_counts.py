# SPDX-License-Identifier: Apache-2.0
"""Gates that do not wander with the machine they run on: processes started and calls made to libvirt, in one run.

`docs/architecture.md` names the processes; a new one here must be named there first."""

import collections
import re
import shlex

import pytest
from host import REPOSITORY

FEW, MANY = 10, 30


def prepare(host):
    host.create("golden", "-q", tpm=True)
    grow(host, FEW)


def grow(host, machines):
    """So many clones of golden."""
    there = len(host.domains()) - 1
    if there < machines:
        host.run("kvm-clone", "-q", "golden", *(f"m-{number}" for number in range(there, machines)), timeout=1800)


pytestmark = pytest.mark.module_state(prepare=prepare)


def processes(host, *argv):
    """What it starts, by name and the words that say what is done, sorted; the command itself left out."""
    host.run("strace", "-f", "-qq", "--seccomp-bpf", "-s", "200", "-e", "trace=execve", "-e", "signal=none",
             "-o", "/tmp/execve", *argv, timeout=600)
    # By process: the places where it looked for the program before are the same process.
    started = {}
    for pid, words in re.findall(r'^(\d+) +execve\("[^"]*", \[(.*)\]', host.read("/tmp/execve"), re.MULTILINE):
        name, *rest = re.findall(r'"([^"]*)"', words)
        kind = [rest[at + 1] for at, word in enumerate(rest) if word == "-t"]
        started[pid] = " ".join([name.rsplit("/", 1)[-1], *rest[:1], *kind])
    itself, *others = started.values()
    assert itself.startswith(argv[0]), started
    return sorted(others)


RPC_LOG = {"LIBVIRT_LOG_FILTERS": "1:rpc.netclient", "LIBVIRT_LOG_OUTPUTS": "1:file:/tmp/rpc"}


def libvirt_calls(host, *argv):
    """Calls that its client sends: libvirt's own log of the protocol."""
    host.run(*argv, timeout=600, env=RPC_LOG)
    return sum(calls_by_number(host).values())


# Of libvirt's remote protocol (src/remote/remote_protocol.x).
REMOTE_PROGRAM = str(0x20008086)
CONNECT_OPEN, LIST_ALL_DOMAINS, ALL_DOMAIN_STATS = 1, 273, 344


def calls_by_number(host):
    """How often each procedure was called, by the log that the last command left."""
    sent = re.findall(r"RPC_CLIENT_MSG_TX_QUEUE:.* prog=(\d+) .*proc=(\d+)", host.read("/tmp/rpc"))
    host.sh("rm /tmp/rpc")
    assert sent, "libvirt's log has no calls"
    return collections.Counter(int(procedure) for program, procedure in sent if program == REMOTE_PROGRAM)


def documented(command):
    """The programs that the table in docs/architecture.md names for a command."""
    (line,) = [line for line in (REPOSITORY / "docs/architecture.md").read_text().splitlines()
               if line.startswith(f"| `{command}` |")]
    return set(re.findall(r"`([a-z-]+(?: [a-z]+)?)`", line.split("|", 2)[2]))


def programs(started):
    """As the documentation names them: zfs with its verb, others by their names alone."""
    return {" ".join(line.split()[:2 if line.split()[0] in ("zfs", "zpool", "qemu-img") else 1]) for line in started}


LIST = "zfs list filesystem,volume"
SNAPSHOTS = "zfs list snapshot"
BOTH = "zfs list filesystem,volume,snapshot"


def test_kvm_clone_starts_only_the_listing(host):
    # What it reads; everything that it changes, it does itself.
    assert processes(host, "kvm-clone", "-q", "golden", "counted-1") == [BOTH]
    assert processes(host, "kvm-clone", "-q", "golden", "counted-2") == [BOTH]
    host.run("kvm-delete", "-q", "counted-1", "counted-2", "--yes")


def test_kvm_clone_starts_no_more_for_many(host):
    one = processes(host, "kvm-clone", "-q", "golden", "counted")
    ten = processes(host, "kvm-clone", "-q", "golden", "--count", "10", "--prefix", "counted-")
    assert ten == one
    host.run("kvm-delete", "-q", "--yes", "counted", *(f"counted-{number}" for number in range(1, 11)))


def test_kvm_clone_of_a_machine_makes_as_many_calls_beside_many(host):
    few = libvirt_calls(host, "kvm-clone", "-q", "golden", "counted")
    ten = libvirt_calls(host, "kvm-clone", "-q", "golden", "--count", "10", "--prefix", "counted-")
    host.run("kvm-delete", "-q", "--yes", "counted", *(f"counted-{number}" for number in range(1, 11)))
    # One more define and its free for each further clone.
    assert (ten - few) % 9 == 0 and (ten - few) // 9 <= 2, (few, ten)
    print(f"libvirt calls: {few} for one clone, {ten} for ten")
    grow(host, MANY)
    try:
        assert libvirt_calls(host, "kvm-clone", "-q", "golden", "counted") == few
    finally:
        host.run("kvm-delete", "-q", "--yes", "counted")


def test_kvm_list_connects_once_and_asks_once(host):
    # Autostart is the one thing shown that libvirt tells by a filter only.
    for argv, filtered in ((["kvm-list"], 0), (["kvm-list", "--wide"], 1), (["kvm-list", "--json"], 1)):
        host.run(*argv, env=RPC_LOG)
        calls = calls_by_number(host)
        assert calls[CONNECT_OPEN] == 1 and calls[ALL_DOMAIN_STATS] == 1 and calls[LIST_ALL_DOMAINS] == filtered, calls


def test_folders_cost_kvm_list_one_listing_more(host):
    host.sh("zfs create vmpool/vms/folder; zfs create -s -V 8M vmpool/vms/folder/disk")
    assert processes(host, "kvm-list") == [LIST, LIST]
    assert "vmpool/vms/folder/disk" in host.run("kvm-list").out
    host.sh("zfs destroy -r vmpool/vms/folder")


def list_counts(host):
    return processes(host, "kvm-list"), libvirt_calls(host, "kvm-list")


def test_kvm_list_asks_as_much_for_many_machines(host):
    few = list_counts(host)
    assert few[0] == [LIST], few
    grow(host, MANY)
    assert list_counts(host) == few
    assert len(host.kvm_list()) == MANY + 1


@pytest.mark.soak
def test_kvm_list_asks_as_much_for_500_machines(host):
    few = list_counts(host)
    for machines in range(100, 501, 100):
        grow(host, machines)
    assert list_counts(host) == few
    assert len(host.kvm_list()) == 501


def test_kvm_snap_starts_only_the_listing(host):
    started = processes(host, "kvm-snap", "-q", "golden", "snap", "counted")
    assert started == [LIST], started
    host.run("kvm-snap", "golden", "delete", "counted", "--yes")


def test_kvm_snap_list_asks_for_the_machines_own_alone(host):
    """However many others there are."""
    def asked():
        host.run("strace", "-f", "-qq", "-s", "200", "-e", "trace=execve", "-e", "signal=none", "-o", "/tmp/execve",
                 "kvm-snap", "golden", "list")
        return [re.findall(r'"([^"]*)"', line)[1:] for line in host.read("/tmp/execve").splitlines()
                if re.search(r'execve\("[^"]*/zfs"', line) and line.endswith(" = 0")]

    few = asked()
    # Of the root, whose children are the machines, as deep as itself; no snapshot of these is seen.
    own = [f"vmpool/vms/{name}" for name in ("golden", ".state/golden", ".state/golden/tpm")]
    (words,) = few
    assert words[words.index("-d") + 1:] == ["1", "vmpool/vms", *own], words
    host.sh("for i in $(seq 20); do zfs snapshot -r vmpool@many-$i; done")
    assert asked() == few
    host.sh("for i in $(seq 20); do zfs destroy -r vmpool@many-$i; done")


def transaction_groups(host, *argv):
    """How many groups of the pool end while the command runs, none by the calendar."""
    return int(host.sh(f"""
        group() {{ tail -n 1 /proc/spl/kstat/zfs/vmpool/txgs | awk '{{ print $1 }}'; }}
        timeout=/sys/module/zfs/parameters/zfs_txg_timeout; old=$(cat $timeout); echo 600 >$timeout
        zpool sync; zpool sync; before=$(group)
        rc=0; {shlex.join(argv)} >/dev/null || rc=$?
        after=$(group); echo $old >$timeout; echo $((after - before)); exit $rc""", timeout=900))


def hourly_counts(host, *machines):
    """Of a run that prunes nothing: processes, calls to libvirt and to take snapshots, transaction groups."""
    argv = ["kvm-snapshot", "-q", *machines]
    started = processes(host, *argv)
    calls = libvirt_calls(host, *argv)
    host.run("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=ioctl", "-e", "signal=none", "-o", "/tmp/ioctl", *argv,
             timeout=900)
    snapshots = host.sh("grep -c ZFS_IOC_SNAPSHOT, /tmp/ioctl || true")
    return started, calls, int(snapshots), transaction_groups(host, *argv)


def forget_autos(host):
    host.sh("for name in $(zfs list -Ho name -t snapshot -r vmpool/vms | sed -n 's/.*@auto/auto/p' | sort -u); do "
            "zfs destroy -r vmpool/vms@$name; done", timeout=900)


def gate_hourly_run(host, machines):
    one = transaction_groups(host, "zfs", "snapshot", "vmpool/vms/golden@one")
    host.sh("zfs destroy vmpool/vms/golden@one")
    grow(host, machines)
    host.run("kvm-snapshot", "-q", timeout=900)  # what was defined since is saved by now
    few = hourly_counts(host, *(f"m-{number}" for number in range(FEW)))
    assert few[0] == [LIST, SNAPSHOTS, "zpool list"], few
    assert few[2] == 1 and few[3] <= one, (few, one)
    assert hourly_counts(host) == few
    # Two kinds of machines are two calls, and as many groups.
    host.start("golden")
    counts = hourly_counts(host)
    host.run("virsh", "destroy", "golden")
    assert counts[0] == few[0] and counts[2] == 2 and counts[3] <= 2 * one, (counts, one)
    # What was edited is asked for alone.
    host.run("virsh", "desc", "golden", "--config", "--new-desc", "edited")
    assert libvirt_calls(host, "kvm-snapshot", "-q") - few[1] <= 3
    forget_autos(host)
    taken = host.run("kvm-snapshot", "--json", timeout=900).json["taken"]
    assert len(taken) == machines + 1 and len({one["snapshot"] for one in taken}) == 1, taken
    datasets = int(host.sh("zfs list -Ho name -t snapshot -r vmpool/vms | grep -c @auto"))
    assert datasets == 3 * len(taken), "each has a disk, a state and a TPM"
    print(f"{machines} machines: {counts} for {datasets} snapshots of datasets")
    forget_autos(host)


def test_the_hourly_run_is_one_call_for_many_machines(host):
    gate_hourly_run(host, MANY)


@pytest.mark.soak
def test_the_hourly_run_is_one_call_for_200_machines(host):
    gate_hourly_run(host, 199)


def test_kvm_create_starts_only_the_listings(host):
    started = processes(host, "kvm-create", "counted", "-q", "--no-start", "--disk", "1", "--ram", "256", "--firmware",
                        "bios")
    assert set(started) <= {LIST, "zpool list"} and len(started) <= 2, started
    host.run("kvm-delete", "-q", "counted", "--yes")


COMMANDS = [
    ("kvm-create", ["kvm-create", "counted", "-q", "--no-start", "--image", "/root/counted.raw", "--thick", "--ram", "256",
                    "--firmware", "bios", "--user", "ann"]),
    ("kvm-clone", ["kvm-clone", "-q", "counted", "counted-2"]),
    ("kvm-clone", ["kvm-clone", "-q", "counted", "counted-3", "--full"]),
    ("kvm-list", ["kvm-list", "--wide"]),
    ("kvm-snap VM", ["kvm-snap", "-q", "counted", "snap", "s"]),
    ("kvm-snap VM list", ["kvm-snap", "counted", "list"]),
    ("kvm-snap VM delete", ["kvm-snap", "-q", "counted", "delete", "s", "--yes"]),
    ("kvm-snap VM", ["kvm-snap", "-q", "counted", "snap", "t"]),
    ("kvm-snap VM rollback", ["kvm-snap", "-q", "counted", "rollback", "t"]),
    ("kvm-snap VM kept", ["kvm-snap", "counted", "kept"]),
    ("kvm-snap VM undo", ["kvm-snap", "-q", "counted", "undo"]),
    ("kvm-snap VM rollback --destroy-newer", ["kvm-snap", "-q", "counted", "rollback", "t", "--destroy-newer", "--yes"]),
    ("kvm-snapshot", ["kvm-snapshot", "-q"]),
    ("kvm-snapshot --explain", ["kvm-snapshot", "--explain"]),
    ("kvm-delete", ["kvm-delete", "-q", "counted", "counted-2", "counted-3", "--yes"]),
    ("kvm-delete --ghost", ["kvm-delete", "-q", "leaves", "--ghost", "--yes"]),
    ("kvm-list", ["kvm-list", "--tree"]),
    ("kvm-snap VM undo", ["kvm-snap", "-q", "leaves", "undo"]),
    ("kvm-delete --ghost", ["kvm-delete", "-q", "leaves", "--ghost", "--yes"]),
    ("kld expire", ["kld", "expire", "-q"]),
    ("kvm-adopt NAME", ["kvm-adopt", "-q", "taken-in", "--yes"]),
    ("kvm-delete", ["kvm-delete", "-q", "taken-in", "--yes"]),
]


def test_every_command_starts_only_what_is_documented(host):
    host.sh("truncate -s 8M /root/counted.raw; zfs create -s -V 8M vmpool/vms/by-hand; udevadm settle")
    host.define("taken-in", "/dev/zvol/vmpool/vms/by-hand")
    host.create("leaves", "-q", tpm=True)
    for command, argv in COMMANDS:
        started = programs(processes(host, *argv))
        assert started, f"{argv}: strace saw nothing"
        assert started <= documented(command), f"{argv} starts {sorted(started - documented(command))}"
