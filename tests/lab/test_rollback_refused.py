# SPDX-License-Identifier: Apache-2.0
"""What a rollback and its undo look at before they begin, each on a host where it is so."""

from host import ROOT, STATE
from past import get, put, ready, says

def snapshot_of(host, name, xml):
    """A snapshot of the machine in which it has this definition, as another host may have saved it."""
    host.write("/root/then.xml", xml)
    host.sh(f"cp {STATE}/web/domain.xml /root/saved.xml; cp /root/then.xml {STATE}/web/domain.xml; "
            f"zfs snapshot {ROOT}/web@{name} {ROOT}/.state/web@{name}; cp /root/saved.xml {STATE}/web/domain.xml")


def test_what_it_was_cannot_start_here(host):
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "now")
    xml = host.read(f"{STATE}/web/domain.xml")
    machine = host.definition("web").find("os/type").get("machine")
    foreign_cpu = "<cpu mode='custom' match='exact'><model fallback='forbid'>Icelake-Server</model></cpu>"
    loader = "<loader readonly='yes' type='rom'>/usr/share/none/BIOS.fd</loader></os>"
    for name, old, new, says_why in (
            ("machine", f"machine='{machine}'", "machine='pc-q35-99.0'", "pc-q35-99.0"),
            ("loader", "</os>", loader, "/usr/share/none/BIOS.fd is not there"),
            ("cpu", "</features>", f"</features>{foreign_cpu}", "this host's CPU lacks")):
        changed = xml.replace(old, new)
        assert changed != xml, old
        snapshot_of(host, name, changed)
        host.refuses("kvm-snap", "web", "rollback", name, says=["could not start on this host", says_why],
                     hint="--only-disks")


def test_its_memory_is_saved(host):
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    host.start("web")
    host.run("virsh", "managedsave", "web")
    for command in (["rollback", "then"], ["rollback", "then", "--destroy-newer", "--yes"], ["undo"]):
        host.refuses("kvm-snap", "web", *command, says="saved", hint="managedsave")
    host.run("virsh", "managedsave-remove", "web")


def test_names_that_would_clash(host):
    """A promotion of what is aside moves snapshots and bookmarks to it: ZFS panics over some clashes."""
    ready(host)
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    aside = f"{ROOT}/.kept/{kept['name']}/web"
    host.sh(f"zfs bookmark {ROOT}/web@first {ROOT}/web#same; zfs bookmark {aside}@later {aside}#same")
    host.refuses("kvm-snap", "web", "undo", says=f"{ROOT}/web#same and {aside}#same", hint="zfs rename")
    host.sh(f"zfs destroy {aside}#same; zfs snapshot {aside}@clash; zfs rename {ROOT}/web@first {ROOT}/web@clash")
    host.refuses("kvm-snap", "web", "undo", says=f"{ROOT}/web@clash and {aside}@clash", hint="zfs rename")
    host.sh(f"zfs rename {ROOT}/web@clash {ROOT}/web@first; zfs destroy {aside}@clash; zfs destroy {ROOT}/web#same")
    host.run("kvm-snap", "web", "undo")
    says(host, "now")


def test_a_full_pool(host):
    host.create("web")
    host.fill("web", mib=8)
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    host.sh(f"zfs set quota=$(zfs get -Hpo value used {ROOT}) {ROOT}")
    for command in (["rollback", "then"], ["rollback", "then", "--destroy-newer", "--yes"], ["undo"]):
        host.refuses("kvm-snap", "web", *command, says="out of space", hint="free space")
    host.sh(f"zfs set quota=none {ROOT}")
    host.run("kvm-snap", "web", "undo")


def test_an_undo_that_does_not_start(host):
    """The present starts again, and what is aside stays aside."""
    host.create("web")
    host.sh("virsh dumpxml web --inactive >/root/good.xml; "
            "sed 's|</devices>|<serial type=\"file\"><source path=\"/nonexistent/log\"/></serial></devices>|' "
            "/root/good.xml >/root/bad.xml")
    put(host, "web", "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    put(host, "web", "now")
    host.sh("virsh define /root/bad.xml")
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    host.start("web")
    kept = host.run("kvm-snap", "web", "kept", "--json").json
    result = host.run("kvm-snap", "web", "undo", "--stop", "--timeout", "1s", check=False)
    assert result.rc == 1 and "Everything done so far was undone." in result.err, result
    assert host.domains() == {"web": "running"} and get(host, "web") == "then"
    assert [one["name"] for one in host.run("kvm-snap", "web", "kept", "--json").json] == [one["name"] for one in kept]
