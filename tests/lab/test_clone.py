# SPDX-License-Identifier: Apache-2.0
"""kvm-clone: what is cloned, what is new, when a snapshot is used again."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from host import ROOT, STATE, TPM, UTC


CLONE = "com.kldload:clone-origin"


def addresses(host, name):
    domain = host.definition(name)
    return {domain.findtext("uuid"), domain.findtext("genid"), domain.find("devices/interface/mac").get("address")}


def seed_of(host, name):
    """All documents on the seed image."""
    return host.sh(f"mount -o loop,ro {STATE}/{name}/seed.iso /mnt; cat /mnt/*; umount /mnt")


def ready(result):
    assert re.search(r"completed in \d+\.\d\d seconds\.\n$", result.out), result


def test_whole_machine(host):
    """Every part at once: two disks, firmware variables, TPM, seed, an ISO."""
    host.sh("truncate -s 1M /root/install.iso; ssh-keygen -q -t ed25519 -N '' -f /root/key")
    host.run("kvm-create", "web", "--no-start", "--disk", "64M", "--disk", "data=64M", "--ram", "256", "--user", "ann",
             "--ssh-key", "/root/key.pub", "--iso", "/root/install.iso", "--autostart")
    tpm = f"{TPM}/{host.uuid('web')}"
    host.sh(f"mkdir {tpm}/tpm2; echo sealed >{tpm}/tpm2/marker; echo variables >{STATE}/web/uefi_VARS.fd; "
            f"chmod 600 {STATE}/web/uefi_VARS.fd")
    host.fill("web-data")
    ready(host.run("kvm-clone", "web", "web-1", "web-2"))
    host.assert_datasets("""
        .state
        .state/web
        .state/web@clone-T1
        .state/web/tpm
        .state/web/tpm@clone-T1
        .state/web-1 of .state/web@clone-T1
        .state/web-1/tpm of .state/web/tpm@clone-T1
        .state/web-2 of .state/web@clone-T1
        .state/web-2/tpm of .state/web/tpm@clone-T1
        web
        web@clone-T1
        web-data
        web-data@clone-T1
        web-1 of web@clone-T1
        web-1-data of web-data@clone-T1
        web-2 of web@clone-T1
        web-2-data of web-data@clone-T1
    """)
    snapshot = host.snapshots("web")[0]
    assert re.fullmatch("clone-" + UTC, snapshot)
    assert host.property(f"web@{snapshot}", "com.kldload:by", "com.kldload:consistency") == ("clone", "offline")
    # One transaction group: all of the machine or nothing.
    groups = {host.property(f"{dataset}@{snapshot}", "createtxg")
              for dataset in ("web", "web-data", ".state/web", ".state/web/tpm")}
    assert len(groups) == 1

    # Nothing that tells machines apart is shared.
    machines = ["web", "web-1", "web-2"]
    assert len(set().union(*(addresses(host, name) for name in machines))) == 9
    for name in machines[1:]:
        uuid = host.uuid(name)
        domain = host.definition(name)
        sources = [source.get("dev") or source.get("file") for source in domain.findall("devices/disk/source")]
        assert sorted(sources) == sorted([f"/dev/zvol/{ROOT}/{name}", f"/dev/zvol/{ROOT}/{name}-data",
                                          f"{STATE}/{name}/seed.iso", "/root/install.iso"])
        assert domain.find("devices/disk[@device='cdrom']/readonly") is not None
        assert domain.findtext("os/nvram") == f"{STATE}/{name}/uefi_VARS.fd"
        saved = ElementTree.fromstring(host.read(f"{STATE}/{name}/domain.xml"))
        assert [saved.findtext("name"), saved.findtext("uuid")] == [name, uuid]
        assert host.property(f".state/{name}/tpm", "mountpoint", "mounted") == (f"{TPM}/{uuid}", "yes")
        assert host.sh(f"cat {TPM}/{uuid}/tpm2/marker {STATE}/{name}/uefi_VARS.fd") == "sealed\nvariables"
        assert host.property(name, "com.kldload:machine", "com.kldload:disk", CLONE, "volmode") == \
            (name, "root", f"web@{snapshot}", "dev")
        assert host.property(f"{name}-data", "com.kldload:machine", "com.kldload:disk") == (name, "data")
        assert host.property(f".state/{name}", "com.kldload:machine", "mountpoint") == (name, f"{STATE}/{name}")
        seed = seed_of(host, name)
        assert f"iid-{uuid}" in seed and f'local-hostname: "{name}"' in seed and 'name: "ann"' in seed
        assert host.uuid("web") not in seed
        assert host.sh(f"stat -c %a {STATE}/{name} {STATE}/{name}/domain.xml").split() == ["711", "600"]
    assert host.checksum(f"/dev/zvol/{ROOT}/web-1-data", 64) == host.checksum(f"/dev/zvol/{ROOT}/web-data", 64)
    assert {name: row["autostart"] for name, row in host.kvm_list().items()} == \
        {"web": True, "web-1": False, "web-2": False}

    # An empty TPM on request; other words for the seed; other sizes.
    host.run("kvm-clone", "web", "fresh", "--tpm", "new", "--hostname", "other", "--instance-id", "mine", "--ram", "512",
             "--cpus", "1")
    assert host.sh(f"ls -A {TPM}/{host.uuid('fresh')}") == ""
    assert host.property(".state/fresh/tpm", "origin") == "-"
    seed = seed_of(host, "fresh")
    assert 'local-hostname: "other"' in seed and 'instance-id: "mine"' in seed and 'name: "ann"' in seed
    domain = host.definition("fresh")
    assert (domain.findtext("memory"), domain.findtext("vcpu")) == (str(512 * 1024), "1")
    # Nothing was written in between: the snapshot is used again.
    assert host.property("fresh", "origin") == f"{ROOT}/web@{snapshot}"


def test_running_machine(host):
    host.create("web", tpm=True)
    host.start("web")
    ready(host.run("kvm-clone", "web", "copy", "--start"))
    ready(host.run("kvm-clone", "web", "again"))
    host.assert_datasets("""
        .state
        .state/again of .state/web@clone-T2
        .state/again/tpm of .state/web/tpm@clone-T2
        .state/copy of .state/web@clone-T1
        .state/copy/tpm of .state/web/tpm@clone-T1
        .state/web
        .state/web@clone-T1
        .state/web@clone-T2
        .state/web/tpm
        .state/web/tpm@clone-T1
        .state/web/tpm@clone-T2
        again of web@clone-T2
        copy of web@clone-T1
        web
        web@clone-T1
        web@clone-T2
    """)
    assert host.domains() == {"web": "running", "copy": "running", "again": "shut off"}
    snapshot = host.snapshots("web")[0]
    assert host.property(f"web@{snapshot}", "com.kldload:consistency") == "crash"
    assert addresses(host, "web").isdisjoint(addresses(host, "copy"))
    # The definition is the inactive one, of what it will be at its next start: not what it runs with.
    host.sh("virsh setmaxmem web 300M --config; virsh setmem web 300M --config")
    assert "mode='custom'" in host.xml("web", "--security-info")
    host.run("kvm-clone", "web", "edited")
    assert host.definition("edited").findtext("memory") == str(300 * 1024)
    assert host.definition("edited").find("cpu").get("mode") == "host-model"
    host.run("kvm-snap", "web", "snap", "live")
    saved = host.read(f"{STATE}/web/.zfs/snapshot/live/domain.xml")
    assert saved.strip() == host.xml("web", "--inactive", "--security-info").strip()


def test_a_seed_for_a_machine_without_one(host):
    host.create("plain")
    host.sh("ssh-keygen -q -t ed25519 -N '' -C someone -f /root/key")
    host.run("kvm-clone", "plain", "seeded", "--user", "ann", "--ssh-key", "/root/key.pub", "--password-hash",
             "$y$j9T$salt$hash", "--hostname", "seed.example", "--vcpus", "2", "--start")
    seed = seed_of(host, "seeded")
    for text in ('name: "ann"', host.read("/root/key.pub").strip(), "$y$j9T$salt$hash", 'local-hostname: "seed.example"',
                 f"iid-{host.uuid('seeded')}"):
        assert text in seed, text
    (disk,) = [disk for disk in host.definition("seeded").findall("devices/disk") if disk.find("readonly") is not None]
    assert disk.find("source").get("file") == f"{STATE}/seeded/seed.iso" and disk.find("target").get("bus") == "virtio"
    assert host.definition("seeded").findtext("vcpu") == "2"
    assert host.domains() == {"plain": "shut off", "seeded": "running"}
    host.write("/root/user-data", "#cloud-config\npackages: [hello]\n")
    host.write("/root/network-config", "version: 2\n")
    host.run("kvm-clone", "plain", "asis", "--user-data", "/root/user-data", "--network-config", "/root/network-config")
    assert "packages: [hello]" in seed_of(host, "asis") and "version: 2" in seed_of(host, "asis")


def test_many(host):
    host.create("golden")
    ready(host.run("kvm-clone", "golden", "--count", "12", "--prefix", "w-"))
    names = [f"w-{i}" for i in range(1, 13)]
    host.assert_datasets("\n".join(
        [".state", ".state/golden", ".state/golden@clone-T1", "golden", "golden@clone-T1"] +
        [f"{name} of golden@clone-T1" for name in names] +
        [f".state/{name} of .state/golden@clone-T1" for name in names]))
    assert host.domains() == {name: "shut off" for name in ["golden", *names]}
    assert host.sh(f"cd /dev/zvol/{ROOT}; for name in w-*; do test -b $name; done; ls | wc -l") == "13"
    # One that is taken: none is made.
    host.refuses("kvm-clone", "golden", "--count", "13", "--prefix", "w-", says="w-1")
    host.refuses("kvm-clone", "golden", "new", "w-3", says="w-3")


def test_what_was_just_written_is_in_the_clone(host):
    """ZFS counts what was written when its transaction group ends, seconds later; a clone does not trust the count."""
    host.create("web")
    host.run("kvm-clone", "-q", "web", "before")
    host.sh(f"zpool sync; dd if=/dev/urandom of=/dev/zvol/{ROOT}/web bs=64K count=1 oflag=direct conv=notrunc status=none; "
            "kvm-clone -q web after")
    assert host.property("after", "origin") != host.property("before", "origin")
    assert host.checksum(f"/dev/zvol/{ROOT}/after", 1) == host.checksum(f"/dev/zvol/{ROOT}/web", 1)


def test_of_a_disk_that_the_host_has_mounted(host):
    """What was written into its file system may not be on the disk yet: no snapshot of it is "offline"."""
    host.create("web")
    host.sh(f"mkfs.ext4 -q /dev/zvol/{ROOT}/web")
    host.run("kvm-clone", "web", "before")
    host.sh(f"mount /dev/zvol/{ROOT}/web /mnt; echo edited >/mnt/file")
    says = f"a mounted file system has {ROOT}/web open: what is not on the disk yet will be missing"
    assert says in host.run("kvm-clone", "web", "after").err
    (first, second) = host.snapshots("web")
    assert host.property("after", "origin") == f"{ROOT}/web@{second}"
    assert host.property(f"web@{first}", "com.kldload:consistency") == "offline"
    assert host.property(f"web@{second}", "com.kldload:consistency") == "crash"
    assert says in host.run("kvm-snap", "web", "snap", "mounted").err
    assert host.property("web@mounted", "com.kldload:consistency") == "crash"
    host.run("umount", "/mnt")
    assert "open" not in host.run("kvm-snap", "web", "snap", "unmounted").err
    assert host.property("web@unmounted", "com.kldload:consistency") == "offline"


def test_reuse(host):
    """A shut-off machine in which nothing was written since its newest @clone- is not snapshotted again."""
    host.create("web")

    def origin(name):
        host.run("kvm-clone", "web", name)
        return host.property(name, "origin").split("@")[1]

    first = origin("c1")
    assert origin("c2") == first
    host.run("kvm-snap", "web", "snap", "by-hand")
    assert origin("c3") == first, "a later snapshot without a write in between changes nothing"
    host.fill("web", mib=1)
    second = origin("c4")
    assert second != first
    assert origin("c5") == second
    # A write that a later snapshot caught, too.
    host.fill("web", mib=1)
    host.run("kvm-snap", "web", "snap", "after-write")
    third = origin("c6")
    assert third not in (first, second)
    # Another definition.
    host.sh("virsh setmaxmem web 300M --config; virsh setmem web 300M --config")
    fourth = origin("c7")
    assert fourth not in (first, second, third)
    assert host.definition("c7").findtext("memory") == str(300 * 1024)
    assert origin("c8") == fourth
    # What the firmware keeps is part of it.
    host.sh(f"echo x >>{STATE}/web/uefi_VARS.fd")
    assert origin("c9") not in (first, second, third, fourth)
    host.assert_datasets("""
        .state
        .state/web
        .state/web@clone-T1
        .state/web@by-hand
        .state/web@clone-T2
        .state/web@after-write
        .state/web@clone-T3
        .state/web@clone-T4
        .state/web@clone-T5
        .state/c1 of .state/web@clone-T1
        .state/c2 of .state/web@clone-T1
        .state/c3 of .state/web@clone-T1
        .state/c4 of .state/web@clone-T2
        .state/c5 of .state/web@clone-T2
        .state/c6 of .state/web@clone-T3
        .state/c7 of .state/web@clone-T4
        .state/c8 of .state/web@clone-T4
        .state/c9 of .state/web@clone-T5
        web
        web@clone-T1
        web@by-hand
        web@clone-T2
        web@after-write
        web@clone-T3
        web@clone-T4
        web@clone-T5
        c1 of web@clone-T1
        c2 of web@clone-T1
        c3 of web@clone-T1
        c4 of web@clone-T2
        c5 of web@clone-T2
        c6 of web@clone-T3
        c7 of web@clone-T4
        c8 of web@clone-T4
        c9 of web@clone-T5
    """)


def test_named_snapshot(host):
    host.create("web")
    host.create("other")
    host.fill("web", mib=1)
    host.run("kvm-snap", "web", "snap", "then")
    then = host.checksum(f"/dev/zvol/{ROOT}/web", 8)
    host.fill("web", mib=2)
    host.sh("virsh setmaxmem web 300M --config; virsh setmem web 300M --config")
    for name, given in [("c1", "then"), ("c2", "@then"), ("c3", "web@then"), ("c4", f"{ROOT}/web@then")]:
        host.run("kvm-clone", "web", name, "--snap", given)
    host.assert_datasets("""
        .state
        .state/other
        .state/web
        .state/web@then
        .state/c1 of .state/web@then
        .state/c2 of .state/web@then
        .state/c3 of .state/web@then
        .state/c4 of .state/web@then
        other
        web
        web@then
        c1 of web@then
        c2 of web@then
        c3 of web@then
        c4 of web@then
    """)
    assert host.checksum(f"/dev/zvol/{ROOT}/c1", 8) == then
    # The definition of then.
    assert host.definition("c1").findtext("memory") == str(256 * 1024)
    host.run("kvm-snap", "other", "snap", "theirs")
    host.refuses("kvm-clone", "web", "c5", "--snap", "other@theirs", says="not a snapshot of machine 'web'")
    host.refuses("kvm-clone", "web", "c5", "--snap", f"{ROOT}/other@theirs", says="not a snapshot of machine 'web'")
    host.refuses("kvm-clone", "web", "c5", "--snap", "theirs", says="no snapshot '@theirs'")
    host.refuses("kvm-clone", "web", "c5", "--snap", "thn", hint="did you mean '@then'?")


def test_full_copy(host):
    host.run("kvm-create", "web", "--no-start", "--disk", "64M", "--disk", "data=64M", "--ram", "256", "--user", "ann")
    tpm = f"{TPM}/{host.uuid('web')}"
    host.sh(f"echo sealed >{tpm}/marker; echo variables >{STATE}/web/uefi_VARS.fd")
    host.fill("web", mib=20, seek=10)
    host.fill("web-data", mib=3)
    ready(host.run("kvm-clone", "web", "copy", "--full"))
    # Independent: no origin, and the snapshot it was copied from is gone on both sides.
    host.assert_datasets("""
        .state
        .state/copy
        .state/copy/tpm
        .state/web
        .state/web/tpm
        copy
        copy-data
        web
        web-data
    """)
    for label in ("", "-data"):
        assert host.checksum(f"/dev/zvol/{ROOT}/copy{label}", 64) == host.checksum(f"/dev/zvol/{ROOT}/web{label}", 64)
        assert host.property(f"copy{label}", "volblocksize", "com.kldload:machine", CLONE) == ("65536", "copy", "-")
        assert host.property(f"copy{label}", "compression", "volmode", "refreservation") == ("lz4", "dev", "0")
    assert int(host.property("copy", "referenced")) < 25 << 20
    uuid = host.uuid("copy")
    assert host.sh(f"cat {TPM}/{uuid}/marker {STATE}/copy/uefi_VARS.fd") == "sealed\nvariables"
    assert f"iid-{uuid}" in seed_of(host, "copy")
    assert addresses(host, "web").isdisjoint(addresses(host, "copy"))
    # At a terminal the copy shows how far it is; the source may run, a snapshot may be named.
    host.run("kvm-snap", "web", "snap", "kept")
    shown = host.sh("script -qec 'kvm-clone web copy-2 --full --snap kept' /dev/null")
    assert re.search(r"\r\x1b\[K.*copy-2.* %", shown), shown
    with host.adds("""
        .state/copy-3
        .state/copy-3/tpm
        copy-3
        copy-3-data
        """):
        # What stood in for the firmware variables, it could not start with.
        host.sh(f"cat /usr/share/OVMF/OVMF_VARS_4M.fd >{STATE}/web/uefi_VARS.fd")
        host.run("virsh", "start", "web", "--paused")
        host.run("kvm-clone", "web", "copy-3", "--full")
        host.run("virsh", "destroy", "web")
    # The source can go: nothing hangs on it.
    host.run("kvm-delete", "web", "--yes")
    assert host.domains() == {"copy": "shut off", "copy-2": "shut off", "copy-3": "shut off"}


def test_full_copy_of_a_snapshot_that_others_want(host):
    """Who sends or holds it by now keeps it; the copy is done."""
    host.create("web")
    host.fill("web", mib=4)
    host.write("/usr/local/sbin/zfs", "#!/bin/sh\n[ \"$1\" != send ] || for last; do :; done\n"
                                      "[ \"$1\" != send ] || /usr/sbin/zfs hold backup \"$last\"\n"
                                      "exec /usr/sbin/zfs \"$@\"\n")
    host.sh("chmod +x /usr/local/sbin/zfs")
    result = host.run("kvm-clone", "web", "copy", "--full")
    host.sh("rm /usr/local/sbin/zfs")
    (snapshot,) = host.snapshots("web")
    assert f"{ROOT}/web@{snapshot}" in result.warnings[-1] and "stays" in result.warnings[-1], result
    assert host.domains() == {"web": "shut off", "copy": "shut off"}
    assert host.checksum(f"/dev/zvol/{ROOT}/copy", 8) == host.checksum(f"/dev/zvol/{ROOT}/web", 8)
    assert host.run("kld", "recover").out == "Nothing to recover.\n"
    host.sh(f"zfs release backup {ROOT}/web@{snapshot} {ROOT}/.state/web@{snapshot}")
    host.run("kvm-delete", "web", "copy", "--yes")


def test_interrupted_while_it_looks(host):
    """A listing may take minutes: nobody has to wait for its end."""
    host.create("web")
    host.write("/usr/local/sbin/zfs", "#!/bin/sh\n[ \"$1\" != list ] || sleep 300\nexec /usr/sbin/zfs \"$@\"\n")
    before = host.state()
    host.sh("chmod +x /usr/local/sbin/zfs")
    result = host.run("timeout", "--preserve-status", "-s", "INT", "5", "kvm-clone", "web", "copy", check=False, timeout=60)
    host.sh("rm /usr/local/sbin/zfs")
    assert result.rc == 130 and result.errors == ["error: interrupted"], result
    assert host.sh("pgrep -x sleep || true") == ""
    host.assert_same(before)


# ---- Parts that cannot be cloned ----


def prepare(host):
    host.create("web")
    host.sh("qemu-img create -q -f qcow2 /var/lib/libvirt/images/extra.qcow2 64M; zfs create -s -V 64M vmpool/alien")
    host.run("virsh", "attach-disk", "web", "/var/lib/libvirt/images/extra.qcow2", "vdb", "--subdriver", "qcow2",
             "--config")
    host.run("virsh", "attach-disk", "web", "/dev/zvol/vmpool/alien", "vdc", "--config")
    host.write("/root/hostdev.xml", "<hostdev mode='subsystem' type='pci' managed='yes'><source><address "
               "domain='0x0000' bus='0x00' slot='0x1f' function='0x0'/></source></hostdev>")
    host.run("virsh", "attach-device", "web", "/root/hostdev.xml", "--config")


shared = pytest.mark.module_state(prepare=prepare)


@shared
def test_foreign_parts(host):
    host.refuses("kvm-clone", "web", "copy", hint="--without",
                 says=["vdb: /var/lib/libvirt/images/extra.qcow2", "(--without vdb)", "vdc: /dev/zvol/vmpool/alien",
                       "(--without hostdev)"])
    host.refuses("kvm-clone", "web", "copy", "--without", "vdb", "--without", "hostdev", says="(--without vdc)")
    host.refuses("kvm-clone", "web", "copy", "--without", "vdb", "--without", "vdc", says="(--without hostdev)")


@shared
def test_without_foreign_parts(host):
    before = host.xml("web")
    with host.adds("""
        .state/web@clone-T1
        .state/copy of .state/web@clone-T1
        copy of web@clone-T1
        web@clone-T1
        """):
        host.run("kvm-clone", "web", "copy", "--without", "vdb", "--without", "vdc", "--without", "hostdev")
    domain = host.definition("copy")
    assert [source.attrib for source in domain.findall("devices/disk/source")] == [{"dev": f"/dev/zvol/{ROOT}/copy"}]
    assert domain.find("devices/hostdev") is None
    assert host.xml("web") == before


def test_without_a_disk_of_its_own(host):
    host.create("web", "--disk", "data=64M")
    host.fill("web-data", mib=2)
    for flags in ([], ["--full"]):
        name = "full" if flags else "thin"
        host.run("kvm-clone", "web", name, "--without", "vdb", *flags)
        assert [one for one in host.datasets() if one.startswith(f"{name}-")] == []
        assert len(host.definition(name).findall("devices/disk")) == 1
    # The whole machine is in the snapshot, and goes with its last user.
    host.run("kvm-delete", "thin", "--yes")
    assert host.snapshots("web-data") == host.snapshots("web") == []
    host.refuses("kvm-clone", "web", "bare", "--without", "vda", "--without", "vdb", says="no disk of machine 'web' would be left")
