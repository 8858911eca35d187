# SPDX-License-Identifier: Apache-2.0
"""kvm-list: what stands in a line, and which lines there are."""

import base64
import re
import time

import pytest
from host import ROOT, UTC


def prepare(host):
    """A family of clones, and one of everything else that can lie below the root."""
    host.create("golden")
    host.fill("golden", mib=3)
    host.run("zfs", "set", "com.kldload:golden=true", f"{ROOT}/golden")
    host.run("kvm-clone", "golden", "web-1", "web-2", "-q")
    host.run("kvm-clone", "web-1", "leaf", "-q")
    host.run("kvm-snap", "web-2", "snap", "by-hand", "-q")
    host.run("virsh", "autostart", "web-2")
    host.create("lost")
    host.run("virsh", "undefine", "lost")
    host.create("hollow")
    host.sh(f"""
        zfs destroy {ROOT}/hollow
        zfs create -s -V 64M {ROOT}/legacy
        zfs create {ROOT}/folder
        zfs create -s -V 64M {ROOT}/folder/lonely
        zfs create -s -V 64M -o com.kldload:replica-of=1234/far -o com.kldload:disk=root {ROOT}/replica
        zfs create -o mountpoint=none {ROOT}/.kept
        zfs create -s -V 64M -o com.kldload:machine=gone {ROOT}/.kept/gone-2026
        zfs create {ROOT}/isos
        qemu-img create -q -f qcow2 /var/lib/libvirt/images/stranger.qcow2 64M
        udevadm settle
    """)
    host.define("legacy", f"/dev/zvol/{ROOT}/legacy")
    host.define("stranger", "/var/lib/libvirt/images/stranger.qcow2")
    host.run("virsh", "start", "web-1", "--paused")


pytestmark = pytest.mark.module_state(prepare=prepare)

STATES = {
    "golden": "shut off", "web-1": "paused", "web-2": "shut off", "leaf": "shut off",
    "lost": "no domain", "hollow": "no disk", "legacy": "shut off", "stranger": "shut off",
    "folder/lonely": "no domain", "far": "replica",
}


def table(host, *flags):
    """The header's words, and each row by its first word as the text of the line."""
    lines = host.run("kvm-list", *flags).out.splitlines()
    return lines[0].split(), lines[1:]


def test_columns_and_rows(host):
    with host.assert_unchanged():
        header, rows = table(host)
    assert header == ["NAME", "STATE", "ZVOL", "USED", "REFER", "RATIO", "ORIGIN"]
    # By name; nothing that is set aside, no folder, no medium.
    assert [row.split()[0] for row in rows] == sorted(STATES)
    for row in rows:
        cells = re.split(r"  +", row)
        assert cells[1] == STATES[cells[0]], row
    by_name = {row.split()[0]: re.split(r"  +", row) for row in rows}
    snapshot = host.snapshots("golden")[0]
    assert by_name["golden"][2:] == [f"{ROOT}/golden", "3.06M", "3.06M", "1.00x", "-"]
    assert by_name["web-1"][2] == f"{ROOT}/web-1" and by_name["web-1"][6] == f"golden@{snapshot}"
    assert by_name["stranger"][2:] == ["/var/lib/libvirt/images/stranger.qcow2", "-", "-", "-", "-"]
    assert by_name["legacy"][2] == f"{ROOT}/legacy"
    assert by_name["folder/lonely"][2] == f"{ROOT}/folder/lonely"
    assert by_name["hollow"][2] in ("-", f"{ROOT}/hollow")
    header, rows = table(host, "--wide")
    assert header[7:] == ["MEMORY", "VCPUS", "SNAPSHOTS", "NEWEST", "CONSISTENCY", "AUTOSTART"]
    by_name = {row.split()[0]: re.split(r"  +", row) for row in rows}
    assert by_name["web-2"][7:] == ["256M", "1", "1", "by-hand", "offline", "yes"]
    assert by_name["golden"][7:] == ["256M", "1", "1", snapshot, "offline", "no"]
    assert by_name["stranger"][7:] == ["128M", "1", "-", "-", "-", "no"]


def branch(row):
    """The first column of a tree, which has blanks inside."""
    return re.match(r"(│  |   )*([├└]─ )?\S+( \(golden\))?", row)[0]


def test_tree(host):
    _, rows = table(host, "--tree")
    names = [branch(row) for row in rows]
    assert names[:names.index("hollow")] == ["far", "folder/lonely", "golden (golden)", "├─ web-1", "│  └─ leaf",
                                             "└─ web-2"]
    _, rows = table(host, "--tree", "web-1")
    assert [branch(row) for row in rows] == ["web-1", "└─ leaf"]


def test_json(host):
    listed = host.kvm_list("--wide")
    assert {name: row["state"] for name, row in listed.items()} == STATES
    assert len({frozenset(row) for row in listed.values()}) == 1, "keys come and go"
    web = listed["web-2"]
    assert web["uuid"] == host.uuid("web-2")
    assert (web["adopted"], web["golden"], web["autostart"], web["memory_bytes"], web["vcpus"]) == \
        (True, False, True, 256 << 20, 1)
    assert re.fullmatch("golden@clone-" + UTC, web["origin"])
    disk = web["disks"][0]
    assert (disk["label"], disk["dataset"], disk["device"], disk["size_bytes"], disk["origin"].split("@")[0]) == \
        ("root", f"{ROOT}/web-2", f"/dev/zvol/{ROOT}/web-2", 1 << 30, f"{ROOT}/golden")
    assert disk["guid"] == host.property("web-2", "guid")
    assert listed["golden"]["referenced_bytes"] == int(host.property("golden", "referenced")) > 3 << 20
    assert web["snapshots"]["count"] == 1 and web["snapshots"]["newest"] == "by-hand"
    assert re.fullmatch(UTC, web["snapshots"]["newest_created"])
    assert listed["golden"]["golden"] is True
    assert [name for name, row in listed.items() if not row["adopted"]] == \
        ["far", "folder/lonely", "legacy", "stranger"]
    assert listed["hollow"]["missing"] == [f"{ROOT}/hollow"]
    assert listed["lost"]["uuid"] is None and listed["far"]["replica_of"] == "1234/far"
    assert listed["web-1"]["domain_state"] == "paused"
    assert host.kvm_list("web-1")["web-1"]["snapshots"] is None, "not asked for"


def test_sort_and_names(host):
    _, rows = table(host, "--sort", "-used")
    assert rows[0].split()[0] == "golden"
    _, rows = table(host, "--sort", "state", "web-1", "leaf", "far")
    assert [row.split()[0] for row in rows] == ["web-1", "far", "leaf"]
    host.refuses("kvm-list", "goldne", hint="did you mean 'golden'?", says="no machine 'goldne'")
    host.refuses("kvm-list", "--sort", "uesd", code=2, hint="did you mean 'USED'?")


# A boot sector that writes on, 32 KiB of the BIOS every 64 KiB from 1 MiB, for as long as there is room.
WRITER = bytes.fromhex("31c0 8ed8 be187c b80043 cd13 668106207c80000000 ebed 90 1000400000 0000f0 0008000000000000")


def test_paused_for_lack_of_space(host):
    host.create("writer")
    sector = base64.b64encode(WRITER.ljust(510, b"\0") + b"\x55\xaa").decode()
    host.sh(f"""
        base64 -d <<<{sector} | dd of=/dev/zvol/{ROOT}/writer conv=notrunc status=none
        zpool sync
        zfs create vmpool/ballast
        zfs set reservation=$(( $(zfs get -Hp -o value available vmpool) - 8 * 1024 * 1024 )) vmpool/ballast
    """)
    host.start("writer")
    give_up = time.monotonic() + 180
    while host.domains()["writer"] == "running" and time.monotonic() < give_up:
        time.sleep(1)
    assert host.kvm_list("writer")["writer"]["state"] == "paused (no space)"
    assert "paused (no space)" in host.run("kvm-list", "writer").out
    host.refuses("kvm-clone", "writer", "copy", says="out of space", hint="free space")
    # With space again it goes on, and can be deleted in any case.
    host.run("zfs", "set", "reservation=none", "vmpool/ballast")
    host.run("virsh", "resume", "writer")
    assert host.kvm_list("writer")["writer"]["state"] == "running"
    host.run("kvm-delete", "writer", "--yes", "--force")
