# SPDX-License-Identifier: Apache-2.0
"""kvm-snap: one snapshot of the whole machine; listing and deleting them."""

import re

from host import ROOT, UTC


PARTS = ("web", "web-data", ".state/web", ".state/web/tpm")


def whole(name):
    return "\n".join(f"{part}@{name}" for part in PARTS)


def test_snapshots_of_a_machine(host):
    host.create("web", "--disk", "data=64M", tpm=True)
    host.create("other")

    # Shut off; named by the time.
    with host.adds(whole("T1")):
        result = host.run("kvm-snap", "web")
    assert re.fullmatch(r"Snapshot created in \d+\.\d\d seconds\.\n", result.out)
    first = host.snapshots("web")[0]
    assert re.fullmatch(UTC, first)
    assert len({host.property(f"{part}@{first}", "createtxg") for part in PARTS}) == 1, "not one transaction group"
    for part in PARTS:
        assert host.property(f"{part}@{first}", "com.kldload:by", "com.kldload:consistency") == ("hand", "offline")
        assert len(host.property(f"{part}@{first}", "com.kldload:op")) == 36

    # The definition goes with it, brought up to date.
    host.sh("virsh setmaxmem web 300M --config; virsh setmem web 300M --config")
    definition = host.xml("web")
    with host.adds(whole("before-upgrade")):
        host.run("kvm-snap", "web", "snap", "before-upgrade")
    assert host.read("/var/lib/kldload/state/web/.zfs/snapshot/before-upgrade/domain.xml").strip() == definition.strip()

    # Running: crash-consistent. With '@', and two in one second.
    host.start("web")
    with host.adds(whole("running")):
        host.run("kvm-snap", "web", "snap", "@running")
    host.fill("web", mib=2)
    host.sh("kvm-snap web -q; kvm-snap web -q; kvm-snap web -q")
    assert len(host.snapshots("web")) == 6
    host.run("virsh", "destroy", "web")

    # A clone, a hold.
    host.run("kvm-clone", "web", "copy", "--snap", "running")
    host.run("zfs", "hold", "mine", f"{ROOT}/web-data@before-upgrade")
    listed = host.run("kvm-snap", "web", "list", "--json").json
    assert [one["name"] for one in listed] == host.snapshots("web")
    by_name = {one["name"]: one for one in listed}
    assert [by_name[name]["consistency"] for name in (first, "before-upgrade", "running")] == \
        ["offline", "offline", "crash"]
    assert {one["by"] for one in listed} == {"hand"}
    assert (by_name["before-upgrade"]["holds"], by_name["running"]["holds"]) == (1, 0)
    assert by_name["running"]["clones"][0] == f"{ROOT}/copy"
    assert by_name[listed[3]["name"]]["written_bytes"] >= 2 << 20
    assert all(re.fullmatch(UTC, one["created"]) and one["missing"] == [] for one in listed)
    assert sorted(part["name"].split("@")[0] for part in listed[0]["parts"]) == \
        sorted(f"{ROOT}/{part}" for part in PARTS)
    table = host.run("kvm-snap", "web", "list").out.splitlines()
    assert table[0].split() == ["NAME", "AGE", "USED", "WRITTEN", "CONSISTENCY", "BY", "HOLDS", "CLONES"]
    rows = {line.split()[0]: line.split() for line in table[1:]}
    assert rows["@before-upgrade"][-4:] == ["offline", "hand", "1", "-"]
    assert rows["@running"][-4:] == ["crash", "hand", "0", "copy"]

    shown = re.split(r"  +", next(line for line in table if line.startswith("@" + listed[3]["name"])))
    assert re.fullmatch(r"\d+ (s|min)", shown[1]) and re.fullmatch(r"2\.\d+M", shown[3]), shown
    host.fill("web", mib=2)
    host.run("kvm-snap", "web", "snap", "newest")
    host.fill("web", mib=2)  # what the newest alone holds now
    newest = host.run("kvm-snap", "web", "list", "--json").json[-1]
    assert newest["used_bytes"] >= 2 << 20
    shown = re.split(r"  +", host.run("kvm-snap", "web", "list").out.splitlines()[-1])
    assert re.fullmatch(r"2\.\d+M", shown[2]), shown

    # One that lacks a part says so, whoever made it.
    host.run("zfs", "snapshot", f"{ROOT}/web@partly")
    assert "not whole" in [line for line in host.run("kvm-snap", "web", "list").out.splitlines() if "@partly" in line][0]

    # One that another tool took piece by piece, too; a clone of it is made with a warning.
    for part in PARTS:
        host.run("zfs", "snapshot", f"{ROOT}/{part}@torn")
    (torn,) = [one for one in host.run("kvm-snap", "web", "list", "--json").json if one["name"] == "torn"]
    assert torn["one_moment"] is False and by_name["running"]["one_moment"] is True
    assert "not one moment" in [line for line in host.run("kvm-snap", "web", "list").out.splitlines() if "@torn" in line][0]
    warned = host.run("kvm-clone", "web", "patched", "--snap", "torn", "--dry-run")
    assert any("not of one moment" in warning for warning in warned.warnings), warned
    host.run("kvm-snap", "web", "delete", "torn", "--yes")

    # A disk that the running machine alone has would be missing.
    host.run("zfs", "create", "-s", "-V", "64M", "vmpool/elsewhere")
    host.start("web")
    host.sh("udevadm settle; virsh attach-disk web /dev/zvol/vmpool/elsewhere sdz --targetbus usb --live")
    host.refuses("kvm-snap", "web", says="sdz: /dev/zvol/vmpool/elsewhere is not a zvol of this machine")
    host.refuses("kvm-clone", "web", "less", says="sdz: /dev/zvol/vmpool/elsewhere is attached to the running machine alone")
    host.sh("virsh destroy web; zfs destroy vmpool/elsewhere")

    # Deleting.
    host.run("kvm-snap", "web", "delete", "newest", "--yes")
    host.refuses("kvm-snap", "web", "delete", "running", "--yes", says=["has clones", f"{ROOT}/copy"])
    host.refuses("kvm-snap", "web", "delete", "before-upgrade", "--yes", says="is held", hint="zfs holds")
    host.refuses("kvm-snap", "web", "delete", "before-upgrad", "--yes", hint="did you mean '@before-upgrade'?")
    host.refuses("kvm-snap", "web", "delete", "other@x", "--yes", says="not a snapshot of machine 'web'")
    host.refuses("kvm-snap", "web", "delete", first, says="nobody is there to ask", hint="--yes")
    host.refuses("kvm-snap", "web", "delete", code=2, says="which snapshot?")
    host.refuses("kvm-snap", "web", "snap", "running", says="has a snapshot '@running' already")
    before = set(host.datasets())
    host.run("kvm-snap", "web", "delete", f"web@{first}", "--yes")
    host.run("kvm-snap", "web", "delete", "partly", "--yes")
    after = set(host.datasets())
    assert len(before) - len(after) == 5
    assert first not in host.snapshots("web")

    # Asked at a terminal.
    answer = "script -qec 'kvm-snap web delete {}' /dev/null"
    last = host.snapshots("web")[-1]
    with host.assert_unchanged():
        said = host.sh(answer.format(last), check=False, input="n\n")
        assert "This destroys" in said.out and "not confirmed" in said.out and said.rc == 3
    host.sh(answer.format(last), input="y\n")
    assert last not in host.snapshots("web")


def test_bad_words(host):
    host.create("web")
    host.refuses("kvm-snap", "nobody", says="no machine 'nobody'")
    host.refuses("kvm-snap", "wbe", hint="did you mean 'web'?")
    host.refuses("kvm-snap", "web", "snap", "a/b", code=2, says="contains '/'")
    host.refuses("kvm-snap", "web", "revert", code=2, says="'revert' is none of")
    host.refuses("kvm-snap", "nobody", "list", says="no machine 'nobody'")
