# SPDX-License-Identifier: Apache-2.0
"""One command broken at point after point. Whoever imports these tests says by pytest_generate_tests with which commands."""

import pytest
from faults import KILLED, TABLE, TROUBLES, at_record, count_calls, go_on, hold, journal_entries, plan_of, sample, some, stop_at, \
    strace, trial_of
from host import STATE, lab


def with_commands(metafunc, commands):
    if "command" in metafunc.fixturenames:
        # All tests of one command in a row: they share its trial.
        metafunc.parametrize("command", commands, ids=lambda command: command.name, scope="module")


def kill_at(host, argv, record, plan=None):
    """Without `plan` it asks for it."""
    result = host.run(*strace(at_record(plan or plan_of(host, argv), record, "signal=KILL"), argv), check=False)
    assert result.rc in KILLED, f"record {record}: {result}"
    # What is killed before its header has a name has begun nothing.
    assert journal_entries(host) == (0 if record == 1 else 1)


def power_cut(host, command, record):
    trial = trial_of(host, command)
    hold(host, command.argv, record, 90, trial.plan)
    # The record itself is synced once the call has returned, and only then does its step begin.
    host.sh("sleep 1")
    lab("cut", host.name)
    lab("boot", host.name, timeout=400)
    if host.run("systemctl", "cat", "kld-recover.service", check=False).rc == 0:
        host.sh("systemctl is-system-running --wait || true", timeout=180)
        assert journal_entries(host) == 0, host.sh("journalctl -b -u kld-recover.service --no-pager")
    undone = trial.settle("power cut", recover=lambda: host.run("kld", "recover"))
    assert undone == trial.is_undone(record), f"record {record}"
    assert host.sh(f"findmnt -no FSTYPE {STATE}/source") == "zfs", "the machines that were there have their state"


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    TABLE.show()


@pytest.fixture(autouse=True)
def table_on_disk(request):
    """After each test of a soak, which may end anywhere. Samples of the others take nobody's row."""
    yield
    if request.config.getoption("--soak") and not getattr(request.node, "failed_call", False):
        TABLE.write()


def test_killed_at_a_record(host, request, command):
    trial = trial_of(host, command)
    for record in sample(request, f"kill {command.name}", trial.records):
        kill_at(host, command.argv, record, trial.plan)
        assert trial.settle("kill -9") == trial.is_undone(record), f"record {record}"


def test_interrupted(host, request, command):
    trial = trial_of(host, command)
    signals = ["INT", "TERM", "HUP"]
    # Seen before the next step: that one must stand before the commit point. What stands behind it at once comes too late.
    for record in sample(request, f"interrupt {command.name}", range(1, 1 + max(trial.commit, 1))):
        for signal in sample(request, f"signal {command.name}", signals):
            result = host.run(*strace(at_record(trial.plan, record, f"signal={signal}"), command.argv), check=False)
            assert result.rc == 130 or (result.rc == 0 and trial.commit == 0), f"record {record}: {result}"
            assert result.rc == 0 or "interrupted" in result.err
            assert trial.settle(f"SIG{signal}") == (result.rc == 130)


def test_a_zfs_call_fails(host, request, command):
    trial = trial_of(host, command)
    # A dry run makes all the calls that look; those behind them change something.
    looking = count_calls(host, "ioctl", [*command.argv, "--dry-run"], "/dev/zfs")
    calls = range(looking + 1, looking + 1 + command.changes)
    chosen = sample(request, f"ioctl {command.name}", calls)
    failed = 0
    # Some numbers are of calls that it does not make this time: at least one must be met.
    for call in [*chosen, *(call for call in calls if call not in chosen)]:
        if failed and call not in chosen:
            break
        result = host.run(*strace(f"ioctl:error=EIO:when={call}", command.argv, path="/dev/zfs"), check=False)
        if result.rc == 0:  # it makes no such call
            trial.take_back()
            continue
        assert result.rc in (1, 3, 4), f"call {call}: {result}"
        assert result.errors, result
        assert journal_entries(host) == (1 if result.rc == 4 else 0), result
        assert trial.settle("ZFS call fails") or command.finishes or (command.loses and result.rc == 4), f"call {call}"
        failed += 1
    assert failed, f"none of the calls {calls} was made"


def test_something_breaks_meanwhile(host, request, command):
    """Behind all that it looked at, before the step of each record: what it says is true, and recovery mends the rest."""
    trial = trial_of(host, command)
    for trouble in some(request, f"trouble {command.name}", TROUBLES, 2):
        for record in sample(request, f"{trouble.name} {command.name}", trial.records[1:]):
            break_at(host, trial, record, trouble)


def break_at(host, trial, record, trouble):
    where = f"{trouble.name} at record {record}"
    argv = trial.command.argv
    stop_at(host, argv, record, trial.plan)
    trouble.begin(host, trial.plan["machines"])
    status, said = go_on(host, argv)
    assert status in (0, 1, 4), f"{where}: {said}"
    assert (status == 0) == ("error:" not in said), f"{where}: {said}"
    if status == 4:
        # Nor does what recovers meanwhile make it worse.
        assert host.run("kld", "recover", check=False).rc in (0, 4)
    trouble.end(host)
    assert status == 4 or journal_entries(host) == 0, f"{where}: {said}"
    undone = trial.settle(trouble.name)
    assert status == 4 or undone == (status == 1), f"{where}: {said}"
