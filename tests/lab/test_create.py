# SPDX-License-Identifier: Apache-2.0
"""kvm-create: the layout, the definition, images, seeds, limits."""

import re

import pytest
from host import CONFIG, ROOT, STATE, TPM

MEDIA = "/var/lib/libvirt/images"
MIB = 1 << 20
GIB = 1 << 30
SMALL = ["--no-start", "--disk", "1", "--ram", "256", "--cpus", "1"]
BIOS = [*SMALL, "--firmware", "bios", "--no-tpm"]


def prepare(host):
    """An image of 64 MiB with data at both ends of a hole, as raw and as qcow2; files to stand for ISOs; a key."""
    host.sh("""
        cd /root
        truncate -s 64M disk.raw
        dd if=/dev/urandom of=disk.raw bs=1M count=2 conv=notrunc status=none
        dd if=/dev/urandom of=disk.raw bs=1M count=1 seek=40 conv=notrunc status=none
        qemu-img convert -O qcow2 disk.raw disk.qcow2
        truncate -s 1M /var/lib/libvirt/images/install.iso /var/lib/libvirt/images/virtio-win.iso
        ssh-keygen -q -t ed25519 -N '' -C someone -f key
    """)
    host.create("first")


shared = pytest.mark.module_state(prepare=prepare)


def attributes(element, path):
    found = element.find(path)
    assert found is not None, f"no {path}"
    return found.attrib


# ---- A fresh host ----


def test_layout(host):
    result = host.run("kvm-create", "web", "--no-start", "--disk", "1", "--disk", "data=2G", "--ram", "512",
                      "--os", "debian12")
    host.assert_datasets("""
        .state
        .state/web
        .state/web/tpm
        web
        web-data
    """)
    assert result.warnings in ([], ["warning: 2 vCPUs, the host has 1"])
    uuid = host.uuid("web")
    prefix = "com.kldload:"
    op = host.property("web", prefix + "op")
    assert re.fullmatch(r"[0-9a-f-]{36}", op)
    for dataset, machine, disk in [(".state", "-", "-"), (".state/web", "web", "-"), (".state/web/tpm", "web", "-"),
                                   ("web", "web", "root"), ("web-data", "web", "data")]:
        assert host.property(dataset, prefix + "machine", prefix + "disk", prefix + "op") == (machine, disk, op), dataset
    assert host.property(".state", "canmount", "mountpoint", "mounted") == ("off", STATE, "no")
    assert host.property(".state/web", "mountpoint", "mounted") == (f"{STATE}/web", "yes")
    assert host.property(".state/web/tpm", "mountpoint", "mounted") == (f"{TPM}/{uuid}", "yes")
    sparse = ("1073741824", "65536", "0", "lz4", "dev", "standard", "all")
    assert host.property("web", "volsize", "volblocksize", "refreservation", "compression", "volmode", "sync",
                         "primarycache") == sparse
    assert host.property("web-data", "volsize") == str(2 * GIB)

    assert host.sh(f"cd {STATE}; stat -c '%a %n' web web/*") == "711 web\n600 web/domain.xml"
    assert host.sh(f"stat -c %a {TPM}/{uuid}") == "711"
    # As libvirt words it: with the very machine type and addresses, for a host whose libvirt would choose others.
    saved = host.read(f"{STATE}/web/domain.xml")
    assert saved.strip() == host.xml("web", "--inactive", "--security-info").strip()
    assert f"<uuid>{uuid}</uuid>" in saved and "machine='pc-q35-" in saved and "<address type='pci'" in saved
    # Nothing may start with blank variables or a blank TPM where a filesystem is not mounted.
    under = host.sh(f"mkdir /tmp/under; mount --bind / /tmp/under; lsattr -d /tmp/under{STATE}/web "
                    f"/tmp/under{TPM}/{uuid}; umount /tmp/under").splitlines()
    assert all("i" in line.split()[0] for line in under), under

    # The root is written down at first use.
    guid = host.run("zfs", "get", "-Hp", "-o", "value", "guid", ROOT).out.strip()
    config = host.read(CONFIG)
    assert f'root = "{ROOT}"\n' in config and f'root_guid = "{guid}"\n' in config

    domain = host.definition("web")
    assert domain.get("type") == "kvm"
    assert re.fullmatch(r"pc-q35-.*", attributes(domain, "os/type")["machine"])
    assert domain.find("os").get("firmware") == "efi"
    assert domain.findtext("os/nvram") == f"{STATE}/web/uefi_VARS.fd"
    assert attributes(domain, "cpu")["mode"] == "host-model"
    assert domain.findtext("memory") == str(512 * 1024)
    assert domain.findtext("vcpu") == "2"
    assert re.fullmatch(r"[0-9a-f-]{36}", domain.findtext("genid"))
    assert domain.findtext("genid") != uuid
    assert "http://debian.org/debian/12" in host.xml("web")
    disks = domain.findall("devices/disk")
    assert [disk.find("source").get("dev") for disk in disks] == [f"/dev/zvol/{ROOT}/web", f"/dev/zvol/{ROOT}/web-data"]
    for disk in disks:
        assert disk.find("driver").attrib == {"name": "qemu", "type": "raw", "cache": "none", "io": "native",
                                              "discard": "unmap", "iothread": "1"}
        assert disk.find("target").get("bus") == "virtio"
    assert domain.findtext("iothreads") == "1"
    assert attributes(domain, "devices/interface/model") == {"type": "virtio"}
    assert attributes(domain, "devices/interface/source") == {"network": "default"}
    assert attributes(domain, "devices/channel/target")["name"] == "org.qemu.guest_agent.0"
    assert domain.findtext("devices/rng/backend") == "/dev/urandom"
    assert attributes(domain, "devices/rng")["model"] == "virtio"
    assert attributes(domain, "devices/serial/target")["type"] == "isa-serial"
    assert attributes(domain, "devices/console/target")["type"] == "serial"
    assert attributes(domain, "devices/graphics")["type"] == "vnc"
    assert attributes(domain, "devices/graphics")["listen"] == "127.0.0.1"
    assert attributes(domain, "devices/tpm/backend") == {"type": "emulator", "version": "2.0"}
    assert attributes(domain, "clock")["offset"] == "utc"


def test_dry_run_changes_nothing_and_tells_all(host):
    with host.assert_unchanged():
        plain = host.run("kvm-create", "web", *SMALL, "--dry-run")
        for_programs = host.run("kvm-create", "web", *SMALL, "-n", "--json").json
    assert "zfs create -s -V 1G" in plain.out and f"{ROOT}/web" in plain.out
    assert "virsh define web.xml --validate" in plain.out
    assert for_programs["operation"] == "create" and for_programs["machines"] == ["web"]
    assert for_programs["steps"][for_programs["commit"]]["act"] == "mount-filesystems"
    for step in for_programs["steps"]:
        assert step["describe"] and step["commands"], step
    done = host.run("kvm-create", "web", *SMALL, "--json")
    assert [step["act"] for step in done.json["steps"]] == [step["act"] for step in for_programs["steps"]]
    assert done.err == ""
    assert host.domains() == {"web": "shut off"}


def test_encrypted_root(host):
    host.sh("""
        echo long enough a key >/root/passphrase
        zfs create -o encryption=on -o keyformat=passphrase -o keylocation=file:///root/passphrase \
          -o mountpoint=none vmpool/secret
    """)
    host.run("kvm-create", "safe", *BIOS, "--root", "vmpool/secret")
    host.assert_datasets("""
        vmpool/secret
        vmpool/secret/.state
        vmpool/secret/.state/safe
        vmpool/secret/safe
    """)
    # The root does not hand volmode down, so the volume has its own; it is encrypted as its parent is.
    values = host.run("zfs", "get", "-Hp", "-o", "value", "volmode,encryptionroot", "vmpool/secret/safe").out.split()
    assert values == ["dev", "vmpool/secret"]
    host.sh("zfs create -s -V 64M vmpool/secret/stranger; udevadm settle")
    host.define("stranger", "/dev/zvol/vmpool/secret/stranger")
    host.sh("zfs unmount vmpool/secret/.state/safe; zfs unload-key vmpool/secret")
    host.refuses("kvm-create", "more", *BIOS, "--root", "vmpool/secret", hint="zfs load-key vmpool/secret")
    host.refuses("kvm-clone", "safe", "copy", "--root", "vmpool/secret", hint="zfs load-key vmpool/secret")
    assert host.kvm_list("--root", "vmpool/secret")["safe"]["state"] == "locked"
    host.refuses("kvm-snap", "safe", "--root", "vmpool/secret", hint="zfs load-key vmpool/secret")
    host.refuses("kvm-adopt", "stranger", "--yes", "--root", "vmpool/secret", hint="zfs load-key vmpool/secret")
    host.sh("virsh dumpxml safe --inactive >/root/safe.xml; virsh undefine safe")
    host.refuses("kvm-adopt", "safe", "--yes", "--root", "vmpool/secret", says="the encryption key of 'vmpool/secret'",
                 hint="zfs load-key vmpool/secret")
    host.run("virsh", "define", "/root/safe.xml")
    host.run("zfs", "load-key", "vmpool/secret")
    for command in (["kvm-clone", "safe", "copy"], ["kvm-snap", "safe"]):
        host.refuses(*command, "--root", "vmpool/secret", says="the state of machine 'safe' is not mounted",
                     hint="zfs mount vmpool/secret/.state/safe")
    host.run("zfs", "mount", "vmpool/secret/.state/safe")
    host.run("kvm-create", "more", *BIOS, "--root", "vmpool/secret")
    # A clone and a full copy are encrypted as their source is, with its key.
    host.sh("dd if=/dev/urandom of=/dev/zvol/vmpool/secret/safe bs=1M count=4 oflag=direct status=none")
    host.run("kvm-clone", "safe", "copy", "--root", "vmpool/secret")
    host.run("kvm-clone", "safe", "full", "--full", "--root", "vmpool/secret")
    for name in ("copy", "full"):
        assert host.run("zfs", "get", "-H", "-o", "value", "encryptionroot", f"vmpool/secret/{name}").out.strip() == \
            "vmpool/secret"
        assert host.checksum(f"/dev/zvol/vmpool/secret/{name}", 4) == host.checksum("/dev/zvol/vmpool/secret/safe", 4)
    host.run("kvm-delete", "-q", "--yes", "copy", "full", "--root", "vmpool/secret")
    # Nobody needs the key to remove what it locks.
    host.sh("zfs unmount vmpool/secret/.state/safe; zfs unmount vmpool/secret/.state/more; zfs unload-key vmpool/secret")
    host.run("kvm-delete", "-q", "--yes", "safe", "--root", "vmpool/secret")
    assert host.domains() == {"more": "shut off", "stranger": "shut off"}
    host.assert_datasets("""
        vmpool/secret
        vmpool/secret/.state
        vmpool/secret/.state/more
        vmpool/secret/more
        vmpool/secret/stranger
    """)
    remembered = re.findall("^root.*", host.run("cat", CONFIG, check=False).out, re.MULTILINE)
    assert remembered == [], "a root given by flag is remembered"


def test_pool_limit(host):
    host.sh("""
        truncate -s 1G /var/tmp/small
        zpool create -O mountpoint=none small /var/tmp/small
        zfs create small/vms
        zfs create -o compression=off -o mountpoint=/mnt/ballast small/ballast
        truncate -s 100M /root/disk.raw /root/holes.raw
        dd if=/dev/urandom of=/root/disk.raw bs=1M count=100 conv=notrunc status=none
        dd if=/dev/urandom of=/root/holes.raw bs=1M count=1 conv=notrunc status=none
        sync -f /root
    """)
    small = ["--root", "small/vms"]
    # The image alone would pass the limit of 80 % once there are 700 of about 970 MiB.
    host.sh("dd if=/dev/zero of=/mnt/ballast/a bs=4M count=175 status=none; zpool sync")
    host.refuses("kvm-create", "web", *BIOS[:1], "--image", "/root/disk.raw", *small,
                 says=["more than 80 % full", "100M more"], hint="--over-limit")
    host.run("kvm-create", "web", *BIOS[:1], "--image", "/root/holes.raw", *small, "--dry-run")
    host.run("kvm-create", "thin", *BIOS, *small)
    host.refuses("kvm-create", "thick", "--thick", *BIOS, *small, says="1.00G more", hint="--over-limit")
    host.sh("dd if=/dev/zero of=/mnt/ballast/b bs=4M count=25 status=none; zpool sync")
    host.refuses("kvm-create", "web", *BIOS, *small, says="more than 80 % full", hint="--over-limit")
    host.run("kvm-create", "web", *BIOS, *small, "--over-limit")
    # Out of space altogether: no snapshot is tried.
    # What was made just now is still being accounted for.
    host.sh("for i in 1 2 3 4 5; do zpool sync; zfs set reservation=$(zfs get -Hp -o value used,available small/ballast | "
            "awk '{ sum += $1 } END { print sum }') small/ballast && exit; sleep 1; done; exit 1")
    host.refuses("kvm-clone", "thin", "copy", *small, says="out of space", hint="free space")
    host.refuses("kvm-snap", "thin", *small, says="out of space", hint="free space")
    host.refuses("kvm-create", "more", *BIOS, *small, "--over-limit", says="out of space", hint="free space")


# ---- One host for all that follows ----


@shared
@pytest.mark.parametrize("firmware", ["uefi", "uefi-secure", "bios"])
def test_firmware(host, firmware):
    name = f"fw-{firmware}"
    with host.adds(f".state/{name}\n{name}"):
        host.run("kvm-create", name, *SMALL, "--no-tpm", "--firmware", firmware, "--cpu", "host")
    domain = host.definition(name)
    assert domain.find("devices/tpm") is None
    assert attributes(domain, "cpu")["mode"] == "host-passthrough"
    if firmware == "bios":
        assert domain.find("os/loader") is None and domain.find("os/nvram") is None
        return
    features = {feature.get("name"): feature.get("enabled") for feature in domain.findall("os/firmware/feature")}
    secure = "yes" if firmware == "uefi-secure" else "no"
    assert features == {"secure-boot": secure, "enrolled-keys": secure}
    assert (attributes(domain, "os/loader").get("secure") == "yes" if secure == "yes" else
            domain.find("os/loader") is None)
    if firmware == "uefi-secure":
        # What libvirt chooses is seen at the start.
        host.run("virsh", "start", name, "--paused")
        assert "OVMF_CODE_4M.ms.fd" in host.xml(name, "--security-info")
        assert host.sh(f"stat -c '%a' {STATE}/{name}/uefi_VARS.fd") == "600"
        host.run("virsh", "destroy", name)


@shared
def test_windows(host):
    bare = host.run("kvm-create", "win", *SMALL, "--os", "win11", "--iso", f"{MEDIA}/install.iso", "--dry-run")
    assert any("virtio-win.iso" in warning for warning in bare.warnings), bare
    result = host.run("kvm-create", "win", *SMALL, "--os", "win11", "--iso", f"{MEDIA}/install.iso", "--drivers",
                      f"{MEDIA}/virtio-win.iso", "--firmware", "uefi-secure")
    assert result.warnings == []
    domain = host.definition("win")
    enabled = {feature.tag for feature in domain.find("features/hyperv") if feature.get("state") == "on"}
    assert {"relaxed", "vapic", "spinlocks", "synic", "stimer"} <= enabled
    assert attributes(domain, "clock")["offset"] == "localtime"
    assert domain.find("clock/timer[@name='hypervclock']").get("present") == "yes"
    cds = domain.findall("devices/disk[@device='cdrom']")
    assert [cd.find("source").get("file") for cd in cds] == [f"{MEDIA}/install.iso", f"{MEDIA}/virtio-win.iso"]
    assert all(cd.find("readonly") is not None for cd in cds)
    assert "http://microsoft.com/win/11" in host.xml("win")


@shared
def test_storage(host):
    with host.adds("""
        .state/pg
        .state/my
        .state/thick
        pg
        pg-wal
        my
        thick
        """):
        host.run("kvm-create", "pg", *BIOS, "--workload", "postgres", "--disk", "wal=64M", "--sync", "always")
        host.run("kvm-create", "my", *BIOS, "--workload", "mysql")
        host.run("kvm-create", "thick", *BIOS, "--thick", "--volblocksize", "4K")
    for volume in ("pg", "pg-wal"):
        assert host.property(volume, "volblocksize", "sync") == ("8192", "always")
    assert host.property("pg-wal", "volsize", "com.kldload:disk") == (str(64 * MIB), "wal")
    assert host.property("my", "volblocksize") == "16384"
    blocksize, reserved = host.property("thick", "volblocksize", "refreservation")
    assert blocksize == "4096" and int(reserved) >= GIB  # and what the pool's layout costs beyond


@shared
def test_network(host):
    host.run("kvm-create", "bridged", *BIOS, "--bridge", "br0")
    host.run("kvm-create", "alone", *BIOS, "--network", "none", "--vnc-listen", "::1")
    assert attributes(host.definition("bridged"), "devices/interface/source") == {"bridge": "br0"}
    assert host.definition("alone").find("devices/interface") is None
    assert host.definition("alone").find("devices/graphics/listen").get("address") == "::1"


@shared
def test_warnings(host):
    host.run("virsh", "start", "first", "--paused")

    def warned(*flags):
        cpus = [] if "--cpus" in flags else ["--cpus", "1"]
        result = host.run("kvm-create", "warned", "--no-start", "--firmware", "bios", "--disk", "1", "--dry-run", *cpus,
                          *flags)
        assert len(result.warnings) == 1, result
        return result.warnings[0]

    with host.assert_unchanged():
        assert "128K" in warned("--volblocksize", "128K")
        assert "contradicts --workload postgres" in warned("--volblocksize", "64K", "--workload", "postgres")
        assert "sync=disabled" in warned("--sync", "disabled")
        assert f"'{ROOT}' has room for" in warned("--disk", "more=30T")
        assert "without a password" in warned("--vnc-listen", "0.0.0.0")
        assert "CPUs" in warned("--cpus", "64")
        assert "many times slower" in warned("--virt-type", "qemu")
        memory = int(host.sh("awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo"))
        assert "the host has" in warned("--ram", str(memory - 100))
        assert "rounded up" in warned("--disk", "more=1000001K")
        assert "QEMU's user may not enter" in warned("--iso", "/root/disk.raw")


@shared
def test_image_and_start(host):
    expected = host.checksum("/root/disk.raw", 64)
    # A relative path is the caller's.
    with host.adds("""
        .state/raw
        raw
        .state/cow
        cow
        """):
        result = host.sh("cd /root; kvm-create raw --image disk.raw --ram 256 --firmware bios --no-tpm 2>/dev/null")
        host.run("kvm-create", "cow", *BIOS, "--image", "/root/disk.qcow2", "--autostart")
    assert "virsh console raw" in result
    assert "VNC at 127.0.0.1" in result
    assert "virsh domifaddr raw" in result
    assert host.property("raw", "volsize") == str(64 * MIB)
    assert host.property("cow", "volsize") == str(GIB)
    host.run("zpool", "sync")
    for name in ("raw", "cow"):
        assert host.checksum(f"/dev/zvol/{ROOT}/{name}", 64) == expected
        assert int(host.property(name, "referenced")) < 5 * MIB, "zeros were written"
    machines = host.kvm_list("raw", "cow")
    assert {name: (row["state"], row["autostart"]) for name, row in machines.items()} == \
        {"raw": ("running", False), "cow": ("shut off", True)}
    # It runs confined.
    label = host.sh("cat /proc/$(cat /run/libvirt/qemu/raw.pid)/attr/current")
    assert label == f"libvirt-{host.uuid('raw')} (enforce)"
    host.run("virsh", "destroy", "raw")


@shared
def test_what_is_started(host):
    empty = host.run("kvm-create", "empty", *BIOS[1:])
    assert [line for line in empty.warnings if "not started" in line], empty
    assert "virsh start empty" in empty.out
    host.run("kvm-create", "installing", *BIOS[1:], "--iso", f"{MEDIA}/install.iso")
    assert host.domains()["empty"] == "shut off"
    assert host.domains()["installing"] == "running"
    cd = host.definition("installing").find("devices/disk[@device='cdrom']")
    assert cd.find("source").get("file") == f"{MEDIA}/install.iso" and cd.find("readonly") is not None
    host.run("virsh", "destroy", "installing")


@shared
def test_progress_and_quiet(host):
    # Only at a terminal, and gone when it is done.
    shown = host.sh("script -qec 'kvm-create bar --no-start --ram 256 --firmware bios --no-tpm "
                    "--image /root/disk.raw' /dev/null")
    assert re.search(r"\r\x1b\[K.*vms/bar.* %", shown), shown
    quiet = host.run("kvm-create", "quiet", *BIOS, "--quiet")
    assert (quiet.out, quiet.err) == ("", "")
    told = host.run("kvm-create", "told", *BIOS)
    assert f"Creating zvol {ROOT}/told (1G, volblocksize=65536)...\n  zfs create " in told.err


@shared
def test_seed(host):
    with host.adds("""
        .state/seeded
        seeded
        """):
        host.run("kvm-create", "seeded", *BIOS, "--user", "ann", "--ssh-key", "/root/key.pub", "--hostname",
                 "seed.example", "--password-hash", "$y$j9T$salt$hash")
    key = host.read("/root/key.pub").strip()
    image = f"{STATE}/seeded/seed.iso"
    assert sorted(host.sh(f"blkid -o value -s TYPE -s LABEL {image}").split()) == ["cidata", "iso9660"]
    seed = host.sh(f"mount -o loop,ro {image} /mnt; cd /mnt; head -n 99 *; cd /; umount /mnt")
    assert 'local-hostname: "seed.example"' in seed
    assert f"iid-{host.uuid('seeded')}" in seed
    assert 'name: "ann"' in seed and key in seed and "$y$j9T$salt$hash" in seed
    assert "==> user-data <==\n#cloud-config\n" in seed
    disk = [disk for disk in host.definition("seeded").findall("devices/disk")
            if disk.find("source").get("file") == image]
    # A virtio disk: cloud kernels know no SATA.
    assert len(disk) == 1 and disk[0].find("target").get("bus") == "virtio" and disk[0].find("readonly") is not None
    assert host.sh(f"stat -c %a {image}") == "600"

    host.write("/root/user-data", "#cloud-config\npackages: [hello]\n")
    host.write("/root/network-config", "version: 2\n")
    host.run("kvm-create", "asis", *BIOS, "--user-data", "/root/user-data", "--network-config",
             "/root/network-config", "--instance-id", "chosen")
    seed = host.sh(f"mount -o loop,ro {STATE}/asis/seed.iso /mnt; cd /mnt; head -n 99 *; cd /; umount /mnt")
    shown = host.run("kvm-clone", "asis", "asis-2", "--dry-run")
    assert [line for line in shown.warnings if "the network-config of 'asis'" in line], shown
    assert "packages: [hello]" in seed and "version: 2" in seed and 'instance-id: "chosen"' in seed
