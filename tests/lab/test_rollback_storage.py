# SPDX-License-Identifier: Apache-2.0
"""Rollback and undo of machines whose datasets are not plain: reserved, encrypted, cloned many times, three disks."""

from host import ROOT
from past import get, put

KEY = "-o encryption=on -o keyformat=passphrase -o keylocation=file:///root/key"


def test_golden_image_with_many_clones(host):
    """Clones of older and of newer snapshots go on, whichever version of it is the present."""
    host.create("golden", tpm=True)
    content = {}
    for snapshot in ("one", "two", "three"):
        put(host, "golden", snapshot)
        host.run("kvm-snap", "-q", "golden", "snap", snapshot)
        clones = [f"{snapshot}-{number}" for number in range(3)]
        host.run("kvm-clone", "-q", "golden", *clones, "--snap", snapshot)
        content.update(dict.fromkeys(clones, snapshot))
    put(host, "golden", "now")
    put(host, "two-0", "written since")
    content["two-0"] = "written since"
    host.run("kvm-clone", "-q", "two-0", "child")
    content["child"] = "written since"
    guid_of_origins = {name: host.sh(f"zfs get -Ho value guid $(zfs get -Ho value origin {ROOT}/{name})") for name in content}

    def check(golden, aside):
        assert get(host, "golden") == golden
        assert {name: get(host, name) for name in content} == content
        for name, guid in guid_of_origins.items():
            origin = host.property(name, "origin")
            assert host.sh(f"zfs get -Ho value guid {origin}") == guid
            assert ("/.kept/" in origin) == (name in aside), origin
        assert sorted(host.kvm_list()) == sorted(["golden", *content])

    host.run("kvm-snap", "golden", "rollback", "two")
    check("two", ["three-0", "three-1", "three-2"])
    # It is cloned as before, and a clone of either side goes as before.
    host.run("kvm-clone", "-q", "golden", "new")
    assert get(host, "new") == "two"
    host.run("kvm-delete", "-q", "new", "three-2", "--yes")
    for one in (content, guid_of_origins):
        one.pop("three-2")
    host.run("kvm-snap", "golden", "rollback", "one")
    check("one", ["two-0", "two-1", "two-2", "three-0", "three-1"])
    host.run("kvm-snap", "golden", "undo")
    check("two", ["three-0", "three-1"])
    oldest = host.run("kvm-snap", "golden", "kept", "--json").json[0]["name"]
    host.run("kvm-snap", "golden", "undo", oldest)
    check("now", [])
    assert [one for one in host.snapshots("golden") if not one.startswith(("safety", "clone"))] == ["one", "two", "three"]


def test_three_disks(host):
    disks = ["web", "web-data", "web-log"]
    host.create("web", "--disk", "data=64M", "--disk", "log=64M", tpm=True)
    for text in ("then", "now"):
        for disk in disks:
            put(host, disk, f"{text} {disk}")
        if text == "then":
            host.run("kvm-snap", "-q", "web", "snap", text)
    for command, text in ((["rollback", "then"], "then"), (["undo"], "now"), (["undo"], "then"), (["undo"], "now")):
        host.run("kvm-snap", "web", *command)
        assert [get(host, disk) for disk in disks] == [f"{text} {disk}" for disk in disks]
        sources = [disk.find("source").get("dev") for disk in host.definition("web").findall("devices/disk")]
        assert sources == [f"/dev/zvol/{ROOT}/{disk}" for disk in disks]


def limit(host, mib):
    """Leaves so much below the root."""
    host.sh(f"zfs set quota=$(( $(zfs get -Hpo value used {ROOT}) + {mib} * 1048576 )) {ROOT}")


def test_thick_volumes_reserve_as_before(host):
    host.create("web", "--thick", size="64M")
    put(host, "web", "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.fill("web", mib=32, seek=4)
    put(host, "web", "now")
    reserved = host.property("web", "refreservation")
    assert reserved not in ("none", "0")
    # The reservation again, and as much as the safety snapshot takes from the present's own: refused before anything is done.
    limit(host, 80)
    host.refuses("kvm-snap", "web", "rollback", "then", says="not enough space", hint="free space")
    limit(host, 125)
    host.run("kvm-snap", "web", "rollback", "then")
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    assert host.property("web", "refreservation") == host.property(f".kept/{kept['name']}/web", "refreservation") == reserved
    assert get(host, "web") == "then"
    host.run("kvm-snap", "web", "undo")
    assert get(host, "web") == "now" and host.property("web", "refreservation") == reserved


def test_thick_volumes_go_back_the_classic_way(host):
    """What is gone back over is reserved anew: it must be there before anything goes."""
    host.create("web", "--thick", size="64M")
    put(host, "web", "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.fill("web", mib=40, seek=4)
    limit(host, 20)
    classic = ["kvm-snap", "web", "rollback", "then", "--destroy-newer", "--yes"]
    host.refuses(*classic, says="not enough space", hint="free space")
    limit(host, 60)
    host.run(*classic)
    assert get(host, "web") == "then"


def test_replication_and_received_properties_go_on(host):
    """Snapshots keep their guid: increments fit, whichever version is the present. What was received stays so."""
    host.create("web")
    put(host, "web", "first")
    host.run("kvm-snap", "-q", "web", "snap", "first")
    # As a replica that was taken over has them.
    host.sh(f"""
        zfs set compression=zstd com.example:tier=gold {ROOT}/web
        zfs send -p {ROOT}/web@first >/root/stream
        zfs inherit compression {ROOT}/web; zfs inherit com.example:tier {ROOT}/web
        zfs rename {ROOT}/web vmpool/was; zfs receive {ROOT}/web </root/stream; zfs destroy -r vmpool/was
        zfs inherit -S com.kldload:machine {ROOT}/web; udevadm settle
        zfs send {ROOT}/web@first | zfs receive -u vmpool/copy""")

    def received():
        return host.sh(f"zfs get -Ho value,source compression,com.example:tier {ROOT}/web").splitlines()

    assert received() == ["zstd\treceived", "gold\treceived"]
    for text in ("then", "later"):
        put(host, "web", text)
        host.run("kvm-snap", "-q", "web", "snap", text)
    host.run("kvm-snap", "web", "rollback", "then")
    assert [line.split("\t")[0] for line in received()] == ["zstd", "gold"]
    host.sh(f"zfs send -i @first {ROOT}/web@then | zfs receive -u vmpool/copy")
    host.run("kvm-snap", "web", "undo")
    assert received() == ["zstd\treceived", "gold\treceived"]
    host.sh(f"zfs send -i @then {ROOT}/web@later | zfs receive -u vmpool/copy")
    guids = host.sh(f"zfs get -Hpo value guid {ROOT}/web@later vmpool/copy@later").splitlines()
    assert len(set(guids)) == 1
    host.sh("zfs destroy -r vmpool/copy")


def test_encrypted(host):
    host.sh("echo 'a long passphrase' >/root/key")
    # All below one key.
    host.sh(f"zfs create {KEY} -o volmode=dev vmpool/safe")
    host.run("kvm-create", "locked", "--root", "vmpool/safe", "--no-start", "--disk", "64M", "--ram", "256", "--firmware", "bios")
    host.run("kvm-snap", "-q", "locked", "snap", "then", "--root", "vmpool/safe")
    for action in (["rollback", "then"], ["undo"]):
        host.run("kvm-snap", "locked", *action, "--root", "vmpool/safe")
    assert set(host.sh("zfs get -rHo value encryptionroot -t filesystem,volume vmpool/safe").splitlines()) == {"vmpool/safe"}

    # A disk with a key of its own.
    host.create("web")
    host.sh(f"zfs create -s -V 64M {KEY} -o com.kldload:machine=web -o com.kldload:disk=data {ROOT}/web-data; "
            f"udevadm settle; virsh attach-disk web /dev/zvol/{ROOT}/web-data vdb --config")
    for text in ("then", "now"):
        put(host, "web-data", text)
        if text == "then":
            host.run("kvm-snap", "-q", "web", "snap", text)

    # A promotion would hand its key over without loading it, and a clone cannot leave the dataset that has its key.
    host.refuses("kvm-snap", "web", "rollback", "then", says=f"{ROOT}/web-data has a key of its own", hint="--destroy-newer")
    host.run("kvm-clone", "-q", "web", "copy")
    host.run("kvm-snap", "-q", "copy", "snap", "then")
    host.refuses("kvm-snap", "copy", "rollback", "then", says=f"{ROOT}/copy-data takes its key from {ROOT}/web-data")
    host.run("kvm-delete", "-q", "copy", "--yes")
    host.run("kvm-snap", "web", "rollback", "then", "--destroy-newer", "--yes")
    assert get(host, "web-data") == "then"


def test_a_recursive_snapshot_that_is_held(host):
    """Also what a version lies in has it: an undo could not remove that in the end."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    container = f"{ROOT}/.kept/{kept['name']}"
    host.sh(f"zfs snapshot {container}@backup; zfs hold keep {container}@backup")
    host.refuses("kvm-snap", "web", "undo", says=f"{container}@backup is held", hint="zfs holds")
    host.refuses("kvm-snap", "web", "drop", kept["name"], "--yes", says=f"{container}@backup", hint="zfs holds")
    host.refuses("kvm-delete", "web", "--yes", says=f"{container}@backup", hint="zfs holds")
    host.sh(f"zfs release keep {container}@backup")
    host.run("kvm-snap", "web", "undo")


def test_what_somebody_looks_into_is_left_alone(host):
    host.create("web", "--disk", "data=64M", tpm=True)
    put(host, "web-data", "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    put(host, "web-data", "now")
    host.run("kvm-snap", "-q", "web", "rollback", "then")
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    aside = f"{ROOT}/.kept/{kept['name']}"
    commands = (["kvm-snap", "web", "undo"], ["kvm-snap", "web", "drop", kept["name"], "--yes"], ["kvm-delete", "web", "--yes"])

    def refused(says):
        for argv in commands:
            host.refuses(*argv, says=["which was set aside, is in use", *says])

    host.sh(f"nohup setsid sh -c 'exec sleep 600 </dev/zvol/{aside}/web-data' >/dev/null 2>&1 & sleep 1")
    refused([f"has {aside}/web-data open"])
    host.sh("pkill -x sleep")
    host.define("rescue", f"/dev/zvol/{aside}/web-data")
    refused([f"{aside}/web-data is a disk of domain 'rescue'"])
    host.sh(f"virsh undefine rescue; mkdir /root/look; mount -t zfs -o ro,zfsutil {aside}/.state /root/look")
    refused([f"{aside}/.state is mounted"])
    host.sh("umount /root/look")
    host.run("kvm-snap", "web", "undo")
    assert get(host, "web-data") == "now"
