# SPDX-License-Identifier: Apache-2.0
"""Other ways through the same commands, broken like those of test_faults: one of them, or all in a soak."""

import pytest
from faults import Command, are_machines, named, newer, prepare, sample, set_back, trial_of
from host import ROOT
from sweeps import power_cut, table, table_on_disk, test_a_zfs_call_fails, test_interrupted, test_killed_at_a_record, \
    test_something_breaks_meanwhile, with_commands  # noqa: F401


def runs(name):
    def check(host):
        row = host.kvm_list(name)[name]
        assert row["state"] == "running" and not row["missing"], row
    return check


def make_family(host):
    host.run("kvm-clone", "-q", "parent", "mother")
    host.run("kvm-clone", "-q", "mother", "child")


def lose(host):
    host.sh("virsh undefine lost --keep-nvram --keep-tpm")


def is_revived(host):
    are_machines("ghost")(host)
    assert host.run("kvm-snap", "ghost", "kept", "--json").json == []


def runs_as(text):
    def check(host):
        runs("lively")(host)
        assert ("edited since" in host.xml("lively")) == (text == "now")
    return check


def run_again(host):
    """What was undone by hand runs as before, and nothing else is left of it."""
    host.run("kvm-snap", "-q", "lively", "undo", "--stop", "--timeout", "1s")
    (kept,) = host.run("kvm-snap", "lively", "kept", "--json").json
    host.run("kvm-snap", "-q", "lively", "drop", kept["name"], "--yes")
    host.sh(f"zfs list -Ho name -t snapshot -r {ROOT} | grep '/lively.*@safety-' | xargs -n 1 zfs destroy; "
            f"zfs list -Ho name -r {ROOT}/.kept | grep -c / | grep -qx 1 && zfs destroy {ROOT}/.kept || true")


def has_lost(host):
    are_machines("lossy")(host)
    assert host.snapshots("lossy") == host.snapshots("lossy-data") == host.snapshots(".state/lossy/tpm") == ["then"]
    assert "edited since" not in host.xml("lossy")


VARIANTS = named(
    Command("create --image", ["kvm-create", "imaged", "--no-start", "--image", "/root/small.raw", "--thick", "--ram",
                               "256", "--user", "ann"],
            changes=6, take_back=lambda host: host.run("kvm-delete", "-q", "--yes", "imaged"),
            whole=are_machines("imaged")),
    Command("clone --full", ["kvm-clone", "source", "full-copy", "--full"],
            changes=5, take_back=lambda host: host.run("kvm-delete", "-q", "--yes", "full-copy"),
            whole=are_machines("full-copy")),
    Command("clone --start", ["kvm-clone", "seeded", "started", "--start"],
            changes=4, take_back=lambda host: host.run("kvm-delete", "-q", "--yes", "--force", "started"),
            whole=runs("started")),
    Command("delete --force", ["kvm-delete", "busy", "--yes", "--force"],
            lambda host: host.run("kvm-clone", "-q", "seeded", "busy", "--start"), True, 5),
    Command("delete of a family", ["kvm-delete", "mother", "child", "--yes"], make_family, True, 6),
    Command("adopt of a lost machine", ["kvm-adopt", "lost", "--yes"], changes=0, take_back=lose,
            whole=are_machines("lost"), anew=True),
    Command("undo of a ghost", ["kvm-snap", "ghost", "undo"], changes=3,
            take_back=lambda host: host.run("kvm-delete", "-q", "ghost", "--ghost", "--yes"), whole=is_revived, anew=True),
    Command("rollback --stop", ["kvm-snap", "lively", "rollback", "then", "--stop", "--timeout", "1s"], changes=10,
            take_back=run_again, whole=runs_as("then"), anew=True),
    Command("rollback --destroy-newer", ["kvm-snap", "lossy", "rollback", "then", "--destroy-newer", "--yes"], changes=9,
            take_back=newer("lossy"), whole=has_lost, anew=True, loses=True),
)


def prepare_variants(host):
    host.sh("truncate -s 16M /root/small.raw; head -c 4M /dev/urandom | dd of=/root/small.raw bs=1M seek=4 conv=notrunc "
            "status=none")
    prepare(host)
    for name in ("seeded", "lost"):
        host.create(name, "-q", "--user", "ann", tpm=True)
    host.create("ghost", "-q", tpm=True)
    host.run("kvm-delete", "-q", "ghost", "--ghost", "--yes")
    host.fill("source", mib=8)
    set_back("lossy")(host)
    host.create("lively", "-q", "--disk", "data=64M")
    host.run("kvm-snap", "-q", "lively", "snap", "then")
    newer("lively")(host)
    host.start("lively")
    host.sh("systemctl restart libvirtd; for name in seeded lost; do kvm-snap -q $name snap first; "
            "kvm-snap -q $name delete first --yes; done")
    lose(host)


pytestmark = pytest.mark.module_state(prepare=prepare_variants)


def pytest_generate_tests(metafunc):
    # What changes nothing in ZFS and stands behind its commit point at once has no call to fail, and no interruption.
    all_of_them = metafunc.function is test_killed_at_a_record
    variants = [one for one in VARIANTS.values() if one.changes or all_of_them]
    with_commands(metafunc, sample(metafunc, "variant", variants))


@pytest.mark.soak
@pytest.mark.parametrize("name, act", [("create --image", "write-image"), ("clone --full", "copy-dataset")])
def test_power_cut_behind_what_takes_long(host, name, act):
    trial = trial_of(host, VARIANTS[name])
    steps = [step["act"] for step in trial.plan["steps"]]
    for step in (at for at, what in enumerate(steps) if what == act):
        power_cut(host, trial.command, step + 3)
