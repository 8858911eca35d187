# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed, interrupted and made to fail at every point: the host is as before, or as after."""

import pytest
from faults import COLD_DELETE, COMMANDS, KILLED, background, background_status, count_calls, end_background, generator, \
    hold, journal_entries, plan_of, prepare, record_before, sample, some, strace, trial_of
from host import JOURNAL, LIBVIRTD, ROOT, STATE, TPM, lab
from sweeps import kill_at, power_cut, table, table_on_disk, test_a_zfs_call_fails, test_interrupted, test_killed_at_a_record, \
    test_something_breaks_meanwhile, with_commands  # noqa: F401

pytestmark = pytest.mark.module_state(prepare=prepare)


POWER = [COLD_DELETE if command.name == "delete" else command for command in COMMANDS.values()]


def pytest_generate_tests(metafunc):
    with_commands(metafunc, COMMANDS.values())
    if "cut" in metafunc.fixturenames:
        metafunc.parametrize("cut", some(metafunc, "power", POWER, 2), ids=lambda command: command.name)


FAILING = ["mount:error=EIO:when=1", "fsync:error=EIO:when=2", "fsync:error=ENOSPC:when=1", "rename:error=EIO:when=1",
           "rename:error=ENOSPC:when=1", "fdatasync:error=EIO:when=2", "fdatasync:error=ENOSPC:when=1",
           "fdatasync:error=EIO:when=3"]


def test_a_system_call_fails(host, request, command):
    trial = trial_of(host, command)
    for fault in sample(request, f"system calls {command.name}", FAILING):
        result = host.run(*strace(fault, command.argv), check=False)
        if result.rc == 0:
            # Where the sync of a directory or of the mark of the end fails, nothing is lost; or it makes no such call.
            harmless = fault.startswith("fsync") or fault.endswith("when=3")
            assert harmless or "(INJECTED)" not in host.read("/tmp/strace"), f"{fault}: {result}"
            trial.take_back()
            continue
        assert result.rc in (1, 3, 4), f"{fault}: {result}"
        assert result.errors, result
        undone = trial.settle(fault.split(":when")[0].replace(":error=", " "))
        assert undone or result.rc == 4, f"{fault}: {result}"


def test_recovered_by_the_next_command(host):
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    record = generator("next").choice([one for one in trial.records[1:] if trial.is_undone(one)])
    kill_at(host, command.argv, record)

    def look():
        """What only looks recovers nothing, and shows what there is."""
        before = host.state()
        host.run("kvm-clone", "parent", "another", "--dry-run")
        (shown,) = host.run("kld", "recover", "--dry-run", "--json").json
        assert (shown["operation"], shown["result"]) == ("clone", "undone")
        assert set(shown["machines"]) == {"source", "copy-1", "copy-2"}
        assert "interrupted" in host.run("kvm-list").out
        assert journal_entries(host) == 1
        host.assert_same(before)

    def change():
        result = host.run("kvm-clone", "parent", "source", check=False)
        assert result.rc == 3 and "is taken" in result.err, result
        assert "that was cut off" in result.err, result

    look()
    assert trial.settle("kill -9, next command", recover=change)


def test_killed_while_it_starts_a_machine(host):
    """What libvirt runs may be used for weeks before somebody recovers: it is finished, never taken away."""
    host.create("plain", "-q")
    argv = ["kvm-clone", "plain", "started", "--start"]
    for in_use in (False, True):
        kill_at(host, argv, record_before(plan_of(host, argv), "start-domain"))
        if in_use:
            with host.without_start_guard():
                host.run("virsh", "start", "started")
            host.fill("started", mib=1)
            content = host.checksum(f"/dev/zvol/{ROOT}/started", 1)
        (recovered,) = host.run("kld", "recover", "--json").json
        assert recovered["result"] == "finished", recovered
        assert host.domains()["started"] == "running"
        if in_use:
            assert host.checksum(f"/dev/zvol/{ROOT}/started", 1) == content
        host.run("kvm-delete", "-q", "--yes", "--force", "started")
    host.run("kvm-delete", "-q", "--yes", "plain")


def test_an_undo_that_was_cut_off_takes_no_machine_that_is_in_use(host):
    """Ctrl-C had begun to take a started clone back when the process was killed; the clone was found running."""
    host.create("plain", "-q")
    argv = ["kvm-clone", "plain", "started", "--start"]
    plan = plan_of(host, argv)
    kill_at(host, argv, record_before(plan, "start-domain"), plan)
    host.sh(f"echo '{{\"undo\":true}}' >>$(ls {JOURNAL}/*.json)")
    with host.without_start_guard():
        host.run("virsh", "start", "started")
    for state in ("running", "shut off"):
        if state == "shut off":
            host.run("virsh", "destroy", "started")
        before = host.state()
        result = host.run("kld", "recover", check=False)
        assert result.rc == 4 and "machine 'started' had been started and may be in use" in result.out + result.err, result
        host.assert_same(before)
        assert host.domains()["started"] == state
    host.run("virsh", "undefine", "started", "--keep-nvram", "--keep-tpm")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert not [one for one in host.datasets() if "started" in one]
    host.run("kvm-delete", "-q", "--yes", "plain")


def test_what_was_cleared_away_by_hand_is_not_defined_again(host):
    argv = ["kvm-create", "cleared", "--disk", "1", "--ram", "256", "--firmware", "bios", "--no-tpm", "--autostart"]
    plan = plan_of(host, argv)
    for act in ("define-domains", "set-autostart"):
        before = host.state()
        kill_at(host, argv, record_before(plan, act), plan)
        host.sh(f"virsh undefine cleared || true; zfs destroy {ROOT}/cleared; zfs destroy {ROOT}/.state/cleared; udevadm settle")
        (recovered,) = host.run("kld", "recover", "--json").json
        assert recovered["result"] == "undone", recovered
        host.assert_same(before)


def test_recovery_leaves_what_others_made_meanwhile(host):
    """A volume of that name, without any mark, made by hand after the command died."""
    argv = ["kvm-create", "mine", "--no-start", "--disk", "1", "--ram", "256", "--firmware", "bios", "--no-tpm"]
    kill_at(host, argv, record_before(plan_of(host, argv), "create-volume"))
    host.sh(f"zfs create -s -V 64M {ROOT}/mine; udevadm settle")
    guid = host.property("mine", "guid")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert host.property("mine", "guid") == guid
    assert "mine" not in host.domains()
    host.sh(f"zfs destroy {ROOT}/mine")


def test_snapshots_by_the_clock_are_no_use(host):
    """sanoid and its like snapshot what a dead command left, too: it is undone all the same. A clone or a hold tells of use."""
    command = COMMANDS["create"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "create-volume") + 1, trial.plan)
    host.sh(f"zfs snapshot -r {ROOT}@hourly; zfs hold mine {ROOT}/new@hourly")
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and f"{ROOT}/new@hourly" in result.out + result.err, result
    host.sh(f"zfs release mine {ROOT}/new@hourly; kld recover; zfs destroy -r {ROOT}@hourly")
    assert trial.settle("kill -9, snapshots by the clock")


def test_what_zfs_refuses_at_the_last_moment_undoes_a_delete(host):
    """A hold that came after all the checks: the machine is as it was, its TPM, too. Even when somebody has mounted that
    again: undefining takes neither it nor the firmware variables."""
    host.run("kvm-clone", "-q", "source", "held")
    host.run("kvm-snap", "-q", "held", "snap", "kept")
    before = host.state()
    argv = ["kvm-delete", "held", "--yes"]
    plan = plan_of(host, argv)
    undefine = record_before(plan, "undefine-domains")
    for record, meanwhile in [(2, "true"), (undefine, f"zfs mount {ROOT}/.state/held; zfs mount {ROOT}/.state/held/tpm")]:
        hold(host, argv, record, 8, plan)
        host.sh(f"{meanwhile}; zfs hold mine {ROOT}/held@kept")
        status, said = background_status(host)
        assert status == 1 and "Everything done so far was undone" in said, said
        host.run("zfs", "release", "mine", f"{ROOT}/held@kept")
        host.assert_same(before)
    host.run("kvm-delete", "-q", "--yes", "held")


def test_the_same_command_again(host):
    """It undoes what it left, then does it: the device links of what went are gone, too."""
    command = COMMANDS["create"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, trial.commit + 1)
    again = host.run(*command.argv)
    assert "undid an earlier 'create' that was cut off" in again.err, again
    assert trial.is_whole()
    trial.take_back()


def test_killed_while_it_writes_an_image(host):
    """What it had started does not write on."""
    before = host.state()
    host.sh("truncate -s 8G /root/large.raw; for at in 0 1000 2000 3000; do head -c 64M /dev/urandom | "
            "dd of=/root/large.raw bs=1M seek=$at conv=notrunc status=none; done")
    background(host, ["kvm-create", "imaged", "--no-start", "--image", "/root/large.raw", "--ram", "256", "--firmware",
                      "bios", "--no-tpm"])
    host.sh("for i in $(seq 300); do pgrep -x qemu-img && break; sleep 0.1; done >/dev/null; sleep 1; pkill -KILL -x kvm-create")
    result = host.run("kld", "recover", "--json")
    assert [one["result"] for one in result.json] == ["undone"], result
    assert host.sh("pgrep -x qemu-img || true") == ""
    host.assert_same(before)


def test_killed_while_it_copies(host, request):
    """At any moment of a full copy: what it had started ends, too, and recovery waits for that. ZFS loses a SIGKILL that
    comes while it starts a thread; a copy is received without the operation's mark on its snapshot."""
    host.create("bulky", "-q")
    host.fill("bulky", mib=160)
    host.run("kvm-snap", "-q", "bulky", "snap", "first")
    before = host.state()
    for delay in sample(request, "delays", [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2], 3):
        background(host, ["kvm-clone", "bulky", "bulky-copy", "--full"])
        host.sh("for i in $(seq 300); do pgrep -f '^zfs receive' && break; sleep 0.02; done >/dev/null; "
                f"sleep {delay}; pkill -KILL -x kvm-clone")
        assert journal_entries(host) == 1
        result = host.run("kld", "recover", "--json")
        assert [one["result"] for one in result.json] == ["undone"], result
        assert host.sh("pgrep -x kvm-clone || pgrep -x zfs || true") == ""
        host.assert_same(before)
    host.run("kvm-delete", "-q", "--yes", "bulky")


LONG = {
    "full copy": (["kvm-clone", "bulky", "long", "--full"], "^zfs receive"),
    "image": (["kvm-create", "long", "--no-start", "--image", "/root/long.raw", "--ram", "256", "--firmware", "bios",
               "--no-tpm"], "^qemu-img convert"),
}


@pytest.mark.parametrize("what", LONG)
def test_long_work_is_stopped(host, what):
    """By Ctrl-C, and when the program that does it fails: undone at once, and nothing runs on."""
    argv, program = LONG[what]
    host.create("bulky", "-q")
    host.fill("bulky", mib=160)
    host.sh("cp --sparse=never /dev/zvol/vmpool/vms/bulky /root/long.raw")
    before = host.state()
    for signal, victim, status, says in [("INT", f"^{argv[0]} ", 130, "interrupted"),
                                         ("KILL", program, 1, "Everything done so far was undone")]:
        background(host, argv)
        host.sh(f"for i in $(seq 300); do pgrep -f '{program}' && break; sleep 0.05; done >/dev/null; sleep 0.3; "
                f"pkill -{signal} -f '{victim}'")
        rc, said = background_status(host)
        assert rc == status and says in said, (rc, said)
        assert host.sh(f"pgrep -f '{program}' || true") == ""
        assert journal_entries(host) == 0
        host.assert_same(before)
    host.sh("rm /root/long.raw")
    host.run("kvm-delete", "-q", "--yes", "bulky")


def test_a_disk_that_is_opened_at_the_last_moment(host):
    """Behind the check that nobody uses it: who holds it is named, and the delete is finished later."""
    host.run("kvm-clone", "-q", "parent", "held")
    argv = ["kvm-delete", "held", "--yes"]
    plan = plan_of(host, argv)
    hold(host, argv, record_before(plan, "destroy-datasets"), 4, plan)
    host.sh(f"setsid sleep 3600 </dev/zvol/{ROOT}/held >/dev/null 2>&1 &")
    status, said = background_status(host)
    assert status == 4 and "sleep" in said and "kld recover" in said, said
    still = host.run("kld", "recover", check=False)
    assert still.rc == 4 and "sleep" in still.out + still.err, still
    host.sh("pkill -x sleep")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    assert "held" not in host.kvm_list() and not [one for one in host.datasets() if one.startswith("held")]


def test_a_machine_that_is_in_use_again_is_not_deleted_by_recovery(host):
    """Its deletion was cut off, and somebody thought better of it."""
    host.create("regretted", "-q")
    host.run("kvm-snap", "-q", "regretted", "snap", "old")
    argv = ["kvm-delete", "regretted", "--yes"]
    kill_at(host, argv, record_before(plan_of(host, argv), "destroy-snapshots"))
    host.sh(f"zfs mount {ROOT}/.state/regretted; virsh define {STATE}/regretted/domain.xml; "
            f"zfs snapshot {ROOT}/regretted@new")
    for state in ("shut off", "running"):
        if state == "running":
            with host.without_start_guard():
                host.start("regretted")
        before = host.state()
        result = host.run("kld", "recover", check=False)
        assert result.rc == 4 and f"domain 'regretted' uses {ROOT}/regretted again" in result.out + result.err, result
        refused = host.run("kvm-snap", "regretted", check=False)
        assert refused.rc == 3, refused
        host.assert_same(before)
    host.sh("virsh destroy regretted; virsh undefine regretted --keep-nvram --keep-tpm")
    # Another machine that runs will have it from its next start on.
    host.create("rescue", "-q")
    host.start("rescue")
    host.run("virsh", "attach-disk", "rescue", f"/dev/zvol/{ROOT}/regretted", "vdb", "--config")
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and f"domain 'rescue' uses {ROOT}/regretted again" in result.out + result.err, result
    host.sh("virsh destroy rescue; virsh detach-disk rescue vdb --config; kvm-delete -q --yes rescue")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    assert not [one for one in host.datasets() if "regretted" in one]


def test_a_device_link_that_is_lost_comes_back(host):
    """udev drops events under load."""
    command = COMMANDS["create"]
    trial = trial_of(host, command)
    hold(host, command.argv, record_before(trial.plan, "await-devices"), 5, trial.plan)
    host.sh(f"udevadm settle; rm /dev/zvol/{ROOT}/new")
    status, said = background_status(host)
    assert status == 0, said
    host.sh(f"test -b /dev/zvol/{ROOT}/new")
    assert trial.is_whole()
    trial.take_back()


@pytest.mark.parametrize("name", ["clone", "delete"])
def test_recovery_is_killed(host, request, name):
    """At calls to ZFS, again and again, until one comes through."""
    command = COMMANDS[name]
    trial = trial_of(host, command)
    for record in sample(request, f"recovery {name}", trial.records[2:]):
        kill_at(host, command.argv, record, trial.plan)
        calls = count_calls(host, "ioctl", ["kld", "recover", "--dry-run"], "/dev/zfs")
        for call in sample(request, f"recovery call {name}", range(calls + 1, calls + 7), 3):
            result = host.run(*strace(f"ioctl:signal=KILL:when={call}", ["kld", "recover"], path="/dev/zfs"), check=False)
            assert result.rc in (0, *KILLED), result
        assert trial.settle("recovery killed") == trial.is_undone(record), f"record {record}"


def test_what_cannot_be_finished_is_undone(host):
    """Killed behind its commit point, before libvirt knew of anything; what it had made was cleared away by hand."""
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "write-files"), trial.plan)
    host.sh(f"zfs destroy -r {ROOT}/.state/copy-1")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert trial.settle("kill -9, made things gone")


def test_what_was_edited_behind_an_adoption_stays(host):
    """Killed when its definition was changed already, and edited then."""
    command = COMMANDS["adopt"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "redefine-domain"), trial.plan)
    # What the step would have done, by hand.
    host.sh(f"virsh dumpxml legacy --inactive | sed 's:{ROOT}/disk-of-legacy:{ROOT}/legacy:' >/root/legacy.xml; "
            "virsh define /root/legacy.xml; virsh desc legacy --config --new-desc 'edited since'")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    assert "edited since" in host.xml("legacy")
    assert trial.is_whole()
    trial.take_back()


def test_what_was_edited_since_survives_the_recovery_after_a_reboot(host):
    host.create("lively", "-q")
    kill_at(host, ["kvm-delete", "lively", "--yes"], 2)
    host.run("virsh", "desc", "lively", "--config", "--new-desc", "edited since")
    host.sh(f"sed -i 's/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"an earlier one\"/' {JOURNAL}/*.json")
    edited = host.xml("lively")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert host.xml("lively") == edited
    assert host.sh(f"findmnt -no SOURCE {STATE}/lively") == f"{ROOT}/.state/lively"
    host.run("kvm-delete", "-q", "--yes", "lively")


def test_libvirtd_is_killed_in_the_middle(host):
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    hold(host, command.argv, record_before(trial.plan, "define-domains"), 4, trial.plan)
    host.sh("systemctl kill -s KILL libvirtd; systemctl reset-failed libvirtd; systemctl restart libvirtd")
    rc, said = background_status(host)
    assert rc in (1, 4), said
    assert "error:" in said
    assert trial.settle("libvirtd killed")


def test_libvirtd_is_not_there(host):
    with host.assert_unchanged():
        host.sh(f"systemctl stop {LIBVIRTD} 2>&1")
        result = host.run(*COMMANDS["clone"].argv, check=False)
        host.sh("systemctl start libvirtd.socket libvirtd.service")
    assert result.rc == 3, result
    assert "libvirt" in result.err and result.hints, result


def test_recovery_without_libvirtd_changes_nothing(host):
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, trial.commit + 1, trial.plan)
    half = host.datasets()
    host.sh(f"systemctl stop {LIBVIRTD} 2>&1")
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and "libvirt" in result.out + result.err, result
    assert journal_entries(host) == 1 and host.datasets() == half
    host.sh("systemctl start libvirtd.socket libvirtd.service")
    assert trial.settle("libvirtd not there")


def test_a_pool_that_can_only_be_read(host):
    """As one is that was imported so to save what it holds. Nothing begins there, and what was cut off before waits."""
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    record = record_before(trial.plan, "write-files")
    kill_at(host, command.argv, record, trial.plan)
    half = host.datasets()
    journal = host.sh(f"cat {JOURNAL}/*.json")
    host.sh("udevadm settle; zpool export vmpool; zpool import -o readonly=on vmpool; udevadm settle")
    before = host.state()
    for other in COMMANDS.values():
        if other.name in ("clone", "snap-delete", "delete"):
            continue  # of the first something is left; what the others remove is not there
        for argv in (other.argv, [*other.argv, "--dry-run"]):
            host.refuses(*argv, says="pool 'vmpool' is imported read-only", hint="zpool export vmpool")
    host.refuses("kvm-delete", "parent", "--yes", says="pool 'vmpool' is imported read-only", hint="zpool export vmpool")
    host.refuses("kvm-snap", "back", "delete", "latest", "--yes", says="imported read-only")
    host.assert_same(before)
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and "imported read-only" in result.out + result.err, result
    assert host.sh(f"cat {JOURNAL}/*.json") == journal and host.datasets() == half
    host.sh("zpool export vmpool; zpool import vmpool; udevadm settle")
    assert trial.settle("kill -9, then the pool read-only") == trial.is_undone(record)


def test_recovery_waits_for_nobody_else(host):
    """A dead command that cannot be recovered yet keeps no unrelated one from working."""
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, 4)
    background(host, ["flock", "/run/kldload/lock/copy-1", "sleep", "60"])
    result = host.run("kvm-snap", "parent", "snap", "meanwhile", timeout=60)
    assert "recover" not in result.err and journal_entries(host) == 1, result
    refused = host.run("kvm-snap", "source", "snap", "meanwhile", check=False, timeout=60)
    assert refused.rc == 3 and "must be recovered first" in refused.err, refused
    end_background(host)
    host.run("kvm-snap", "parent", "delete", "meanwhile", "--yes")
    assert trial.settle("kill -9, a lock held", recover=lambda: host.run("kld", "recover"))


def save_definition(host, name):
    """As the first snapshot does. Among others who use the machine it is not taken back."""
    host.run("kvm-snap", "-q", name, "snap", "first")
    host.run("kvm-snap", "-q", name, "delete", "first", "--yes")


def test_recovery_of_a_clone_waits_for_no_other_clone(host):
    """Its source may be copied for hours meanwhile."""
    command = COMMANDS["clone"]
    save_definition(host, "source")
    trial = trial_of(host, command)
    kill_at(host, command.argv, 4)
    background(host, ["flock", "-s", "/run/kldload/lock/source", "sleep", "60"])
    assert trial.settle("kill -9, its source in use")
    end_background(host)


def test_recovery_of_a_clone_takes_nothing_from_another(host):
    """The snapshot of the dead one is being copied by then."""
    command = COMMANDS["clone"]
    save_definition(host, "source")
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "clone-datasets"))
    snapshot = host.snapshots("source")[-1]
    # As if somebody recovered it just then, the next command uses what is there.
    host.sh(f"nohup setsid flock -o {JOURNAL}/*.json sleep 600 >/dev/null 2>&1 & sleep 1")
    host.write("/usr/local/sbin/zfs", "#!/bin/sh\n[ \"$1\" != send ] || sleep 20\nexec /usr/sbin/zfs \"$@\"\n")
    host.sh("chmod +x /usr/local/sbin/zfs")
    background(host, ["kvm-clone", "source", "long", "--full"])
    host.sh("for i in $(seq 300); do pgrep -f '^/bin/sh .*zfs send' && break; sleep 0.1; done >/dev/null; pkill -x flock")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone" and snapshot in host.snapshots("source"), recovered
    host.sh("rm /usr/local/sbin/zfs")
    rc, said = background_status(host)
    assert rc == 0, said
    host.sh(f"zfs list -H -o name -t snapshot | grep '@{snapshot}$' | xargs -n 1 zfs destroy")
    host.run("kvm-delete", "long", "--yes")
    assert trial.settle("kill -9, its snapshot being copied")


def test_the_mount_point_of_a_tpm_stops_no_undo(host):
    """Left immutable by a host that went down, and did not mount it again: its key is not there yet."""
    command = COMMANDS["adopt"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "redefine-domain") - 1, trial.plan)
    host.sh(f"umount {TPM}/{host.uuid('legacy')}; "
            f"sed -i 's/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"an earlier one\"/' {JOURNAL}/*.json")
    assert trial.settle("kill -9, its TPM not mounted")


def test_a_snapshot_in_use_survives_the_undo_of_another(host):
    """Two clones of one source: the first dies, the second has begun to use its snapshot."""
    command = COMMANDS["clone"]
    trial = trial_of(host, command)
    kill_at(host, command.argv, record_before(trial.plan, "take-snapshots") + 1)
    snapshot = host.snapshots("source")[-1]
    host.run("zfs", "clone", f"{ROOT}/source@{snapshot}", f"{ROOT}/by-hand")
    host.run("kld", "recover")
    assert host.snapshots("source") == [snapshot]
    assert host.snapshots(".state/source") == []
    host.sh(f"zfs destroy {ROOT}/by-hand; zfs destroy {ROOT}/source@{snapshot}")
    assert trial.settle("kill -9, its snapshot in use")


@pytest.mark.leaves_journal
def test_an_unreadable_journal_is_kept(host):
    with host.assert_unchanged():
        host.write(f"{JOURNAL}/broken.json", "not json\n")
        result = host.run("kld", "recover", check=False)
        assert result.rc == 4, result
        assert "broken.json" in result.out, result
    assert host.read(f"{JOURNAL}/broken.json") == "not json\n"
    host.sh(f"rm {JOURNAL}/broken.json")


def test_power_cut(host, request, cut):
    for record in sample(request, f"power {cut.name}", trial_of(host, cut).records[1:]):
        power_cut(host, cut, record)


@pytest.mark.parametrize("name, act", [("adopt", "rename-dataset"), ("rollback", "promote-datasets"),
                                       pytest.param("delete", "undefine-domains", marks=pytest.mark.soak)])
def test_power_cut_on_what_starts_with_the_host(host, name, act):
    """Half taken in, or half gone, it must not start; afterwards it is marked again."""
    trial = trial_of(host, COMMANDS[name])
    machine = trial.plan["machines"][0]
    host.run("virsh", "autostart", machine)
    plan = trial.command.plan(host)
    hold(host, trial.command.argv, record_before(plan, act), 90, plan)
    host.sh("sleep 1")
    lab("cut", host.name)
    lab("boot", host.name, timeout=400)
    host.sh("systemctl is-system-running --wait || true", timeout=180)
    assert journal_entries(host) == 0, host.sh("journalctl -b -u kld-recover.service --no-pager")
    assert host.domains()[machine] == "shut off"
    assert "Autostart:      enable" in host.run("virsh", "dominfo", machine).out
    if name != "delete":
        host.run("virsh", "autostart", machine, "--disable")
    assert trial.settle("power cut, with autostart")
