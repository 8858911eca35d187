# SPDX-License-Identifier: Apache-2.0
"""kvm-snapshot: automatic snapshots of all machines, what stays of them and what goes, and what the clock may not do."""

import contextlib
import re
import time

import pytest
from conftest import BY_THE_CALENDAR
from faults import await_record, background, background_status, hold, strace
from host import ROOT, STATE, UTC
from sweeps import kill_at

HOUR = 3600
DAY = 24 * HOUR
MACHINES = ("db", "web")
PARTS = {"db": ("db", ".state/db"), "web": ("web", "web-data", ".state/web", ".state/web/tpm")}


def prepare(host):
    # Rules count by the calendar: the middle of a day and of a month, whenever this runs.
    host.sh("date -s \"$(date -d 'now + 32 days' +%Y-%m)-18 14:00\" >/dev/null")
    host.create("web", "-q", "--disk", "data=64M", tpm=True)
    host.create("db", "-q")
    # The clock is ours.
    assert host.sh("systemctl is-active systemd-timesyncd chrony ntpsec 2>/dev/null | grep -x active || true") == ""


pytestmark = pytest.mark.module_state(prepare=prepare)


@pytest.fixture(autouse=True)
def clean(host):
    """Every test begins without automatic snapshots and properties, and leaves the clock as it was."""
    start, began = int(host.sh("date +%s")), time.monotonic()
    yield
    host.sh(f"date -s @{start + int(time.monotonic() - began)} >/dev/null; "
            f"for dataset in $(zfs list -Ho name -r {ROOT}); do "
            "names=$(zfs list -Ho name -d 1 -t snapshot $dataset | sed -n 's/.*@\\(auto.*\\)/\\1/p' | paste -sd,); "
            "[ -z \"$names\" ] || zfs destroy $dataset@$names; done; "
            f"for disk in $(zfs list -Ho name -t volume -d 1 {ROOT}); do "
            "zfs inherit com.kldload:keep $disk; zfs inherit com.kldload:held-back $disk; done; "
            f"zfs inherit com.kldload:keep {ROOT}")


@contextlib.contextmanager
def clock(host, seconds):
    """The host's clock is so far ahead, or behind, for the body."""
    host.sh(f"date -s @$(($(date +%s) + {seconds})) >/dev/null")
    try:
        yield
    finally:
        host.sh(f"date -s @$(($(date +%s) - {seconds})) >/dev/null")


def age(host, machine, *hours, by="auto"):
    """Snapshots of the machine as the timer took them so many hours ago, oldest first; their names."""
    names = " ".join(f"{ROOT}/{part}@$name" for part in PARTS[machine])
    out = host.sh(f"""
        now=$(date +%s); up=$(cut -d. -f1 /proc/uptime)
        for hours in {' '.join(map(str, sorted(hours, reverse=True)))}; do
          date -s @$((now - hours * 3600)) >/dev/null
          name=auto-$(date -u +%FT%TZ)
          zfs snapshot -o com.kldload:by={by} -o com.kldload:consistency=offline -o com.kldload:op=test {names}
          echo $name
        done
        date -s @$((now + $(cut -d. -f1 /proc/uptime) - up)) >/dev/null""", timeout=600)
    return out.splitlines()


def autos(host, machine):
    """The machine's automatic snapshots, oldest first; each is there on all its datasets or on none."""
    found = {part: [name for name in host.snapshots(part) if name.startswith("auto-")] for part in PARTS[machine]}
    assert len({tuple(names) for names in found.values()}) == 1, found
    return found[machine]


def take(host, *argv, code=0):
    """A run in JSON: its answer, and what it warned of."""
    result = host.run("kvm-snapshot", "--json", *argv, check=False, timeout=600)
    assert result.rc == code, result
    return result.json, result.warnings


def explained(host, machine):
    """What --explain says of each automatic snapshot of the machine."""
    (one,) = host.run("kvm-snapshot", machine, "--explain", "--json").json
    return {snapshot["name"]: (snapshot["goes"], snapshot["reason"]) for snapshot in one["snapshots"]}


# ---- Taking ----


def test_one_call_for_all_of_one_consistency(host):
    for name in ("golden", "scratch", "runs"):
        host.create(name, "-q")
    host.sh(f"zfs set com.kldload:golden=true {ROOT}/golden; zfs set com.kldload:keep=none {ROOT}/scratch")
    host.start("runs")
    host.run("virsh", "desc", "web", "--config", "--new-desc", "edited since")
    answer, warnings = take(host)
    assert warnings == [] and answer["left_out"] == [] and answer["pruned"] == []
    assert {one["machine"]: one["consistency"] for one in answer["taken"]} == \
        {"db": "offline", "web": "offline", "runs": "crash"}
    assert answer["calls"] == 2
    (name,) = {one["snapshot"] for one in answer["taken"]}
    assert re.fullmatch("auto-" + UTC, name)
    groups = {host.property(f"{part}@{name}", "createtxg") for machine in MACHINES for part in PARTS[machine]}
    assert len(groups) == 1, "not one transaction group"
    operations = set()
    for machine in MACHINES:
        for part in PARTS[machine]:
            by, consistency, operation = host.property(f"{part}@{name}", "com.kldload:by", "com.kldload:consistency",
                                                       "com.kldload:op")
            assert (by, consistency) == ("auto", "offline")
            operations.add(operation)
    assert len(operations) == 1
    assert host.property(f"runs@{name}", "com.kldload:by", "com.kldload:consistency") == ("auto", "crash")
    for out in ("golden", "scratch"):
        assert host.snapshots(out) == []
    # The definition goes along, as it is now.
    assert "edited since" in host.read(f"{STATE}/web/.zfs/snapshot/{name}/domain.xml")
    # A golden image that asks takes part.
    host.run("zfs", "set", "com.kldload:keep=last=5", f"{ROOT}/golden")
    assert {one["machine"] for one in take(host)[0]["taken"]} == {"db", "golden", "runs", "web"}
    # With words, people see what was done; the plan shows the call.
    said = host.run("kvm-snapshot")
    assert re.fullmatch(r"Snapshots of 4 machines taken in 2 calls, 0 snapshots pruned in \d+\.\d\d seconds\.\n", said.out)
    with host.assert_unchanged():
        plans = host.run("kvm-snapshot", "--dry-run", "--json").json
        assert [plan["operation"] for plan in plans] == ["auto-snapshot"] * 2
        assert "zfs snapshot -o com.kldload:by=auto" in host.run("kvm-snapshot", "--dry-run").out
    host.run("virsh", "destroy", "runs")
    host.run("kvm-delete", "-q", "--yes", "golden", "scratch", "runs")


def test_a_second_name_in_a_second(host):
    host.sh("now=$(date +%s); for i in 1 2 3; do date -s @$now >/dev/null; kvm-snapshot -q; done")
    names = autos(host, "web")
    # Three runs at one time, unless a second began meanwhile.
    assert len(names) == 3 and any(name.endswith(".2") for name in names), names
    assert all(re.fullmatch("auto-" + UTC, name) for name in names)


def test_who_is_in_the_way_is_dropped_and_the_rest_done(host):
    # No room for a snapshot of what is reserved for a disk, so that this one fails where all the others would not.
    host.create("thick", "-q", "--thick")
    host.fill("thick", mib=64)
    host.sh(f"available=$(zfs get -Hpo value available {ROOT}); zfs create -o mountpoint=none "
            f"-o refreservation=$((available - (40 << 20))) {ROOT}/ballast; zpool sync")
    answer, warnings = take(host, code=1)
    assert {one["machine"] for one in answer["taken"]} == set(MACHINES)
    (left_out,) = answer["left_out"]
    assert left_out["machine"] == "thick" and f"{ROOT}/thick@auto-" in left_out["message"], answer
    assert "out of space" in left_out["message"]
    assert any("machine 'thick' has no new snapshot" in warning for warning in warnings)
    assert host.snapshots("thick") == host.snapshots(".state/thick") == []
    assert len(autos(host, "web")) == len(autos(host, "db")) == 1
    # Nothing is left to recover, and the rule is the same in words.
    result = host.run("kvm-snapshot", check=False)
    assert result.rc == 1 and "Snapshots of 2 machines taken" in result.out, result
    host.sh(f"zfs destroy {ROOT}/ballast; kvm-delete -q --yes thick")


def test_what_would_be_no_whole_machine_is_left_out(host):
    host.create("odd", "-q")
    host.sh("truncate -s 8M /var/lib/libvirt/images/odd.img; "
            "virsh attach-disk odd /var/lib/libvirt/images/odd.img vdz --config")
    answer, warnings = take(host, code=1)
    assert [(one["machine"], one["kind"]) for one in answer["left_out"]] == [("odd", "not-whole")]
    assert any("vdz" in warning for warning in warnings)
    assert {one["machine"] for one in answer["taken"]} == set(MACHINES)
    # One that only the running machine has.
    host.sh("virsh detach-disk odd vdz --config")
    assert take(host)[0]["left_out"] == []
    host.start("odd")
    host.sh("virsh attach-disk odd /var/lib/libvirt/images/odd.img sdz --targetbus usb --live")
    assert [one["machine"] for one in take(host, code=1)[0]["left_out"]] == ["odd"]
    host.sh("virsh destroy odd; kvm-delete -q --yes odd; rm /var/lib/libvirt/images/odd.img")


def test_a_machine_that_others_work_on_is_left_out_with_a_note(host):
    host.sh("mkdir /tmp/stop; setsid flock -o -x /run/kldload/lock/db sleep 60 </dev/null >/dev/null 2>&1 & sleep 1")
    result = host.run("kvm-snapshot")
    assert any("machine 'db' is left out: another command works on it (pid " in line for line in result.warnings), result
    assert "Snapshots of 1 machines" in result.out
    assert len(autos(host, "web")) == 1 and autos(host, "db") == []
    # Nor is it where that goes on for hours: somebody may have left a question open.
    age(host, "db", 3)
    late = host.run("kvm-snapshot", "-q", check=False)
    assert late.rc == 1 and any("'db'" in line and "(pid " in line for line in late.warnings), late
    # Asked for by name, that is no success.
    host.refuses("kvm-snapshot", "db", says="another command works on machine 'db'")
    host.sh("rmdir /tmp/stop; pkill -x -f 'sleep 60'")


def test_one_that_cannot_be_read_or_written_keeps_nobody_from_it(host):
    host.run("zfs", "set", "readonly=on", f"{ROOT}/.state/db")
    for name in ("db", "web"):
        host.run("virsh", "desc", name, "--config", "--new-desc", "edited where it cannot be saved")
    answer, warnings = take(host, code=1)
    assert [one["machine"] for one in answer["taken"]] == ["web"], answer
    assert any("'db'" in line and "ead-only" in line for line in warnings), warnings
    host.run("zfs", "inherit", "readonly", f"{ROOT}/.state/db")
    host.sh(f"cp {STATE}/db/domain.xml /root/saved.xml; truncate -s 100M {STATE}/db/domain.xml")
    answer, warnings = take(host, code=1)
    assert [one["machine"] for one in answer["taken"]] == ["web"], answer
    assert any("'db'" in line for line in warnings), warnings
    host.sh(f"cp /root/saved.xml {STATE}/db/domain.xml")
    assert {one["machine"] for one in take(host)[0]["taken"]} == set(MACHINES)


def test_machines_without_a_root_are_no_success(host):
    """Whoever gave it by a variable has a timer that does not know it."""
    assert host.run("kvm-snapshot", "-q").rc == 0
    host.sh(f"cp /etc/kldload/kvm.toml /root/kvm.toml; sed -i '/^root/d' /etc/kldload/kvm.toml; zfs rename {ROOT} vmpool/elsewhere")
    result = host.run("kvm-snapshot", "-q", check=False)
    host.sh(f"zfs rename vmpool/elsewhere {ROOT}; cp /root/kvm.toml /etc/kldload/kvm.toml")
    assert result.rc == 3 and len(result.hints) == 1, result


# ---- Pruning ----


def test_rules_and_what_stays_whatever_they_say(host):
    host.run("zfs", "set", "com.kldload:keep=hourly=4,daily=2", f"{ROOT}/web")
    host.run("zfs", "set", "com.kldload:keep=hourly=1", f"{ROOT}/db")
    old = age(host, "web", *range(1, 60, 2))
    held, cloned = old[1], old[3]
    db_old = age(host, "db", 2, 3, 4)
    host.run("kvm-snap", "-q", "web", "snap", "by-hand")
    foreign = f"{ROOT}/web@auto-2020-01-01T00:00:00Z"
    base, alike = "auto-2020-01-02T00:00:00Z", "auto-2020-01-03T00:00:00Z-x"
    host.sh(f"zfs hold mine {ROOT}/web-data@{held}; zfs snapshot {foreign}")
    for name, by in ((base, "repl"), (alike, "auto")):
        host.sh(f"zfs snapshot -o com.kldload:by={by} {' '.join(f'{ROOT}/{part}@{name}' for part in PARTS['web'])}")
    host.run("kvm-clone", "-q", "web", "copy", "--snap", cloned)
    host.run("kvm-snap", "-q", "copy", "snap", "its-own")

    said = explained(host, "web")
    assert said[held] == (False, "held")
    assert said[cloned] == (False, "cloned by copy")
    assert said[old[0]] == (True, "older than every rule")
    assert said["by-hand"] == (False, "by hand")
    assert said["auto-2020-01-01T00:00:00Z"] == said[alike] == (False, "not ours")
    assert said[base] == (False, "base of a replication")
    assert re.fullmatch("hourly: .* old, kept until 4 h; newest 2", said[old[-1]][1])
    assert sum("daily: oldest of 20" in reason for _, reason in said.values()) == 2
    goes = [name for name, (going, _) in said.items() if going]
    shown = {line.split()[1]: line for line in host.run("kvm-snapshot", "web", "--explain").out.splitlines()[1:]}
    assert re.search(r"  goes +older than every rule$", shown["@" + old[0]])

    answer, warnings = take(host)
    assert warnings == []
    pruned = {(one["machine"], one["snapshot"]) for one in answer["pruned"]}
    # The run's own snapshot is a newest one, so that db's second newest may go; by then one of web's may be too old.
    assert {("web", name) for name in goes} <= pruned
    assert pruned - {("web", name) for name in goes} == {("db", db_old[0]), ("db", db_old[1])}
    left = set(autos(host, "db"))
    assert db_old[2] in left and len(left) == 2, "the newest two stay"
    stays = [name for name in old if name not in goes]
    there = host.snapshots("web")
    assert {held, cloned, "by-hand", "auto-2020-01-01T00:00:00Z", base, alike, *stays} <= set(there)
    assert not set(goes) & set(there)
    host.sh(f"zfs destroy {foreign}; kvm-snap -q web delete {base} --yes; kvm-snap -q web delete {alike} --yes; "
            f"zfs release mine {ROOT}/web-data@{held}; kvm-delete -q --yes copy; "
            "kvm-snap -q web delete by-hand --yes")


def test_weeks_months_and_the_last(host):
    host.run("zfs", "set", "com.kldload:keep=weekly=2,monthly=2,last=4", f"{ROOT}/db")
    old = age(host, "db", *range(12, 70 * 24, 72))
    said = explained(host, "db")
    for rule, count in (("weekly: oldest of 20\\d\\d-W\\d\\d", 2), ("monthly: oldest of 20\\d\\d-\\d\\d", 2),
                        ("last: one of the newest 4", 3)):  # and one that the next run takes
        assert len([name for name, (_, reason) in said.items() if re.search(rule, reason)]) == count, said
    stays = [name for name in old if not said[name][0]]
    assert 3 <= len(stays) <= 7 and old[-3:] == stays[-3:]
    host.run("kvm-snapshot", "db", "--prune")
    assert autos(host, "db") == sorted({*stays, *old[-4:]})


def pruned_by(host, inject):
    """A prune of web's old snapshots: its calls of ZFS, by name and with what came of them, and the result."""
    result = host.run("strace", "-qq", "-o", "/tmp/pruned", "-P", "/dev/zfs", "-e", "trace=ioctl",
                      "-e", f"inject=ioctl:{inject}", "kvm-snapshot", "web", "--prune", check=False)
    return re.findall(r"^ioctl\(\d+, (\w+),.*\) += (-?\w+)", host.read("/tmp/pruned"), re.M), result


def test_a_hundred_at_most_in_a_call_and_fewer_when_it_is_slow(host):
    destroy = ("ZFS_IOC_DESTROY_SNAPS", "0")
    old = age(host, "web", *range(60, 112))
    result = host.run("kvm-snapshot", "web", "--prune", "--dry-run", "--json").json
    assert [len(plan["steps"][0]["snapshots"]) for plan in result] == [100, 100], "whole snapshots of four datasets"
    # Each half as many as the one before: 25, 12, 6, 3, 1 and so on.
    calls, result = pruned_by(host, "delay_exit=1200000:when=1+")
    assert result.rc == 0 and calls.count(destroy) == 8, (calls, result)
    assert autos(host, "web") == old[-2:]
    # Stopped in a call, whose wait a signal ends: that one is done all the same, no other is begun.
    # The two that stayed are the oldest now: the order is that in which they were made.
    old = [*old[-2:], *age(host, "web", *range(112, 164))]
    calls, result = pruned_by(host, f"signal=TERM:when={calls.index(destroy) + 1}")
    assert result.rc == 130 and "What was done before it stays." in result.err, result
    assert calls.count(destroy) == 1 and autos(host, "web") == old[25:]


def test_what_is_set_aside_is_explained(host):
    age(host, "db", 1, 2)
    host.run("kvm-snap", "-q", "db", "snap", "then")
    host.run("kvm-snap", "-q", "db", "rollback", "then")
    (kept,) = host.run("kvm-snap", "db", "kept", "--json").json
    (line,) = [line for line in host.run("kvm-snapshot", "db", "--explain").out.splitlines() if kept["name"] in line]
    assert f"kept: undo until {kept['expires']}" in line
    # It is none of the machine's own snapshots, and no run touches it.
    def aside():
        return {line for line in host.state() if "/.kept/" in line}
    before = aside()
    with clock(host, 20 * HOUR):
        take(host)
    assert aside() == before
    host.sh(f"kvm-snap -q db drop {kept['name']} --yes; "
            f"zfs list -Ho name -t snapshot -r {ROOT} | grep -E '@(then|safety-)' | xargs -r -n 1 zfs destroy")


def test_what_is_busy_stays_and_is_reported(host):
    host.run("zfs", "set", "com.kldload:keep=hourly=1", ROOT)
    host.fill("web", mib=8)
    old = age(host, "web", 2, 3, 4, 5, 6)
    # Whoever sends one keeps it from being destroyed, without a hold.
    host.sh(f"mkfifo /tmp/slow; setsid sleep 120 </tmp/slow >/dev/null 2>&1 & "
            f"setsid zfs send {ROOT}/web@{old[1]} >/tmp/slow 2>/dev/null </dev/null & sleep 3")
    answer, warnings = take(host, code=1)
    assert {one["snapshot"] for one in answer["pruned"]} == {old[0], old[2], old[3]}, answer
    (stays,) = answer["stays"]
    assert stays["snapshot"] == old[1] and "busy" in stays["message"]
    assert any(f"web@{old[1]} stays" in warning for warning in warnings)
    assert old[1] in autos(host, "web"), "all parts of it"
    host.sh("kill $(pgrep -x 'zfs') $(pgrep -fx 'sleep 120') 2>/dev/null; rm /tmp/slow; sleep 1", check=False)
    assert {one["snapshot"] for one in take(host)[0]["pruned"]} >= {old[1]}


def test_a_rule_that_cannot_be_read_removes_nothing(host):
    host.run("zfs", "set", "com.kldload:keep=hourly=1", ROOT)
    age(host, "db", 2, 3, 4)
    web = age(host, "web", 2, 3, 4)
    host.run("zfs", "set", "com.kldload:keep=for a while", f"{ROOT}/web")
    answer, warnings = take(host, code=1)
    assert any("com.kldload:keep 'for a while' of 'web'" in warning for warning in warnings), warnings
    assert {one["machine"] for one in answer["pruned"]} == {"db"}
    assert {one["machine"] for one in answer["taken"]} == set(MACHINES)
    assert set(web) < set(autos(host, "web"))
    host.sh(f"zfs inherit com.kldload:keep {ROOT}/web; zfs inherit com.kldload:keep {ROOT}")
    # The same in the configuration.
    config = host.read("/etc/kldload/kvm.toml")
    host.write("/etc/kldload/kvm.toml", config + '\nkeep = "hourly"\n')
    assert any("'keep' in the configuration" in warning for warning in take(host, code=1)[1])
    host.write("/etc/kldload/kvm.toml", config + '\nkeep = "last=2"\n')
    take(host)
    assert len(autos(host, "db")) == 2
    host.write("/etc/kldload/kvm.toml", config)


# ---- The clock ----


def test_the_clock_back_an_hour(host):
    old = age(host, "db", *range(1, 60))
    before = autos(host, "db")
    with clock(host, -HOUR):
        answer, warnings = take(host)
        assert warnings == [] and answer["held_back"] == []
        # Younger by an hour: what was about to go stays an hour longer.
        pruned = {one["snapshot"] for one in answer["pruned"]}
        assert pruned and pruned <= set(old[:12])
        again = take(host)[0]
        assert again["pruned"] == [] and len(again["taken"]) == 2
    assert take(host)[0]["held_back"] == []
    left = autos(host, "db")
    assert [name for name in before if name in left] == old[-47:]


def test_a_jump_holds_the_prune_back_until_it_is_asked_for(host):
    old = age(host, "db", *range(1, 50))
    age(host, "web", 1)
    with clock(host, 30 * DAY):
        with_jump = old[:-2]
        said = explained(host, "db")
        assert said[old[0]] == (False, "will be held back: the clock has jumped; older than every rule")
        answer, warnings = take(host, code=1)
        # It goes on taking, and nothing of db goes; web has too few to lose.
        assert {one["machine"] for one in answer["taken"]} == set(MACHINES)
        assert answer["held_back"] == ["db"] and answer["pruned"] == []
        assert any("nothing of machine 'db' is pruned" in warning and "kvm-snapshot db --prune" in warning
                   for warning in warnings), warnings
        # The next hours change nothing of that, though the newest is young again.
        for hours in (1, 2):
            with clock(host, hours * HOUR):
                answer, _ = take(host, code=1)
                # web has so few that less than half goes.
                assert answer["held_back"] == ["db"] and {one["machine"] for one in answer["pruned"]} <= {"web"}
        with clock(host, 20 * DAY):
            assert "db" in take(host, code=1)[0]["held_back"]
        assert set(old) < set(autos(host, "db"))
        assert "held back until" in explained(host, "db")[old[0]][1]
        # The unit fails, for all to see.
        assert host.sh("systemctl start kvm-snapshot.service", check=False).rc != 0
        assert host.sh("systemctl is-failed kvm-snapshot.service") == "failed"
        assert "kvm-snapshot.service" in host.sh("systemctl --failed --plain --no-legend")
        assert "nothing of machine 'db' is pruned" in host.sh("journalctl -u kvm-snapshot.service -n 20 --no-pager")
        # By hand.
        answer, warnings = take(host, "--prune")
        assert {one["snapshot"] for one in answer["pruned"] if one["machine"] == "db"} >= set(with_jump)
        assert answer["taken"] == [] and warnings == []
        assert host.property("db", "com.kldload:held-back") == "-"
        answer, warnings = take(host)
        assert answer["held_back"] == [] and warnings == []
        host.sh("systemctl start kvm-snapshot.service; systemctl is-active kvm-snapshot.service || true")
        assert host.sh("systemctl is-failed kvm-snapshot.service || true") == "inactive"
    assert not set(with_jump) & set(autos(host, "db"))


def test_a_jump_back_of_more_than_a_day_removes_nothing(host):
    old = age(host, "db", *range(1, 60))
    with clock(host, -3 * DAY):
        assert take(host)[0]["pruned"] == []
    assert set(old) < set(autos(host, "db"))


def test_the_timer_takes_what_it_missed(host):
    assert host.sh("systemctl cat kvm-snapshot.timer").count("Persistent=true") == 1
    assert host.sh("systemctl show -p NextElapseUSecRealtime --value kvm-snapshot.timer") == ""
    old = age(host, "db", *range(25, 40))
    stamp = "/var/lib/systemd/timers/stamp-kvm-snapshot.timer"
    host.sh(f"mkdir -p /var/lib/systemd/timers; touch -d '25 hours ago' {stamp}; touch {BY_THE_CALENDAR}; "
            "systemctl start kvm-snapshot.timer")
    host.sh("for i in $(seq 100); do [ -n \"$(systemctl show -p ExecMainExitTimestamp --value kvm-snapshot.service)\" ] && "
            "! systemctl is-active -q kvm-snapshot.service && exit; sleep 0.3; done; exit 1")
    assert len(autos(host, "db")) == len(old) + 1, "one for all that were missed"
    assert host.sh("systemctl show -p Result --value kvm-snapshot.service") == "success"
    # And by the hour.
    next_run = host.sh("date -d \"$(systemctl show -p NextElapseUSecRealtime --value kvm-snapshot.timer)\" +%M%S")
    assert next_run == "0000"
    host.sh(f"systemctl stop kvm-snapshot.timer; rm {BY_THE_CALENDAR}")


# ---- At once ----


def test_of_two_runs_the_second_leaves_it_to_the_first(host):
    hold(host, ["kvm-snapshot"], 2, 12, plan=host.run("kvm-snapshot", "--dry-run", "--json").json[0])
    second = host.run("kvm-snapshot")
    assert "another 'kvm-snapshot' is running (pid " in second.out and second.out.endswith("nothing to do.\n"), second
    assert "skipped" in host.run("kvm-snapshot", "--json").json
    assert any("is running (pid " in line for line in host.run("kvm-snapshot", "-q").warnings)
    # Whoever wants more than the timer must know.
    result = host.run("kvm-snapshot", "--prune", check=False)
    assert result.rc == 3 and "another 'kvm-snapshot' is running" in result.err, result
    # To look is free.
    host.run("kvm-snapshot", "--explain")
    assert background_status(host)[0] == 0
    assert len(autos(host, "web")) == 1


def test_what_was_killed_leaves_all_or_nothing(host):
    host.run("virsh", "desc", "db", "--config", "--new-desc", "for the kill")
    plan = host.run("kvm-snapshot", "--dry-run", "--json").json[0]
    kill_at(host, ["kvm-snapshot"], len(plan["steps"]) + 1, plan)
    assert autos(host, "web") == autos(host, "db") == []
    result = host.run("kvm-snapshot")
    assert any("an earlier 'auto-snapshot' that was cut off" in warning for warning in result.warnings), result
    assert len(autos(host, "web")) == len(autos(host, "db"))


# ---- The pool, and other tools ----


@pytest.fixture
def small(host):
    """A pool with a root of its own, and a machine in it; big enough for what ZFS keeps back for itself, 128 MiB."""
    host.sh("truncate -s 2200M /root/small.img; zpool create -O mountpoint=none -O canmount=off small /root/small.img; "
            "zfs create -o volmode=dev small/vms")
    host.create("tight", "-q", "--root", "small/vms")
    yield "small/vms"
    host.sh("virsh undefine tight --keep-nvram --keep-tpm; udevadm settle; zpool destroy small; rm /root/small.img; "
            f"rmdir {STATE}/tight 2>/dev/null || chattr -i {STATE}/tight && rmdir {STATE}/tight")


def fill_to(host, percent):
    host.sh(f"size=$(zpool list -Hpo size small); allocated=$(zpool list -Hpo allocated small); "
            f"zfs create -s -V 4G -o volblocksize=128k -o compression=off -o checksum=off small/fill{percent}; "
            "udevadm settle; "
            f"dd if=/dev/zero of=/dev/zvol/small/fill{percent} bs=1M count=$(((size * {percent} / 100 - allocated) >> 20)) "
            "oflag=direct status=none; zpool sync small", timeout=600)


def test_the_pool_guard(host, small):
    run = ["--root", small]
    assert take(host, *run)[1] == []
    fill_to(host, 84)
    answer, warnings = take(host, *run)
    assert len(answer["taken"]) == 1
    assert len(warnings) == 1 and re.search(r"pool 'small' is 8\d % full: above 90 %", warnings[0]), warnings
    fill_to(host, 92)
    before = host.sh(f"zfs list -Ho name -t snapshot -r {small}")
    answer, warnings = take(host, *run, code=1)
    assert answer["taken"] == []
    assert re.search(r"pool 'small' is 9\d % full: above 90 % there are no new automatic snapshots", warnings[0])
    assert host.sh(f"zfs list -Ho name -t snapshot -r {small}") == before
    # What early deletion would free is shown; it is done only where the configuration says so.
    host.sh(f"for i in 1 2 3; do dd if=/dev/urandom of=/dev/zvol/{small}/tight bs=64k count=1 oflag=direct conv=notrunc "
            f"status=none; zpool sync; zfs snapshot -o com.kldload:by=auto {small}/tight@auto-2020-01-01T00:00:0${{i}}Z "
            f"{small}/.state/tight@auto-2020-01-01T00:00:0${{i}}Z; done")
    answer, warnings = take(host, *run, code=1)
    assert any(re.search(r"early deletion is off; it would remove 3 snapshots .* frees about [\d.]+[KMG]", warning)
               for warning in warnings), warnings
    assert answer["pruned"] == []
    config = host.read("/etc/kldload/kvm.toml")
    host.write("/etc/kldload/kvm.toml", config + "\nearly_deletion = true\n")
    shown = host.run("kvm-snapshot", *run, "--dry-run", check=False)
    assert "early deletion removes 3 snapshots" in shown.err and "zfs destroy" in shown.out, shown
    answer, warnings = take(host, *run, code=1)
    assert len(answer["pruned"]) == 3, answer
    assert len(host.sh(f"zfs list -Ho name -t snapshot -d 1 {small}/tight").splitlines()) == 2, "the newest two"
    host.write("/etc/kldload/kvm.toml", config)


def test_sanoid_on_the_same_datasets_is_reported(host):
    host.write("/etc/sanoid/sanoid.conf", f"""[{ROOT}/web]
use_template = test
[template_test]
hourly = 1
daily = 0
monthly = 0
yearly = 0
autosnap = yes
autoprune = yes
""")
    host.sh("sanoid --take-snapshots --quiet")
    assert any(name.startswith("autosnap_") for name in host.snapshots("web"))
    answer, warnings = take(host)
    assert len(warnings) == 1 and "sanoid snapshots these machines, too" in warnings[0] and ": web;" in warnings[0]
    assert answer["pruned"] == []
    host.sh(f"rm -r /etc/sanoid/sanoid.conf; "
            f"zfs list -Ho name -t snapshot -r {ROOT} | grep '@autosnap_' | xargs -n 1 zfs destroy")


def test_who_is_started_meanwhile_was_not_off(host):
    background(host, strace("fdatasync:delay_exit=20000000:when=2", ["kvm-snapshot", "web", "--json"]))
    await_record(host, 2)
    host.start("web")
    status, said = background_status(host)
    host.run("virsh", "destroy", "web")
    assert status == 0 and '"consistency": "crash"' in said, said
    (taken,) = [one for one in host.run("kvm-snap", "web", "list", "--json").json if one["by"] == "auto"]
    assert taken["consistency"] == "crash"
