# SPDX-License-Identifier: Apache-2.0
"""kvm-adopt: libvirt's machines on zvols, and machines that libvirt lost, into the layout."""

import pytest
from faults import at_record, plan_of, strace
from host import LIBVIRTD, ROOT, STATE, TPM


NVRAM = "/var/lib/libvirt/qemu/nvram"
FORGET = f"""
    systemctl stop {LIBVIRTD}
    rm -f /etc/libvirt/qemu/*.xml /etc/libvirt/qemu/autostart/*.xml
    systemctl start libvirtd.socket libvirtd.service
"""


def test_by_hand_with_firmware_and_tpm(host):
    """Two disks, one of them nested; UEFI variables and TPM where libvirt puts them."""
    host.sh(f"zfs create {ROOT}/old; zfs create -s -V 64M {ROOT}/old/disk0; zfs create -s -V 64M {ROOT}/swap; "
            "udevadm settle")
    host.fill("old/disk0", mib=2)
    host.define("legacy", f"/dev/zvol/{ROOT}/old/disk0", f"/dev/zvol/{ROOT}/swap",
                os=f"<nvram>{NVRAM}/legacy_VARS.fd</nvram>",
                devices="<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
                "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/root/seed.img'/>"
                "<target dev='vdc' bus='virtio'/><readonly/></disk>")
    uuid = host.uuid("legacy")
    host.sh(f"mkdir -p {NVRAM} {TPM}/{uuid}/tpm2; echo variables >{NVRAM}/legacy_VARS.fd; "
            f"echo sealed >{TPM}/{uuid}/tpm2/marker; chown -R tss:tss {TPM}/{uuid}/tpm2; virsh autostart legacy")
    guids = host.property("old/disk0", "guid"), host.property("swap", "guid")
    content = host.checksum(f"/dev/zvol/{ROOT}/old/disk0", 64)

    # Not a machine yet: listed, and left alone by the rest.
    assert host.kvm_list()["legacy"]["adopted"] is False
    host.refuses_all([(command, 3, f"domain 'legacy' is not a machine of {ROOT} yet", "kvm-adopt legacy") for command in (
        ["kvm-delete", "legacy", "--yes"], ["kvm-clone", "legacy", "copy"], ["kvm-snap", "legacy"],
        ["kvm-snap", "legacy", "list"])])

    # Shown, asked, then done.
    host.refuses("kvm-adopt", "legacy", says=["To take in 'legacy':", f"{ROOT}/legacy"], hint="--yes")
    with host.assert_unchanged():
        host.run("kvm-adopt", "legacy", "--dry-run")
    aside = f"{TPM}/{uuid}.before-"
    done = host.run("kvm-adopt", "legacy", "--yes")
    assert done.warnings == [f"warning: {ROOT}/old/disk0 leaves {ROOT}/old: what it inherits from there comes from {ROOT} then"]
    adopted = done.out
    assert f"rm -r {NVRAM}/legacy_VARS.fd {aside}" in adopted, "what is kept is not told"
    host.assert_datasets("""
        .state
        .state/legacy
        .state/legacy/tpm
        legacy
        legacy-vdb
        old
    """)
    assert (host.property("legacy", "guid"), host.property("legacy-vdb", "guid")) == guids, "not the same volumes"
    assert host.checksum(f"/dev/zvol/{ROOT}/legacy", 64) == content
    assert host.property("legacy", "com.kldload:machine", "com.kldload:disk") == ("legacy", "root")
    assert host.property("legacy-vdb", "com.kldload:machine", "com.kldload:disk") == ("legacy", "vdb")
    assert host.sh(f"cat {STATE}/legacy/uefi_VARS.fd {TPM}/{uuid}/tpm2/marker") == "variables\nsealed"
    assert host.sh(f"stat -c '%U %a' {TPM}/{uuid}/tpm2/marker") == "tss 644"
    assert host.property(".state/legacy/tpm", "mountpoint", "mounted") == (f"{TPM}/{uuid}", "yes")
    # What was copied stays until its owner removes it.
    assert host.sh(f"cat {NVRAM}/legacy_VARS.fd {aside}*/tpm2/marker") == "variables\nsealed"
    host.sh(adopted[adopted.index("rm -r"):])
    domain = host.definition("legacy")
    assert domain.findtext("uuid") == uuid
    assert domain.findtext("os/nvram") == f"{STATE}/legacy/uefi_VARS.fd"
    assert [source.get("dev") for source in domain.findall("devices/disk/source")] == \
        [f"/dev/zvol/{ROOT}/legacy", f"/dev/zvol/{ROOT}/legacy-vdb", None]
    assert host.kvm_list()["legacy"]["autostart"] is True
    again = host.run("kvm-adopt", "legacy", "--yes", check=False)
    assert again.rc == 3 and "in the layout already" in again.err

    # A machine like any other from now on.
    host.run("kvm-clone", "legacy", "copy")
    assert host.sh(f"cat {STATE}/copy/uefi_VARS.fd {TPM}/{host.uuid('copy')}/tpm2/marker") == "variables\nsealed"
    host.run("kvm-delete", "copy", "legacy", "--yes")
    host.assert_datasets(".state\nold")
    assert host.sh(f"find {STATE} {TPM} -mindepth 1") == ""


def test_made_by_virt_install(host):
    host.sh(f"zfs create -s -V 64M {ROOT}/vi; udevadm settle; virt-install --name vi --memory 128 --vcpus 1 "
            f"--disk path=/dev/zvol/{ROOT}/vi,format=raw --import --graphics none --noautoconsole "
            "--osinfo detect=off,require=off --print-xml >/root/vi.xml; virsh define /root/vi.xml", timeout=300)
    host.run("virsh", "start", "vi", "--paused")
    host.refuses("kvm-adopt", "vi", "--yes", says="machine 'vi' is paused", hint="virsh shutdown")
    host.run("virsh", "destroy", "vi")
    host.run("kvm-adopt", "--all", "--yes")
    host.assert_datasets("""
        .state
        .state/vi
        vi
    """)
    host.run("kvm-clone", "vi", "copy", "--start")
    assert host.domains() == {"vi": "shut off", "copy": "running"}


def test_made_by_kldloads_scripts(host):
    """Their form: a zvol of 64K blocks, q35, UEFI, TPM, a virtio disk without cache. It ran before, so that firmware and
    TPM wrote their files."""
    host.sh(f"zfs create -s -V 64M -o volblocksize=64K {ROOT}/web-1; udevadm settle; virt-install --name web-1 --ram 256 "
            f"--vcpus 1 --cpu host-model --machine q35 --disk /dev/zvol/{ROOT}/web-1,bus=virtio,cache=none --import "
            "--network network=default --graphics vnc,listen=127.0.0.1 --boot uefi --tpm emulator --os-variant debian11 "
            "--noautoconsole --print-xml >/root/web-1.xml; virsh define /root/web-1.xml", timeout=300)
    host.run("virsh", "start", "web-1", "--paused")
    host.run("virsh", "destroy", "web-1")
    uuid, nvram = host.uuid("web-1"), f"{NVRAM}/web-1_VARS.fd"
    sums = f"sha256sum <%s; cd {TPM}/{uuid}; find . -type f -exec sha256sum {{}} + | sort"
    before = host.sh(sums % nvram)
    assert len(before.splitlines()) >= 2, "a TPM without files"
    host.run("kvm-adopt", "web-1", "--yes")
    host.assert_datasets("""
        .state
        .state/web-1
        .state/web-1/tpm
        web-1
    """)
    assert host.sh(sums % f"{STATE}/web-1/uefi_VARS.fd") == before
    adopted = host.definition("web-1")
    assert adopted.findtext("os/nvram") == f"{STATE}/web-1/uefi_VARS.fd"
    assert adopted.find("devices/disk/driver").get("cache") == "none"
    host.run("kvm-clone", "web-1", "web-2")
    for name in ("web-1", "web-2"):
        host.run("virsh", "start", name, "--paused")
    host.run("kvm-delete", "--force", "--yes", "web-1", "web-2")
    host.assert_datasets(".state")


def test_by_the_name_of_a_storage_pool(host):
    """As Terraform's provider writes it."""
    host.sh(f"zfs create -s -V 64M {ROOT}/pooled; udevadm settle; virsh pool-create-as zvols dir --target /dev/zvol/{ROOT}")
    host.define("pooled", f"/dev/zvol/{ROOT}/pooled")
    host.sh(f"virsh dumpxml pooled --inactive | sed -e \"s:<disk type='block':<disk type='volume':\" "
            f"-e \"s:<source dev='/dev/zvol/{ROOT}/pooled'/>:<source pool='zvols' volume='pooled'/>:\" >/root/pooled.xml; "
            "virsh define /root/pooled.xml")
    assert "type='volume'" in host.xml("pooled")
    host.run("kvm-adopt", "pooled", "--yes")
    assert host.definition("pooled").find("devices/disk/source").attrib == {"dev": f"/dev/zvol/{ROOT}/pooled"}
    # Put back by hand: it is the machine's all the same.
    host.run("virsh", "define", "/root/pooled.xml")
    host.run("kvm-snap", "pooled", "snap", "s")
    host.run("kvm-clone", "pooled", "copy")
    assert host.definition("copy").find("devices/disk/source").attrib == {"dev": f"/dev/zvol/{ROOT}/copy"}
    host.run("kvm-delete", "copy", "pooled", "--yes")
    host.assert_datasets(".state")


def test_after_libvirt_was_reinstalled(host):
    """--all defines from the state filesystems what a new libvirt does not know, and takes in what it can."""
    host.create("web", "--user", "ann", tpm=True)
    host.run("kvm-clone", "web", "web-1")
    # Clones save their definition, so that it is as libvirt prints it.
    host.run("kvm-snap", "web-1", "snap", "one")
    definitions = {name: host.xml(name) for name in ("web", "web-1")}
    before = host.datasets()
    host.sh(FORGET)
    assert {name: row["state"] for name, row in host.kvm_list().items()} == {"web": "no domain", "web-1": "no domain"}
    host.refuses("kvm-clone", "web", "copy", says="libvirt does not know it", hint="kvm-adopt web")
    adopted = host.run("kvm-adopt", "--all", "--yes")
    assert len([one for one in adopted.warnings if "it is defined as it was saved at 20" in one]) == 2, adopted
    assert host.datasets() == before
    # libvirt sorts controllers anew when it reads what it wrote.
    assert {name: sorted(host.xml(name).splitlines()) for name in definitions} == \
        {name: sorted(xml.splitlines()) for name, xml in definitions.items()}
    assert host.domains() == {"web": "shut off", "web-1": "shut off"}
    assert host.run("kvm-adopt", "--all", "--yes").err.strip() == "Nothing to adopt."
    host.run("virsh", "start", "web")
    host.run("virsh", "destroy", "web")
    host.run("kvm-delete", "web-1", "web", "--yes")
    host.assert_datasets(".state")


def test_asks_at_a_terminal(host):
    host.sh(f"zfs create -s -V 64M {ROOT}/disk-of-plain; udevadm settle")
    host.define("plain", f"/dev/zvol/{ROOT}/disk-of-plain")
    ask = "script -qec 'kvm-adopt plain' /dev/null"
    with host.assert_unchanged():
        said = host.sh(ask, check=False, input="n\n")
        assert said.rc == 3 and f"{ROOT}/plain" in said.out and "not confirmed" in said.out, said
        said = host.sh(f"(sleep 8; printf '\\003'; sleep 3) | {ask}", check=False)
        assert said.rc == 130, said
    # Edited while the question stands: the edit stays.
    edited = host.sh(f"(sleep 12; echo y) | {ask} & sleep 6; virsh desc plain --config --new-desc edited; wait %1", check=False)
    assert edited.rc == 1 and "was changed meanwhile" in edited.out, edited
    assert "edited" in host.xml("plain") and not host.kvm_list()["plain"]["adopted"]
    host.sh(ask, input="y\n")
    assert "edited" in host.xml("plain")
    assert host.kvm_list()["plain"]["adopted"]
    host.sh("script -qec 'kvm-delete plain' /dev/null", input="y\n")
    assert host.kvm_list() == {}


def test_killed_while_it_defines_keeps_variables_and_tpm(host):
    """A machine that libvirt lost, defined again by recovery: what lies in its state stays."""
    host.run("kvm-create", "web", "-q", "--no-start", "--disk", "64M", "--ram", "256")
    tpm = f"{TPM}/{host.uuid('web')}/tpm2"
    host.sh(f"echo variables >{STATE}/web/uefi_VARS.fd; mkdir -p {tpm}; echo sealed >{tpm}/marker; chown -R tss:tss {tpm}")
    host.sh(FORGET)
    argv = ["kvm-adopt", "-q", "web", "--yes"]
    host.run(*strace(at_record(plan_of(host, argv), 2, "signal=KILL"), argv), check=False)
    assert host.domains() == {}
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    assert host.domains() == {"web": "shut off"}
    assert host.read(f"{STATE}/web/uefi_VARS.fd") == "variables\n" and host.read(f"{tpm}/marker") == "sealed\n"


def test_what_libvirt_keeps(host):
    """Managed save, libvirt's own snapshots and checkpoints, a block job, a transient domain: refused, as by the others."""
    host.sh(f"zfs create -s -V 64M {ROOT}/disk-of-odd; udevadm settle")
    host.define("odd", f"/dev/zvol/{ROOT}/disk-of-odd", start=True)
    adopt = ["kvm-adopt", "odd", "--yes"]
    host.run("virsh", "managedsave", "odd")
    host.refuses(*adopt, says="managed save image", hint="virsh managedsave-remove odd")
    host.run("virsh", "managedsave-remove", "odd")
    host.write("/root/snapshot.xml", f"<domainsnapshot><name>theirs</name><state>shutoff</state>"
               f"<creationTime>1700000000</creationTime><memory snapshot='no'/><disks><disk name='vda' snapshot='internal'/>"
               f"</disks>{host.xml('odd')}</domainsnapshot>")
    host.run("virsh", "snapshot-create", "odd", "/root/snapshot.xml", "--redefine")
    host.refuses(*adopt, says="snapshots of libvirt's own", hint="virsh snapshot-list odd")
    host.run("virsh", "snapshot-delete", "odd", "theirs", "--metadata")
    host.start("odd")
    host.sh("truncate -s 64M /var/lib/libvirt/images/mirror.raw; virsh blockcopy odd vda "
            "/var/lib/libvirt/images/mirror.raw --format raw --reuse-external --transient-job")
    host.refuses(*adopt, says="a block job is running", hint="virsh blockjob")
    host.run("virsh", "blockjob", "odd", "vda", "--abort")
    host.run("virsh", "undefine", "odd")
    host.refuses(*adopt, says="is a transient domain", hint="virsh define")


# ---- What cannot come in ----


def prepare(host):
    host.create("web")
    host.create("plain")
    host.sh(f"""
        zfs create -s -V 64M vmpool/outside
        for volume in one two held; do zfs create -s -V 64M {ROOT}/$volume; done
        qemu-img create -q -f qcow2 /var/lib/libvirt/images/file.qcow2 64M
        udevadm settle
    """)
    host.define("on-file", "/var/lib/libvirt/images/file.qcow2")
    host.define("on-outside", "/dev/zvol/vmpool/outside")
    host.define("half", f"/dev/zvol/{ROOT}/one", "/var/lib/libvirt/images/file.qcow2")
    host.define("thief", f"/dev/zvol/{ROOT}/web")
    host.define("left", f"/dev/zvol/{ROOT}/two")
    host.define("right", f"/dev/zvol/{ROOT}/two")
    host.define("diskless")
    host.define("missing", f"/dev/zvol/{ROOT}/never-there")


@pytest.mark.module_state(prepare=prepare)
def test_refused(host):
    host.refuses_all([
        (["kvm-adopt", "on-file", "--yes"], 3, "is not a zvol"),
        (["kvm-adopt", "on-outside", "--yes"], 3, f"lies outside {ROOT}"),
        (["kvm-adopt", "half", "--yes"], 3, "vdb: /var/lib/libvirt/images/file.qcow2 is not a zvol"),
        (["kvm-adopt", "thief", "--yes"], 3, "web"),
        (["kvm-adopt", "left", "--yes"], 3, "is a disk of domain 'right', too"),
        (["kvm-adopt", "missing", "--yes"], 3, "there is no volume"),
        (["kvm-adopt", "diskless", "--yes"], 3, "no disk to take in"),
        (["kvm-adopt", "nobody", "--yes"], 3, "nobody"),
        (["kvm-adopt", "web", "--yes"], 3, "vmpool/vms/web is a disk of domain 'thief', too"),
        (["kvm-adopt", "plain", "--yes"], 3, "in the layout already"),
        (["kvm-adopt"], 2, "name machines, or give --all"),
        (["kvm-adopt", "web", "--all"], 2, "name machines, or give --all"),
    ])


@pytest.mark.module_state(prepare=prepare)
def test_all_takes_in_what_it_can(host):
    host.sh(f"zfs create -s -V 64M {ROOT}/disk-of-good; udevadm settle")
    host.define("good", f"/dev/zvol/{ROOT}/disk-of-good")
    plain = host.run("kvm-adopt", "--all", "--dry-run", check=False)
    assert plain.rc == 3 and "not adopted: left, right, thief" in plain.errors[0], plain
    assert f"  - vda: {ROOT}/two is a disk of domain 'right', too\n" in plain.err
    result = host.run("kvm-adopt", "--all", "--yes", "--json", check=False)
    assert result.rc == 1, result
    assert {one.get("machine") or one["machines"][0]: "error" in one for one in result.json} == \
        {"good": False, "left": True, "right": True, "thief": True}
    assert next(one for one in result.json if one.get("machine") == "left")["error"]["exit"] == 3
    assert host.kvm_list()["good"]["adopted"] and not host.kvm_list()["left"]["adopted"]
