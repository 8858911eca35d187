# SPDX-License-Identifier: Apache-2.0
"""A real Debian guest: imported, booted, snapshotted frozen, cloned. Two boots at most, as each takes minutes under
emulation."""

import base64

import pytest
from faults import background, background_status, count_calls, strace
from guest import again_if_kvm_gave_up, begin_inside, boot_of, booted, inside
from host import GUEST, ROOT

pytestmark = pytest.mark.module_state(lasts=True)


identities = {}


def test_import_boots_with_its_seed(host):
    host.sh("ssh-keygen -q -t ed25519 -N '' -C someone -f /root/key")
    result = host.run("kvm-create", "golden", "--image", GUEST, "--disk", "4", "--disk", "one=64M", "--disk", "two=64M",
                      "--ram", "768", "--cpus", "1", "--firmware", "bios", "--no-tpm", "--os", "debian12",
                      "--user", "ann", "--ssh-key", "/root/key.pub", timeout=600)
    assert "VNC at 127.0.0.1" in result.out
    golden = identities["golden"] = booted(host, "golden")
    assert golden[0] == "golden"
    assert any(line.startswith("ann:") for line in golden)
    assert host.read("/root/key.pub").strip() in golden
    # The bigger disk is there.
    size = int(inside(host, "golden", "blockdev --getsize64 /dev/vda"))
    assert size == 4 << 30
    assert inside(host, "golden", "echo here >/root/written; sync; echo done") == "done"
    # What the guest discards is given back.
    referenced = []
    for script in ("head -c 48M /dev/urandom >/root/large; sync", "rm /root/large; sync; fstrim /"):
        assert inside(host, "golden", f"{script}; echo done") == "done"
        host.run("zpool", "sync")
        referenced.append(int(host.property("golden", "referenced")))
    assert referenced[0] - referenced[1] > 40 << 20, referenced


# ---- Frozen ----

again = again_if_kvm_gave_up("golden")

STATUS = """virsh qemu-agent-command golden '{"execute":"guest-fsfreeze-status"}' 2>/dev/null"""
ROOT_SUPERBLOCK = (49 << 20) + 1024  # of the ext4 root on the guest's disk


@pytest.fixture
def goes_on(host):
    """Whatever happened: in the end the guest writes, and nobody watches over it any more."""
    yield
    boot_of(host, "golden")
    assert "thawed" in host.sh(STATUS)
    assert inside(host, "golden", "echo more >>/root/alive; sync; echo done") == "done"
    host.sh("for i in $(seq 30); do [ -z \"$(systemctl list-units --plain --no-legend 'kld-thaw-*')\" ] && exit; sleep 1; "
            "done; systemctl list-units 'kld-thaw-*'; exit 1", timeout=60)
    assert host.domains()["golden"] == "running"


def snapshot(host, name):
    """How a snapshot of the guest was taken; None: there is none."""
    rows = {row["name"]: row for row in host.run("kvm-snap", "golden", "list", "--json").json}
    return rows[name]["consistency"] if name in rows else None


def needs_recovery(host, device):
    """Whether the file system in it is to be recovered when it is mounted, as after a power cut."""
    flags = host.sh(f"od -An -tu4 -j {ROOT_SUPERBLOCK + 0x60} -N 4 {device}")
    return bool(int(flags) & 4)


def slow_snapshot(host, name, when):
    """Starts a frozen snapshot whose last call of ZFS, the snapshot itself, takes long before it begins or ends."""
    last = count_calls(host, "ioctl", ["kvm-snap", "golden", "snap", f"{name}-counted-{when}", "--freeze"], "/dev/zfs")
    background(host, strace(f"ioctl:delay_{when}=15000000:when={last}", ["kvm-snap", "golden", "snap", name, "--freeze"],
                            path="/dev/zfs"))


def await_frozen(host):
    host.until(STATUS, "frozen", 60, pause=0.1)


@again
def test_a_frozen_snapshot_needs_no_recovery(host, goes_on):
    assert inside(host, "golden", "touch /root/alive; sync; echo done") == "done"
    result = host.run("kvm-snap", "golden", "snap", "frozen", "--freeze", "--json")
    frozen, = result.json["frozen"]
    assert frozen["machine"] == "golden" and frozen["problem"] == ""
    assert frozen["file_systems"] == frozen["thawed"] >= 1 and 0 < frozen["seconds"] < 30
    assert snapshot(host, "frozen") == "application"
    assert "stood still for" in host.run("kvm-snap", "golden", "--freeze").err
    # Nobody watches over it any more.
    assert host.sh("kvm-snap -q golden --freeze; systemctl list-units --plain --no-legend 'kld-thaw-*'") == ""
    host.run("kvm-clone", "golden", "calm", "--freeze")
    host.run("kvm-clone", "golden", "cut")
    calm, cut = (host.property(name, "origin").split("@")[1] for name in ("calm", "cut"))
    assert (snapshot(host, calm), snapshot(host, cut)) == ("application", "crash")
    assert not needs_recovery(host, f"/dev/zvol/{ROOT}/calm")
    assert needs_recovery(host, f"/dev/zvol/{ROOT}/cut")
    host.run("kvm-delete", "calm", "cut", "--yes")


@again
def test_a_busy_file_system_is_frozen(host, goes_on):
    busy = ("rm -f /root/stop; nohup sh -c 'while [ ! -e /root/stop ]; do dd if=/dev/urandom of=/root/busy bs=64k count=32 "
            "conv=fsync 2>/dev/null; echo . >>/root/rounds; done' >/dev/null 2>&1 & echo begun")
    assert inside(host, "golden", busy) == "begun"
    for _ in range(3):
        frozen, = host.run("kvm-snap", "golden", "--freeze", "--json").json["frozen"]
        assert frozen["problem"] == "", frozen
    rounds = int(inside(host, "golden", "wc -l </root/rounds"))
    assert int(inside(host, "golden", f"while [ $(wc -l </root/rounds) -le {rounds} ]; do sleep 1; done; "
                      "touch /root/stop; wc -l </root/rounds")) > rounds


# From the end of the sync before the freeze to the end of the thaw, by strace's times; groups by when they were opened.
WINDOW = r"""
import json, re, subprocess, time
said = subprocess.run(["strace", "-qq", "-ttt", "-T", "-P", "/dev/zfs", "-e", "trace=ioctl", "-o", "/tmp/trace", "kvm-snap",
                       "golden", "--freeze", "--json"], check=True, capture_output=True, text=True).stdout
raw = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
calls = [(float(at), what, float(took)) for at, what, took in
         re.findall(r"^([0-9.]+) ioctl.*(ZFS_IOC_\w+).*<([0-9.]+)>$", open("/tmp/trace").read(), re.M)]
(sync, before, synced), (taken, what, took) = calls[-2:]
assert (before, what) == ("ZFS_IOC_POOL_SYNC", "ZFS_IOC_SNAPSHOT"), calls
rows = [line.split() for line in open("/proc/spl/kstat/zfs/vmpool/txgs").read().splitlines()[2:]]
opened = [int(row[1]) / 1e9 + raw for row in rows]
frozen, = json.loads(said)["frozen"]
print(json.dumps([frozen["seconds"], sum(sync + synced < at < taken + took for at in opened)]))
"""


@pytest.fixture
def no_groups_by_the_clock(host):
    """However slow the host is: only groups that somebody waits for."""
    timeout = "/sys/module/zfs/parameters/zfs_txg_timeout"
    usual = host.read(timeout)
    host.sh(f"echo 600 >{timeout}; zpool sync")
    yield
    host.write(timeout, usual)


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.soak)])
@again
def test_it_stands_still_for_two_groups_at_most(host, goes_on, no_groups_by_the_clock, times):
    host.write("/root/window.py", WINDOW)
    measured = [host.run("python3", "/root/window.py").json for _ in range(times)]
    seconds = sorted(one[0] for one in measured)
    groups = sorted(one[1] for one in measured)
    print(f"stood still: median {seconds[times // 2]:.2f} s, worst {seconds[-1]:.2f} s; groups: {groups}")
    assert groups[-1] <= 2, groups


@again
def test_a_paused_guest_is_not_frozen(host, goes_on):
    host.run("virsh", "suspend", "golden")
    host.refuses("kvm-snap", "golden", "--freeze", says="it is paused", hint="--freeze=try")
    host.refuses("kvm-clone", "golden", "copy", "--freeze", says="it is paused")
    result = host.run("kvm-snap", "golden", "snap", "paused", "--freeze=try")
    assert result.warnings == ["warning: machine 'golden' is not frozen: it is paused"]
    assert snapshot(host, "paused") == "crash"
    result = host.run("kvm-clone", "golden", "copy", "--freeze=try")
    assert any("machine 'golden' is not frozen: it is paused" in line for line in result.warnings), result
    assert snapshot(host, host.property("copy", "origin").split("@")[1]) == "crash"
    host.run("kvm-delete", "copy", "--yes")
    assert host.domains()["golden"] == "paused"
    host.run("virsh", "resume", "golden")


@again
def test_without_an_agent_it_is_not_frozen(host, goes_on):
    # What the agent starts itself ends with its service. That it is to come back the link tells: the agent cannot.
    assert begin_inside(host, "golden", "systemd-run sh -c 'systemctl stop qemu-guest-agent; "
                        "until grep -qx 0 /sys/class/net/e*/carrier; do sleep 1; done; systemctl start qemu-guest-agent'")
    host.until("virsh dumpxml golden", "state='disconnected'")
    host.refuses("kvm-snap", "golden", "--freeze", says="its agent does not answer")
    result = host.run("kvm-snap", "golden", "snap", "silent", "--freeze=try")
    assert len(result.warnings) == 1 and "its agent does not answer" in result.warnings[0]
    assert snapshot(host, "silent") == "crash"
    mac = host.definition("golden").find("devices/interface/mac").get("address")
    host.run("virsh", "domif-setlink", "golden", mac, "down")
    host.sh(f"for i in $(seq 60); do {STATUS} && exit; sleep 1; done; exit 1", timeout=300)
    host.run("virsh", "domif-setlink", "golden", mac, "up")


@again
def test_the_hourly_run_freezes_who_asks(host, goes_on):
    host.create("a-off")
    host.run("zfs", "set", "com.kldload:freeze=try", f"{ROOT}/golden")
    result = host.run("kvm-snapshot", "--json").json
    # Before the others, whatever their names.
    assert [(one["machine"], one["consistency"]) for one in result["taken"]] == \
        [("golden", "application"), ("a-off", "offline")]
    assert result["calls"] == 2
    host.run("virsh", "suspend", "golden")
    paused = host.run("kvm-snapshot", "--json")
    host.run("virsh", "resume", "golden")
    assert {one["machine"]: one["consistency"] for one in paused.json["taken"]} == {"golden": "crash", "a-off": "offline"}
    assert "machine 'golden' is not frozen: it is paused" in paused.err
    host.run("zfs", "inherit", "com.kldload:freeze", f"{ROOT}/golden")
    host.run("kvm-delete", "a-off", "--yes")


@again
def test_a_freeze_that_was_given_up_is_thawed(host, goes_on):
    """The agent is stopped when it has answered the ping, and goes on long after we gave up."""
    stop = ('{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-c",'
            '"kill -STOP $(pidof qemu-ga); sleep 50; kill -CONT $(pidof qemu-ga)"]}}')
    host.write("/tmp/slow/systemd-run", f"#!/bin/sh\n/usr/bin/systemd-run \"$@\" || exit\n"
               f"virsh qemu-agent-command golden '{stop}' >/dev/null\nsleep 2\n")
    host.run("chmod", "+x", "/tmp/slow/systemd-run")
    path = host.sh("echo /tmp/slow:$PATH")
    with host.assert_unchanged():
        result = host.run("kvm-snap", "golden", "snap", "late", "--freeze", env={"PATH": path}, check=False)
        assert result.rc == 1, result
        assert "could not be frozen" in result.errors[0] and len(result.hints) == 1
        (warning,) = result.warnings
        assert "machine 'golden' may be frozen, or freeze later: kld-thaw-golden-" in warning, result
        # It is stopped still: now not even the ping is answered.
        host.refuses("kvm-snap", "golden", "--freeze", says="its agent does not answer", hint="--freeze=try")
    assert host.sh("systemctl list-units --plain --no-legend 'kld-thaw-golden-*'") != ""
    host.until("journalctl -u 'kld-thaw-golden-*' -o cat", "thawed", 120, pause=1)
    host.until(f"{STATUS}; systemctl list-units --plain --no-legend 'kld-thaw-*'", "thawed", 60)
    # Asked to try, it takes the snapshot all the same, and says what it is worth and who looks after the guest.
    result = host.run("kvm-snap", "golden", "snap", "late", "--freeze=try", env={"PATH": path})
    (warning,) = result.warnings
    assert warning.startswith("warning: machine 'golden' is not frozen: "), result
    assert "it may still freeze; kld-thaw-golden-" in warning, result
    assert snapshot(host, "late") == "crash"


# Speaks for the guest instead of its agent until it is told to end. What it freezes goes on all the same.
IMPOSTOR = r"""
import json, sys
port = open("/dev/virtio-ports/org.qemu.guest_agent.0", "r+b", buffering=0)
kind, frozen, thawed, rest = sys.argv[1], False, False, b""
while True:
    rest += port.read(4096)
    *lines, rest = rest.split(b"\n")
    for line in lines:
        call = json.loads(line.lstrip(b"\xff"))
        what, answer = call["execute"], {}
        if what.startswith("guest-sync"):
            answer = call["arguments"]["id"]
        elif what == "guest-fsfreeze-freeze":
            frozen, answer = kind != "freezes nothing", 0 if kind == "freezes nothing" else 2
        elif what == "guest-fsfreeze-thaw":
            frozen, thawed, answer = frozen and kind in ("stays frozen", "thaws nothing"), True, 2
        elif what == "guest-fsfreeze-status":
            answer = "frozen" if frozen else "thawed"
        reply = {"return": answer}
        if kind == "thaws nothing" and what == "guest-fsfreeze-thaw":
            reply = {"error": {"class": "GenericError", "desc": "not now"}}
        if not (kind == "falls silent" and thawed and what == "guest-fsfreeze-status"):
            port.write((b"\xff" if what.endswith("delimited") else b"") + json.dumps(reply).encode() + b"\n")
        if what == "guest-shutdown":
            sys.exit()
"""


@pytest.mark.parametrize("kind, says, is_over", [
    ("freezes nothing", "it froze no file system", True),
    ("thaws nothing", "it could not be thawed (", False),
    ("falls silent", "it does not say that it is thawed", False),
    ("stays frozen", "it does not say that it is thawed", False)])
@again
def test_only_what_froze_and_thawed_is_application_consistent(host, goes_on, kind, says, is_over):
    script = base64.b64encode(IMPOSTOR.encode()).decode()
    assert begin_inside(host, "golden", f"echo {script} | base64 -d >/root/impostor; systemd-run sh -c 'systemctl stop "
                        f"qemu-guest-agent; python3 /root/impostor \"{kind}\"; systemctl start qemu-guest-agent'")
    # It runs what it is given no command for, and says nothing.
    host.until("virsh qemu-agent-command golden '{\"execute\":\"guest-impostor\"}' 2>&1", '"return":{}')
    result = host.run("kvm-snap", "golden", "snap", kind.replace(" ", "-"), "--freeze", check=False)
    watched = host.sh("systemctl list-units --plain --no-legend 'kld-thaw-golden-*'")
    host.run("virsh", "qemu-agent-command", "golden", '{"execute":"guest-shutdown"}', check=False)
    assert result.rc == 1 and says in result.err, result
    assert snapshot(host, kind.replace(" ", "-")) == "crash"
    assert (watched == "") == is_over and ("thaws it until" in result.err) != is_over, result


@again
def test_thawed_by_somebody_else_it_is_no_application_snapshot(host, goes_on):
    """Nobody knows until when it stood still."""
    slow_snapshot(host, "thawed", "enter")
    await_frozen(host)
    host.run("virsh", "domfsthaw", "golden")
    status, said = background_status(host)
    assert status == 1 and "it thawed no file system" in said, said
    assert snapshot(host, "thawed") == "crash"


@again
def test_killed_while_the_guest_is_frozen(host, goes_on):
    slow_snapshot(host, "cut-off", "enter")
    await_frozen(host)
    host.sh("pkill -9 -x kvm-snap; while pgrep -x kvm-snap >/dev/null; do sleep 0.2; done")
    host.until(STATUS, "thawed")
    host.run("kld", "recover")
    assert snapshot(host, "cut-off") is None
    # Killed when the snapshot is there: nobody knows whether the guest stood still until then.
    slow_snapshot(host, "cut-off", "exit")
    host.sh(f"for i in $(seq 300); do zfs list {ROOT}/golden@cut-off >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1")
    host.sh("pkill -9 -x kvm-snap; while pgrep -x kvm-snap >/dev/null; do sleep 0.2; done")
    host.run("kld", "recover")
    assert snapshot(host, "cut-off") == "crash"


@again
def test_libvirtd_restarts_while_the_guest_is_frozen(host, goes_on):
    slow_snapshot(host, "restarted", "enter")
    await_frozen(host)
    host.run("systemctl", "restart", "libvirtd")
    status, said = background_status(host)
    assert (status, snapshot(host, "restarted")) in ((0, "application"), (1, "crash")), said


COUNT = """nohup sh -c 'i=0; while [ ! -e /run/stop ]; do i=$((i + 1)); for disk in vdb vdc; do
printf "%-511s\\n" $i | dd of=/dev/$disk bs=512 count=1 oflag=direct conv=notrunc 2>/dev/null; done; done' >/dev/null 2>&1 & echo begun"""


def counted(host, snapshot):
    """What the guest had written to each disk in a snapshot."""
    script = f"""
        for disk in one two; do
          device=/dev/zvol/{ROOT}/golden-$disk@{snapshot}
          for i in $(seq 100); do [ -e $device ] && break; sleep 0.1; done
          head -c 511 $device
        done"""
    return [int(word) for word in host.sh(script).split()]


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.soak)])
@again
def test_a_counter_on_two_disks_agrees_in_every_snapshot(host, goes_on, rounds):
    """The guest writes each number to one disk, and then to the other."""
    host.sh(f"zfs set snapdev=visible {ROOT}/golden-one; zfs set snapdev=visible {ROOT}/golden-two")
    assert inside(host, "golden", f"rm -f /run/stop; {COUNT}") == "begun"
    taken = []
    for number in range(rounds):
        for flags in ([], ["--freeze"]):
            taken.append(f"count-{number}{''.join(flags)}")
            host.run("kvm-snap", "-q", "golden", "snap", taken[-1], *flags)
        # Killed in the middle: what is there by then is whole all the same.
        slow_snapshot(host, f"cut-{number}", "exit")
        host.sh(f"for i in $(seq 300); do zfs list {ROOT}/golden@cut-{number} >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1")
        host.sh("pkill -9 -x kvm-snap; while pgrep -x kvm-snap >/dev/null; do sleep 0.2; done")
        host.run("kld", "recover")
        taken.append(f"cut-{number}")
    assert inside(host, "golden", "touch /run/stop; echo done") == "done"
    numbers = [counted(host, snapshot) for snapshot in taken]
    assert all(two <= one <= two + 1 for one, two in numbers), numbers
    assert [one for one, _ in numbers] == sorted({one for one, _ in numbers}), numbers


def test_a_rollback_shuts_it_down_gracefully(host):
    host.run("kvm-snap", "golden", "rollback", "frozen", "--stop", "--timeout", "10m", timeout=900)
    assert host.domains()["golden"] == "running"
    log = host.read("/var/log/libvirt/qemu/golden.log")
    assert [line.split("reason=")[1] for line in log.splitlines() if "shutting down, reason=" in line][-1] == "shutdown"
    host.run("kvm-snap", "golden", "undo", "--stop", "--timeout", "1s")
    log = host.read("/var/log/libvirt/qemu/golden.log")
    assert [line.split("reason=")[1] for line in log.splitlines() if "shutting down, reason=" in line][-1] == "destroyed"
    assert host.domains()["golden"] == "running"


@pytest.mark.soak
def test_clone_boots_as_itself(host):
    """Of a running one, always: in the demo."""
    host.run("virsh", "destroy", "golden")
    host.run("kvm-clone", "golden", "web-1", "--start")
    web = identities["web-1"] = booted(host, "web-1")
    assert web[0] == "web-1" and web[-1] == "here"
    names, machine_ids, host_keys = zip(*(one[:3] for one in identities.values()))
    assert len(set(names)) == len(set(machine_ids)) == len(set(host_keys)) == 2, identities
    assert all(key.startswith("ssh-ed25519 ") for key in host_keys)
    # Each has an address of its own, although the clone's disk holds its source's machine-id until its first boot.
    leases = {words[2]: words for words in map(str.split, host.run("virsh", "-q", "net-dhcp-leases", "default").out.splitlines())}
    macs = [host.definition(name).find("devices/interface/mac").get("address") for name in ("golden", "web-1")]
    assert set(macs) <= leases.keys(), leases
    assert len({leases[mac][4] for mac in macs}) == 2, leases
    assert len({leases[mac][-1] for mac in macs}) == 2, leases
    host.refuses("kvm-delete", "golden", "--yes", says="machine 'web-1'")
    host.run("kvm-delete", "golden", "web-1", "--yes", "--force")
    host.assert_datasets(".state")
    assert host.sh(f"ls /dev/zvol/{ROOT} 2>/dev/null || true") == ""
