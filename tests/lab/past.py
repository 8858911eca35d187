# SPDX-License-Identifier: Apache-2.0
"""Machines that go back and forth: what each part of them says, and which snapshots there are."""

from host import ROOT, STATE, TPM


def put(host, volume, text):
    """Writes a line to the beginning of a volume, and waits until ZFS has it."""
    host.sh(f"printf '%-511s\\n' '{text}' | dd of=/dev/zvol/{ROOT}/{volume} oflag=direct conv=notrunc status=none; zpool sync")


def get(host, volume):
    return host.sh(f"head -c 511 /dev/zvol/{ROOT}/{volume} | tr -d '\\0'").strip()


def change(host, text, disks=("web", "web-data")):
    """Every part of the machine says `text` then."""
    for disk in disks:
        put(host, disk, text)
    host.sh(f"mkdir -p {TPM}/{host.uuid('web')}/tpm2; echo '{text}' | tee {TPM}/{host.uuid('web')}/tpm2/marker "
            f">{STATE}/web/uefi_VARS.fd; virsh -q desc web --config --new-desc '{text}'")


def says(host, text, disks=("web", "web-data")):
    found = [get(host, disk) for disk in disks]
    found += host.sh(f"cat {TPM}/{host.uuid('web')}/tpm2/marker {STATE}/web/uefi_VARS.fd; "
                     "virsh -q desc web --config").splitlines()
    assert set(found) == {text}, found
    assert f"<description>{text}</description>" in host.read(f"{STATE}/web/domain.xml")


def guids(host):
    """Of all snapshots, with the name behind '@', wherever they lie."""
    out = host.run("zfs", "list", "-Hp", "-t", "snapshot", "-o", "name,guid").out
    return sorted((line.split("\t")[0].split("@")[1], line.split("\t")[1]) for line in out.splitlines())


def genid(host):
    return host.definition("web").findtext("genid")


def ready(host):
    """web with two disks and a TPM, snapshots @first, @then and @later, a clone of each of the last two."""
    host.create("web", "--disk", "data=64M", "--autostart", tpm=True)
    change(host, "first")
    host.run("kvm-snap", "-q", "web", "snap", "first")
    change(host, "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("kvm-clone", "-q", "web", "early", "--snap", "then")
    change(host, "later")
    host.run("kvm-snap", "-q", "web", "snap", "later")
    host.run("kvm-clone", "-q", "web", "late", "--snap", "later")
    change(host, "now")
