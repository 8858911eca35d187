# SPDX-License-Identifier: Apache-2.0
"""kvm-delete --ghost and --keep-for, the way back, and what expires."""

import re
import time
from datetime import datetime, timedelta, timezone

from host import ROOT, STATE, TPM, UTC
from past import get, put


def kept(host, machine):
    return host.run("kvm-snap", machine, "kept", "--json").json


def expire(host, check=True):
    """What became of each version: {"web-...": ("removed", "")}."""
    result = host.run("kld", "expire", "--json", check=check)
    return {one["name"]: (one["result"], one["why"]) for one in result.json}


def set_expires(host, name, value):
    host.run("zfs", "set", f"com.kldload:expires={value}", f"{ROOT}/.kept/{name}")


def guids(host):
    """Of all datasets of machines and all snapshots, wherever they lie."""
    out = host.run("zfs", "list", "-Hp", "-t", "filesystem,volume,snapshot", "-o", "guid,name", "-r", ROOT).out
    return sorted(line for line in out.splitlines() if not re.search(rf"/\.kept(/[^/@]*)?$", line))


def by_guid(host):
    return sorted(line.split()[0] for line in guids(host))


def traces(host, name, uuid):
    """What of a machine that is set aside is left outside of ZFS."""
    return host.sh(f"""
        udevadm settle
        virsh -q list --all --name | grep -x {name} || true
        find {STATE} {TPM} /var/lib/libvirt/qemu/nvram /var/lib/libvirt/qemu/save /etc/libvirt/qemu \\
          /dev/zvol/{ROOT} -mindepth 1 2>/dev/null | grep -v '\\.kept' | grep -E '/{name}(\\.|$|-data$|/)|{uuid}' || true
        zfs mount -a; zfs mount | grep '\\.kept' || true
    """)


def test_one_that_others_were_cloned_from(host):
    host.create("golden", tpm=True)
    put(host, "golden", "golden")
    host.run("kvm-clone", "-q", "golden", "web-1", "web-2")
    uuid, before = host.uuid("golden"), by_guid(host)
    host.refuses("kvm-delete", "golden", "--yes", says=["'web-1'", "'web-2'"], hint="--ghost")
    host.refuses("kvm-delete", "golden", "--ghost", hint="--yes",
                 says=["nobody is there to ask", "This deletes, and sets aside:", "machine 'golden' (shut off)",
                       f"{ROOT}/golden (", "kept until its clones are gone: web-1, web-2"])
    with host.assert_unchanged():
        planned = host.run("kvm-delete", "golden", "--ghost", "--dry-run").out
    assert "virsh undefine golden --keep-nvram --keep-tpm" in planned and "destroy" not in planned

    result = host.run("kvm-delete", "golden", "--ghost", "--yes")
    assert "'kvm-snap golden undo' brings it back" in result.out, result
    assert host.domains() == {"web-1": "shut off", "web-2": "shut off"}
    assert traces(host, "golden", uuid) == ""
    assert by_guid(host) == before
    (ghost,) = kept(host, "golden")
    assert re.fullmatch(f"golden-{UTC}", ghost["name"]) and ghost["reason"] == "ghost"
    assert ghost["name"].endswith(ghost["expires"]), "as soon as nothing depends on it"

    # It is in the tree, and nowhere else.
    assert sorted(host.kvm_list()) == ["web-1", "web-2"]
    assert re.search(r"^golden \(deleted, kept until its clones are gone\) +deleted .*\n├─ web-1 .* golden@clone-.*\n└─ web-2",
                     host.run("kvm-list", "--tree").out, re.MULTILINE)
    rows = host.run("kvm-list", "--tree", "--json").json
    assert [(row["name"], row["state"], row["kept"]) for row in rows] == \
        [("golden", "deleted", ghost["name"]), ("web-1", "shut off", None), ("web-2", "shut off", None)]
    assert host.kvm_list()["web-1"]["origin"].startswith("golden@clone-")
    aside = "machine 'golden' was deleted and is set aside"
    host.refuses_all([
        (["kvm-clone", "golden", "web-3"], 3, aside, "kvm-snap golden undo"),
        (["kvm-snap", "golden"], 3, aside, "kvm-snap golden undo"),
        (["kvm-snap", "golden", "list"], 3, aside, f"kvm-snap golden drop {ghost['name']}"),
        (["kvm-snap", "golden", "delete", "s", "--yes"], 3, aside, f"kvm-snap golden drop {ghost['name']}"),
        (["kvm-snap", "golden", "rollback"], 3, aside, "kvm-snap golden undo"),
        (["kvm-list", "golden"], 3, aside, "kvm-snap golden undo"),
        (["kvm-delete", "golden", "--yes"], 3, aside, "kvm-snap golden undo"),
        (["kvm-snap", "golden", "drop", ghost["name"], "--yes"], 3, "'web-1'", "'web-2'"),
    ])

    # The clones go on working, and can be cloned and snapshotted.
    assert get(host, "web-1") == "golden"
    host.start("web-1")
    host.run("kvm-snap", "-q", "web-1")
    host.run("kvm-clone", "-q", "web-2", "copy")
    assert expire(host) == {ghost["name"]: ("stays", f"{ROOT}/web-1, machine 'web-1', was cloned from it")}
    host.run("kvm-delete", "-q", "--yes", "--force", "web-1")
    assert expire(host)[ghost["name"]][0] == "stays"
    # One that is set aside itself holds it, too; both go in one run.
    host.run("kvm-delete", "-q", "--yes", "copy")
    host.run("kvm-delete", "-q", "--yes", "web-2", "--ghost")
    (clone,) = kept(host, "web-2")
    shown = host.run("kld", "expire", "--dry-run").out
    assert shown == f"{clone['name']}: would be removed\n{ghost['name']}: would be removed\n"
    # The hourly run does it.
    assert [one["result"] for one in host.run("kvm-snapshot", "--json").json["expired"]] == ["removed"] * 2
    host.assert_datasets(".state\n.kept")
    assert expire(host) == {}


def test_it_comes_back_as_it_was(host):
    """Two disks, firmware variables, a TPM, snapshots, a hold, a bookmark, a clone, autostart."""
    host.run("kvm-create", "web", "--virt-type", "qemu", "--disk", "64M", "--disk", "data=64M", "--ram", "256", "--cpus",
             "1", "--no-start", "--autostart", "--user", "ann")
    uuid = host.uuid("web")
    host.sh(f"mkdir -p {TPM}/{uuid}/tpm2; echo keys >{TPM}/{uuid}/tpm2/marker; "
            f"cp /usr/share/OVMF/OVMF_VARS_4M.fd {STATE}/web/uefi_VARS.fd; echo variables >{STATE}/web/marker")
    put(host, "web", "root")
    put(host, "web-data", "data")
    host.run("kvm-snap", "-q", "web", "snap", "s")
    host.run("kvm-clone", "-q", "web", "copy")
    host.sh(f"zfs hold -r mine {ROOT}/web@s; zfs bookmark {ROOT}/web@s {ROOT}/web#s; "
            f"zfs set com.example:backup=nightly {ROOT}/web; rm {TPM}/{uuid}/tpm2/tpm2-00.permall 2>/dev/null || true; "
            "virsh -q desc web --config --new-desc 'edited since'")
    definition, before, before_guids = host.definition("web"), host.state(), guids(host)
    xml = host.xml("web")

    result = host.run("kvm-delete", "web", "--keep-for", "24h", "--yes")
    assert "set aside" in result.out
    (ghost,) = kept(host, "web")
    now = datetime.fromtimestamp(int(host.sh("date +%s")), timezone.utc)
    expires = datetime.fromisoformat(ghost["expires"].replace("Z", "+00:00"))
    assert timedelta(hours=23, minutes=50) < expires - now <= timedelta(hours=24)
    assert host.property(f".kept/{ghost['name']}", "com.kldload:autostart", "com.kldload:kept") == ("true", "ghost")
    assert traces(host, "web", uuid) == ""
    assert get(host, "copy") == "root"
    assert expire(host) == {ghost["name"]: ("stays", f"until {ghost['expires']}")}

    result = host.run("kvm-snap", "web", "undo")
    assert re.fullmatch(r"'web' brought back in \d+\.\d\d seconds, shut off\. Start it with: virsh start web\n", result.out), result
    assert guids(host) == before_guids
    assert host.domains() == {"web": "shut off", "copy": "shut off"}
    assert host.sh("ls /etc/libvirt/qemu/autostart") == "web.xml"
    assert host.definition("web").findtext("genid") != definition.findtext("genid")
    lines = [sorted(line for line in one.splitlines() if "<genid>" not in line) for one in (xml, host.xml("web"))]
    assert lines[0] == lines[1]
    assert kept(host, "web") == []
    host.run("zfs", "destroy", f"{ROOT}/.kept")
    strange = [line for line in set(host.state()) ^ set(before)
               if "genid" not in line and not line.startswith("content ")]
    assert strange == [], strange
    assert [get(host, "web"), get(host, "web-data")] == ["root", "data"]
    assert host.sh(f"cat {TPM}/{uuid}/tpm2/marker {STATE}/web/marker") == "keys\nvariables"
    # Its saved definition is the one that libvirt has, as a snapshot must find it.
    assert host.read(f"{STATE}/web/domain.xml").split("<genid>")[1][:36] == host.definition("web").findtext("genid")
    host.run("zfs", "release", "-r", "mine", f"{ROOT}/web@s")
    host.sh(f"rm -r {TPM}/{uuid}/tpm2")
    host.start("web")
    host.run("virsh", "destroy", "web")


def test_what_runs_and_what_is_saved(host):
    host.create("web")
    host.create("saved")
    host.start("web")
    host.refuses("kvm-delete", "web", "--ghost", "--yes", says="machine 'web' is running", hint="--force")
    host.start("saved")
    host.run("virsh", "managedsave", "saved")
    host.refuses("kvm-delete", "saved", "--ghost", "--yes", says="managed save image", hint="--discard-saved")
    host.run("kvm-delete", "-q", "web", "saved", "--ghost", "--keep-for", "1h", "--force", "--discard-saved", "--yes")
    assert host.domains() == {}
    for name in ("web", "saved"):
        (ghost,) = kept(host, name)
        assert not ghost["name"].endswith(ghost["expires"]), "the later of both"
        host.run("kvm-snap", name, "undo", ghost["name"])
    assert host.domains() == {"web": "shut off", "saved": "shut off"}
    assert host.sh("ls /var/lib/libvirt/qemu/save") == "", "it starts anew, not from an image of its memory"
    host.start("saved")


def test_refused(host):
    host.create("web", tpm=True)
    host.create("other")
    host.run("kvm-snap", "-q", "web", "snap", "s")
    ghost = ["kvm-delete", "web", "--ghost", "--yes"]
    host.refuses_all([
        (["kvm-delete", "wev", "--ghost", "--yes"], 3, "did you mean 'web'?"),
        (["kvm-delete", "web", "--keep-for", "7", "--yes"], 2, "--keep-for '7' is not a duration"),
        (["kvm-delete", "web", "--keep-for", "", "--yes"], 2, "--keep-for '' is not a duration"),
        (["kvm-delete", "web", "--keep-for", "0s", "--yes"], 2, "must be more than zero"),
        # A flag that its action does not take is no slip to be passed over.
        (["kvm-snap", "web", "list", "--stop"], 2, "--stop is for rollback and undo, not for list"),
        (["kvm-snap", "web", "--timeout", "1s"], 2, "--timeout is for rollback and undo, not for snap"),
        (["kvm-snap", "web", "snap", "t", "--keep-for", "1d"], 2, "--keep-for is for rollback and undo, not for snap"),
        (["kvm-snap", "web", "delete", "s", "--only-disks", "--yes"], 2, "--only-disks is for rollback, not for delete"),
        (["kvm-snap", "web", "undo", "--only-disks"], 2, "--only-disks is for rollback, not for undo"),
    ])
    host.sh(f"nohup setsid sh -c 'exec sleep 600 </dev/zvol/{ROOT}/web' >/dev/null 2>&1 & sleep 1")
    result = host.run(*ghost, check=False)
    assert result.rc == 1 and f"has {ROOT}/web open" in result.err and "undone" in result.err, result
    host.sh("pkill -x sleep")
    host.run("zfs", "create", f"{ROOT}/.state/web/notes")
    host.refuses(*ghost, says=f"{ROOT}/.state/web/notes lies below")
    host.sh(f"zfs destroy {ROOT}/.state/web/notes")
    host.run("virsh", "attach-disk", "other", f"/dev/zvol/{ROOT}/web", "vdb", "--config")
    host.refuses(*ghost, says="a disk of domain 'other', too")
    host.sh("virsh detach-disk other vdb --config")
    host.fill("web", mib=8)
    host.run("kvm-snap", "-q", "web", "snap", "big")
    host.sh(f"mkfifo /root/slow; nohup setsid sh -c 'zfs send {ROOT}/web@big | cat >/root/slow' >/dev/null 2>&1 & "
            "nohup setsid sh -c 'exec sleep 600 </root/slow' >/dev/null 2>&1 & sleep 2")
    host.refuses(*ghost, says=f"zfs send of {ROOT}/web@big (pid ")
    host.sh("pkill -x sleep; sleep 1; ! pgrep -f '^zfs send'")
    host.sh(f"zfs unmount {ROOT}/.state/web/tpm; zfs unmount {ROOT}/.state/web")
    host.refuses(*ghost, says="is not mounted", hint=f"zfs mount {ROOT}/.state/web")


def test_its_name_is_anothers_by_now(host):
    host.create("web", tpm=True)
    put(host, "web", "old")
    host.run("kvm-snap", "-q", "web", "snap", "s")
    host.run("kvm-snap", "-q", "web", "rollback", "s")
    xml = host.xml("web")
    host.run("kvm-delete", "-q", "web", "--keep-for", "1d", "--yes")
    earlier, ghost = (one["name"] for one in kept(host, "web"))
    # What was its own waits for it.
    host.refuses("kvm-snap", "web", "undo", earlier, says="machine 'web' itself is not there", hint=f"undo {ghost}")
    host.refuses("kvm-snap", "web", "drop", ghost, "--yes", says=earlier, hint=f"drop {earlier}")

    host.create("web")
    put(host, "web", "new")
    uuid = host.uuid("web")
    host.refuses("kvm-snap", "web", "undo", says=["nothing of machine 'web' is set aside", ghost])
    for name in (ghost, earlier):
        host.refuses("kvm-snap", "web", "undo", name, says="the name 'web' is another's now")
    assert [one["name"] for one in kept(host, "web")] == [earlier, ghost]
    host.run("kvm-delete", "-q", "web", "--yes")
    assert [one["name"] for one in kept(host, "web")] == [earlier, ghost], "none of the new one's"

    # Others that are in its place: a dataset, a domain of its name, one with its UUID and its address.
    host.run("zfs", "create", "-s", "-V", "8M", f"{ROOT}/web")
    host.refuses("kvm-snap", "web", "undo", says=["the name 'web' is taken", f"dataset {ROOT}/web"])
    host.sh(f"udevadm settle; zfs destroy {ROOT}/web; udevadm settle")
    host.define("web")
    host.refuses("kvm-snap", "web", "undo", says="domain 'web' (shut off)")
    host.run("virsh", "undefine", "web")
    host.write("/root/twin.xml", re.sub(r"(?s)<(disk|tpm|loader|nvram)[ >].*?</\1>", "", xml).replace(">web<", ">twin<"))
    host.run("virsh", "define", "/root/twin.xml")
    host.refuses("kvm-snap", "web", "undo", says=["domain 'twin' has its UUID", "domain 'twin' has its MAC address"])
    host.run("virsh", "undefine", "twin", "--keep-nvram", "--keep-tpm")

    # It comes back with what had been set aside of it, and that can be brought back.
    host.run("kvm-snap", "web", "undo")
    assert get(host, "web") == "old" and host.uuid("web") != uuid
    assert [one["name"] for one in kept(host, "web")] == [earlier]
    host.run("kvm-snap", "web", "undo")
    host.run("kvm-delete", "-q", "web", "--yes")
    host.assert_datasets(".state\n.kept")


def test_expiry(host):
    """Each that may go goes, whatever stops the others; nobody is kept waiting."""
    for name in ("gone", "held", "cloned", "busy", "torn", "odd", "open", "never", "lent"):
        host.create(name, "-q")
        host.run("kvm-snap", "-q", name, "snap", "s")
    host.run("kvm-clone", "-q", "cloned", "copy", "--snap", "s")
    names = {}
    for name in ("gone", "held", "cloned", "busy", "torn", "odd", "open", "never", "lent"):
        host.run("kvm-snap", "-q", name, "rollback", "s")
        (one,) = kept(host, name)
        names[name] = one["name"]
    assert {result for result, _ in expire(host).values()} == {"stays"}
    for name in names.values():
        set_expires(host, name, "2026-01-01T00:00:00Z")
    # A clone of what was rolled back hangs on the machine, not on what was set aside.
    safety = host.snapshots(f".kept/{names['cloned']}/cloned")[0]
    host.sh(f"zfs clone {ROOT}/.kept/{names['cloned']}/cloned@{safety} {ROOT}/by-hand; "
            f"zfs hold mine {ROOT}/.kept/{names['held']}/held@{host.snapshots('.kept/' + names['held'] + '/held')[0]}; "
            f"zfs create -o mountpoint=none {ROOT}/.kept/{names['torn']}/notes; "
            f"zfs set com.kldload:expires=tomorrow {ROOT}/.kept/{names['odd']}; "
            f"zfs set com.kldload:expires=never {ROOT}/.kept/{names['never']}; "
            f"udevadm settle; nohup setsid sh -c 'exec sleep 600 </dev/zvol/{ROOT}/.kept/{names['open']}/open' >/dev/null 2>&1 & "
            "mkdir -p /run/kldload/lock; nohup setsid flock -o /run/kldload/lock/busy sleep 600 >/dev/null 2>&1 & sleep 1")
    host.define("borrower", f"/dev/zvol/{ROOT}/.kept/{names['lent']}/lent")
    with host.assert_unchanged():
        shown = host.run("kld", "expire", "--dry-run")
    assert f"{names['gone']}: would be removed" in shown.out and f"{names['held']}: stays" in shown.out
    result = host.run("kld", "expire", "--json", check=False)
    assert result.rc == 1, result
    found = {one["name"]: (one["result"], one["why"]) for one in result.json}
    assert found[names["gone"]] == ("removed", "")
    for name, how, why in [("held", "stays", "is held"), ("cloned", "stays", f"{ROOT}/by-hand was cloned from it"),
                           ("busy", "stays", "another command works on machine 'busy'"), ("never", "stays", "never expires"),
                           ("torn", "failed", "/notes lies in"), ("lent", "stays", "borrower"), ("open", "stays", "sleep"),
                           ("odd", "stays", "expires at 'tomorrow', which is no UTC time")]:
        assert found[names[name]][0] == how and why in found[names[name]][1], (name, found[names[name]])
    there = host.sh(f"zfs list -Ho name -d 1 {ROOT}/.kept").splitlines()
    assert sorted(one.rsplit("/", 1)[1] for one in there[1:]) == sorted(set(names.values()) - {names["gone"]})
    said = host.run("kld", "expire", check=False)
    assert said.rc == 1 and said.out == "" and said.errors == [], said
    assert any(f"'{names['torn']}' was not removed" in line for line in said.warnings), said
    assert any("which is no UTC time" in line for line in said.warnings), said
    host.refuses("kvm-snap", "open", "drop", names["open"], "--yes", says="sleep")
    # The next hour.
    host.run("virsh", "undefine", "borrower")
    host.sh("pkill -x sleep; sleep 1; "
            f"zfs destroy {ROOT}/by-hand; zfs destroy {ROOT}/.kept/{names['torn']}/notes; "
            f"zfs release -r mine {ROOT}/.kept/{names['held']}/held@{host.snapshots('.kept/' + names['held'] + '/held')[0]}")
    result = expire(host)
    assert {name for name, (how, _) in result.items() if how == "stays"} == {names["odd"], names["never"]}, result
    # One that is set aside is in the way of the snapshot that it was made at.
    host.refuses("kvm-snap", "odd", "delete", "s", "--yes", says=f"set aside as '{names['odd']}'",
                 hint=f"kvm-snap odd drop {names['odd']}")
    host.run("kvm-snap", "odd", "drop", names["odd"], "--yes")
    host.run("kvm-snap", "odd", "delete", "s", "--yes")


def test_a_clock_that_jumped_takes_nothing(host):
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "s")
    host.run("kvm-snap", "-q", "web", "rollback", "s", "--keep-for", "1d")
    (one,) = kept(host, "web")
    host.sh("date -s '+3 days'")
    found = expire(host)
    assert found[one["name"]][0] == "stays" and "its pool has been in use for about" in found[one["name"]][1], found
    host.sh("date -s '-3 days'")
    # Half of its time is enough, and each group of the pool takes five seconds when nothing else happens.
    first = int(host.sh("tail -n 1 /proc/spl/kstat/zfs/vmpool/txgs").split()[0])
    start = time.monotonic()
    host.sh("sleep 30")
    groups = int(host.sh("tail -n 1 /proc/spl/kstat/zfs/vmpool/txgs").split()[0]) - first
    print(f"{groups} transaction groups of an idle pool in {time.monotonic() - start:.1f} s")
    assert groups >= 3
    host.run("kvm-snap", "-q", "web", "undo", "--keep-for", "20s")
    (second,) = kept(host, "web")
    deadline = time.monotonic() + 90
    while second["name"] not in (gone := [name for name, (how, _) in expire(host).items() if how == "removed"]):
        assert time.monotonic() < deadline, gone
        host.sh("sleep 5")
    assert kept(host, "web") == []


def test_recovery_of_what_was_cut_off(host):
    """Through the next command: the machine is back, or brought back."""
    from faults import plan_of, record_before
    from sweeps import kill_at
    host.create("web", "-q", tpm=True)
    before = host.state()
    argv = ["kvm-delete", "web", "--ghost", "--yes"]
    kill_at(host, argv, record_before(plan_of(host, argv), "rename-dataset") + 1)
    assert "interrupted" in host.run("kvm-list").out
    result = host.run("kvm-snap", "-q", "web", "delete", "none", "--yes", check=False)
    assert "undid an earlier 'ghost'" in result.err, result
    host.sh(f"zfs destroy {ROOT}/.kept 2>/dev/null || true")
    host.assert_same(before)
    kill_at(host, argv, record_before(plan_of(host, argv), "undefine-domains"))
    result = host.run("kvm-snap", "web", "undo")
    assert "finished an earlier 'ghost'" in result.err, result
    assert host.domains() == {"web": "shut off"}
