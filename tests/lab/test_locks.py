# SPDX-License-Identifier: Apache-2.0
"""Two commands at once: on one machine the second waits a little, then names the first; shared locks go together."""

import re
import time

import pytest
from faults import background_status, hold


def prepare(host):
    host.create("golden", "-q", tpm=True)
    host.fill("golden", 1)


pytestmark = pytest.mark.module_state(prepare=prepare)


def at_once(host, *commands):
    """Runs them at the same time; exit statuses and what they said, in their order."""
    script = "rm -rf /tmp/once; mkdir /tmp/once; "
    for number, command in enumerate(commands):
        script += f"(rc=0; {command} >/tmp/once/{number} 2>&1 || rc=$?; echo $rc >/tmp/once/{number}.rc) & "
    host.sh(script + "wait", timeout=300)
    return [(int(host.read(f"/tmp/once/{number}.rc")), host.read(f"/tmp/once/{number}"))
            for number in range(len(commands))]


def test_the_second_waits_then_names_the_first(host):
    host.run("kvm-snap", "-q", "golden", "snap", "s")
    hold(host, ["kvm-clone", "golden", "first"], 2, 25)
    before = host.state()
    start = time.monotonic()
    result = host.run("kvm-snap", "golden", "delete", "s", "--yes", check=False)
    assert time.monotonic() - start > 5
    assert result.rc == 3, result
    assert "another command works on machine 'golden'" in result.err
    found = re.search(r"pid (\d+): (.*)", result.err)
    assert found and found[2] == "kvm-clone golden first", result
    assert host.sh(f"tr '\\0' ' ' </proc/{found[1]}/cmdline").strip() == "kvm-clone golden first"
    assert result.hints
    host.assert_same(before)
    # Its clone is locked, too, before there is one.
    result = host.run("kvm-create", "first", "--no-start", check=False)
    assert result.rc == 3 and "another command works on machine 'first'" in result.err, result
    assert background_status(host)[0] == 0
    host.run("kvm-snap", "golden", "delete", "s", "--yes")
    host.run("kvm-delete", "first", "--yes")


def test_the_second_waits_for_a_short_first(host):
    hold(host, ["kvm-clone", "golden", "short"], 2, 2)
    host.run("kvm-clone", "short", "after-it")
    assert background_status(host)[0] == 0
    assert set(host.domains()) == {"golden", "short", "after-it"}
    host.run("kvm-delete", "short", "after-it", "--yes")


def test_shared_locks_go_together(host):
    hold(host, ["kvm-clone", "golden", "slow"], 2, 20)
    start = time.monotonic()
    host.run("kvm-clone", "golden", "meanwhile")
    host.run("kvm-snap", "golden", "snap", "meanwhile")
    host.run("kvm-list")
    host.run("kvm-snap", "golden", "list")
    assert host.sh("cat /tmp/job/rc 2>/dev/null || echo runs") == "runs" or time.monotonic() - start > 20
    status, said = background_status(host)
    assert status == 0, said
    assert set(host.domains()) == {"golden", "slow", "meanwhile"}
    host.run("kvm-delete", "slow", "meanwhile", "--yes")
    host.run("kvm-snap", "golden", "delete", "meanwhile", "--yes")


def test_machines_that_have_nothing_in_common(host):
    hold(host, ["kvm-create", "one", "--no-start", "--disk", "1", "--ram", "256", "--firmware", "bios"], 2, 15)
    start = time.monotonic()
    host.create("two", "-q")
    assert host.sh("cat /tmp/job/rc 2>/dev/null || echo runs") == "runs" or time.monotonic() - start > 15
    assert background_status(host)[0] == 0
    host.run("kvm-delete", "one", "two", "--yes")


def test_parallel_clones_of_one_source(host):
    host.fill("golden", 1)
    names = [f"p-{number}" for number in range(6)]
    for status, said in at_once(host, *(f"kvm-clone golden {name}" for name in names)):
        assert status == 0, said
    assert set(host.domains()) == {"golden", *names}
    assert all(host.kvm_list()[name]["state"] == "shut off" for name in names)
    host.run("kvm-delete", *names, "--yes")
    # The snapshots that they shared went with their last users.
    assert [name for name in host.snapshots("golden") if name.startswith("clone-")] == []


def test_parallel_clones_while_the_definition_changes(host):
    """Each saves the source's new definition first: the same file."""
    host.run("virsh", "desc", "golden", "--config", "--new-desc", "edited")
    for status, said in at_once(host, "kvm-clone golden d-1", "kvm-clone golden d-2", "kvm-snap golden snap d-3"):
        assert status == 0, said
    assert "edited" in host.read("/var/lib/kldload/state/golden/domain.xml")
    host.run("kvm-delete", "d-1", "d-2", "--yes")
    host.run("kvm-snap", "golden", "delete", "d-3", "--yes")


def test_two_of_one_name(host):
    results = at_once(host, "kvm-clone golden same", "kvm-clone golden same")
    assert sorted(status for status, _ in results) == [0, 3], results
    loser = next(said for status, said in results if status == 3)
    assert "'same' is taken" in loser or "works on machine 'same'" in loser
    host.run("kvm-delete", "same", "--yes")


def test_a_clone_is_deleted_while_its_sibling_is_made(host):
    host.run("kvm-clone", "-q", "golden", "old")
    results = at_once(host, "kvm-delete old --yes", "kvm-clone golden young")
    assert [status for status, _ in results] == [0, 0], results
    assert set(host.domains()) == {"golden", "young"}
    host.run("kvm-delete", "young", "--yes")


def test_locks_of_the_dead_hold_nobody_up(host):
    hold(host, ["kvm-delete", "golden", "--yes"], 2, 60)
    host.sh("pid=$(pgrep -x kvm-delete); kill -9 $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done")
    start = time.monotonic()
    host.run("kvm-snap", "golden", "snap", "after")
    assert time.monotonic() - start < 30
    host.run("kvm-snap", "golden", "delete", "after", "--yes")
