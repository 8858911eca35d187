# SPDX-License-Identifier: Apache-2.0
"""kvm-delete: what goes, what hangs on it, what stands in the way."""

import time

from faults import at_record, plan_of, record_before, strace
from host import ROOT, STATE, TPM


NOTHING = ".state"
TOUCHING_WEB = (["kvm-delete", "web", "--yes", "--force"], ["kvm-clone", "web", "copy"], ["kvm-snap", "web"])


# Takes one when libvirt has lost the machine and its snapshots are listed for the last time.
SNAPSHOTS_BEHIND_THE_LOOK = f"""#!/bin/sh
/usr/sbin/zfs "$@"
status=$?
case "$*" in
*snapshot*' {ROOT}/web')
  if ! [ -e /root/behind ] && ! virsh domstate web >/dev/null 2>&1; then
    /usr/sbin/zfs snapshot {ROOT}/web@behind && echo {ROOT}/web@behind >/root/behind
  fi ;;
esac
exit $status
"""


def left_behind(host):
    """Everything of machines that should be gone: definitions, files, mounts, devices."""
    return host.sh(f"""
        udevadm settle
        virsh -q list --all --name | sed '/^$/d'
        find {STATE} {TPM} /var/lib/libvirt/qemu/nvram /var/lib/libvirt/qemu/save /etc/libvirt/qemu/autostart \\
          /dev/zvol/{ROOT} -mindepth 1 2>/dev/null || true
        find /etc/libvirt/qemu -maxdepth 1 -name '*.xml'
    """)


def test_everything_goes(host):
    host.run("kvm-create", "web", "--no-start", "--disk", "64M", "--disk", "data=64M", "--ram", "256", "--user", "ann",
             "--autostart")
    host.sh(f"echo sealed >{TPM}/{host.uuid('web')}/marker; echo variables >{STATE}/web/uefi_VARS.fd")
    host.run("kvm-snap", "web", "snap", "one")
    asked = host.refuses("kvm-delete", "web", says=["nobody is there to ask", "machine 'web' (shut off)",
                                                    f"{ROOT}/web (", f"{ROOT}/web-data (", "1 snapshot", "in all"],
                         hint="--yes")
    assert f"{ROOT}/.state/web/tpm (" in asked.err
    with host.assert_unchanged():
        planned = host.run("kvm-delete", "web", "--dry-run").out
        said = host.sh("script -qec 'kvm-delete web' /dev/null", check=False, input="n\n")
        assert said.rc == 3 and "not confirmed" in said.out
    # Undefined last but one, destroyed last.
    assert planned.index("virsh undefine") < planned.index("zfs destroy")
    assert "--keep-nvram" in planned and "--keep-tpm" in planned
    host.run("kvm-delete", "web", "--yes")
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""


def test_dependent_clones(host):
    host.create("golden")
    host.run("kvm-snap", "golden", "snap", "base")
    host.run("kvm-clone", "golden", "web-1", "web-2")
    host.run("kvm-clone", "golden", "old", "--snap", "base")
    host.run("kvm-clone", "web-1", "grandchild")
    clone = host.snapshots("golden")[1]
    refused = host.refuses("kvm-delete", "golden", "--yes", says=[
        "'golden' has machines cloned from it",
        f"{ROOT}/web-1, machine 'web-1', (from {ROOT}/golden@{clone})",
        f"{ROOT}/web-2, machine 'web-2', (from {ROOT}/golden@{clone})",
        f"{ROOT}/old, machine 'old', (from {ROOT}/golden@base)",
        f"'zfs promote {ROOT}/web-1' would move to it: {ROOT}/golden@base, {ROOT}/golden@{clone}"])
    assert f"{ROOT}/old, {ROOT}/web-2 would then hang on it" in refused.err or \
        f"{ROOT}/web-2, {ROOT}/old would then hang on it" in refused.err
    assert f"'zfs promote {ROOT}/old' would move to it: {ROOT}/golden@base\n" in refused.err
    host.refuses("kvm-delete", "golden", "web-1", "--yes", says="grandchild")

    # A clone that nobody manages holds it, too.
    host.run("zfs", "clone", f"{ROOT}/golden@base", "vmpool/elsewhere")
    host.refuses("kvm-delete", "golden", "web-1", "web-2", "old", "grandchild", "--yes", says="vmpool/elsewhere")
    host.run("zfs", "destroy", "vmpool/elsewhere")

    # The snapshot a clone hangs on goes with its last user, if it is ours.
    host.run("kvm-delete", "web-2", "--yes")
    assert host.snapshots("golden") == ["base", clone]
    host.run("kvm-delete", "old", "--yes")
    assert host.snapshots("golden") == ["base", clone], "made by hand: not ours to remove"
    host.run("kvm-delete", "grandchild", "--yes")
    host.assert_datasets("""
        .state
        .state/golden
        .state/golden@base
        .state/golden@clone-T1
        .state/web-1 of .state/golden@clone-T1
        golden
        golden@base
        golden@clone-T1
        web-1 of golden@clone-T1
    """)
    # A hold keeps it, and another name or mark would, too.
    host.run("zfs", "hold", "mine", f"{ROOT}/golden@{clone}")
    host.run("kvm-clone", "golden", "web-2")
    host.run("kvm-delete", "web-1", "web-2", "--yes")
    assert clone in host.snapshots("golden")
    host.run("zfs", "release", "mine", f"{ROOT}/golden@{clone}")
    host.run("kvm-clone", "golden", "web-3")
    assert host.property("web-3", "origin") == f"{ROOT}/golden@{clone}"
    host.run("zfs", "set", "com.kldload:by=hand", f"{ROOT}/golden@{clone}")
    host.run("kvm-delete", "web-3", "--yes")
    assert clone in host.snapshots("golden")

    # With all its clones in one command, whatever their order.
    host.run("zfs", "set", "com.kldload:by=clone", f"{ROOT}/golden@{clone}")
    host.run("kvm-clone", "golden", "a", "b")
    host.run("kvm-clone", "b", "c")
    result = host.run("kvm-delete", "golden", "a", "b", "c", "--yes")
    assert "golden, a, b, c and all storage removed" in result.out
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""


def test_last_user_takes_the_snapshot_along(host):
    host.create("golden", tpm=True)
    host.run("kvm-clone", "golden", "web-1", "web-2")
    host.run("kvm-delete", "web-1", "--yes")
    (last,) = host.snapshots("golden")
    host.refuses("kvm-delete", "web-2", says=f"{ROOT}/golden@{last} (nothing else was cloned from it)")
    host.run("kvm-delete", "web-2", "--yes")
    host.assert_datasets("""
        .state
        .state/golden
        .state/golden/tpm
        golden
    """)
    # After a promotion by hand the golden machine is the clone; all still goes.
    host.run("kvm-clone", "golden", "heir")
    for dataset in ("heir", ".state/heir", ".state/heir/tpm"):
        host.run("zfs", "promote", f"{ROOT}/{dataset}")
    host.refuses("kvm-delete", "heir", "--yes", says="machine 'golden'")
    host.run("kvm-delete", "golden", "--yes")
    host.run("kvm-delete", "heir", "--yes")
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""


def test_what_is_another_s_stays(host):
    """A name like its own makes no volume its own, nor does its mark in another place."""
    host.create("web")
    host.sh(f"zfs create -s -V 8M {ROOT}/web-notes; zfs create -s -V 8M -o com.kldload:machine=web {ROOT}/x")
    host.run("kvm-snap", "web", "snap", "s")
    host.run("kvm-clone", "web", "copy")
    assert host.snapshots("web-notes") == host.snapshots("x") == []
    host.run("kvm-delete", "web", "copy", "--yes")
    host.assert_datasets(".state\nweb-notes\nx")


def test_another_domain_of_its_name_stays(host):
    """libvirt was made anew, and somebody gave a new machine the name of one whose datasets are still there."""
    host.create("web")
    host.sh("virsh undefine web; qemu-img create -q -f qcow2 /var/lib/libvirt/images/web.qcow2 64M; udevadm settle")
    host.define("web", "/var/lib/libvirt/images/web.qcow2", start=True)
    host.refuses("kvm-delete", "web", "--yes", "--force", hint="virsh domrename web NEW",
                 says=["domain 'web' has none of the disks of machine 'web'", "vda: /var/lib/libvirt/images/web.qcow2"])
    # With one of them it is the machine; what else it has is told, and stays.
    host.run("virsh", "attach-disk", "web", f"/dev/zvol/{ROOT}/web", "vdb", "--config")
    host.run("virsh", "destroy", "web")
    host.refuses("kvm-delete", "web", says="but not /var/lib/libvirt/images/web.qcow2 (vda), which is none of its zvols",
                 hint="--yes")
    host.run("kvm-delete", "web", "--yes")
    host.assert_datasets(NOTHING)
    host.sh("test -f /var/lib/libvirt/images/web.qcow2")


def test_state_that_a_domain_needs_stays(host):
    """A machine under another name, and one whose disk was moved, still have their variables and TPM where they were."""
    host.run("kvm-create", "web", "--no-start", "--disk", "64M", "--ram", "256")
    uuid = host.uuid("web")
    host.sh(f"echo variables >{STATE}/web/uefi_VARS.fd; echo sealed >{TPM}/{uuid}/marker; virsh domrename web www; "
            f"zfs rename {ROOT}/web {ROOT}/www; udevadm settle; "
            f"virsh dumpxml www --inactive | sed 's:{ROOT}/web:{ROOT}/www:' >/root/www.xml; virsh define /root/www.xml")
    needed = {"says": [f"its TPM: {ROOT}/.state/web/tpm", f"its firmware variables: {STATE}/web/uefi_VARS.fd"]}
    host.refuses("kvm-delete", "web", "--yes", hint="virsh undefine www --keep-nvram --keep-tpm",
                 says=["domain 'www' needs the state of machine 'web'", *needed["says"]])

    host.sh(f"zfs create vmpool/other; zfs rename {ROOT}/www vmpool/other/web; zfs create -s -V 64M -o com.kldload:machine=web "
            f"-o com.kldload:disk=root {ROOT}/web; udevadm settle; virsh domrename www web; "
            "virsh dumpxml web --inactive | sed 's:/dev/zvol/[^ ]*www:/dev/zvol/vmpool/other/web:' >/root/web.xml; "
            "virsh define /root/web.xml")
    assert "/dev/zvol/vmpool/other/web" in host.xml("web")
    host.refuses("kvm-delete", "web", "--yes", **needed)
    assert host.sh(f"cat {STATE}/web/uefi_VARS.fd {TPM}/{uuid}/marker") == "variables\nsealed"
    # Without what needs it, it goes.
    host.sh("virsh undefine web --keep-nvram --keep-tpm; zfs destroy -r vmpool/other")
    host.run("kvm-delete", "web", "--yes")
    host.assert_datasets(NOTHING)


def test_held_where_no_process_shows_it(host):
    """Loop devices and other mount namespaces are found before anything is destroyed."""
    host.create("web", tpm=True)
    host.run("kvm-snap", "web", "snap", "first")
    before = host.state()
    loop = host.sh(f"losetup -f --show /dev/zvol/{ROOT}/web")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and f"loop device {loop} has {ROOT}/web open" in result.err, result
    host.sh(f"losetup -d {loop}")
    host.assert_same(before)
    # As a container may that was given the host's file systems.
    host.sh(f"nohup setsid unshare -m --propagation private sh -c 'cd {STATE}/web; exec sleep 600' >/dev/null 2>&1 & sleep 3")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and "sleep (pid " in result.err, result
    assert f"'{ROOT}/.state/web' is in use: " in result.err and " uses it in a mount namespace of its own" in result.err
    assert "Everything done so far was undone." in result.err, result
    host.assert_same(before)
    host.sh("pkill -x sleep")
    # A bind mount is another place of it.
    host.sh(f"mkdir /root/bind; mount --bind {STATE}/web /root/bind")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and f"'{ROOT}/.state/web' is in use: it is mounted at /root/bind, too" in result.err, result
    host.assert_same(before)
    host.sh("umount /root/bind; rmdir /root/bind")
    # A mount of its disk there is one, too.
    host.sh(f"mkfs.ext4 -q /dev/zvol/{ROOT}/web; nohup setsid unshare -m --propagation private sh -c "
            f"'mount /dev/zvol/{ROOT}/web /mnt; exec sleep 600' >/dev/null 2>&1 & sleep 3")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and "a mounted file system of sleep (pid " in result.err, result
    host.assert_same(before)
    host.sh("pkill -x sleep; sleep 1")
    # So is one of a file system that names its device by the path alone.
    host.run("kvm-create", "wide", "--no-start", "--disk", "128M", "--ram", "256", "--firmware", "bios", "--no-tpm")
    host.sh(f"mkfs.btrfs -q /dev/zvol/{ROOT}/wide; mount /dev/zvol/{ROOT}/wide /mnt")
    before = host.state()
    result = host.run("kvm-delete", "wide", "--yes", check=False)
    assert result.rc == 1 and f"a mounted file system has {ROOT}/wide open" in result.err, result
    host.assert_same(before)
    host.sh("umount /mnt")
    host.run("kvm-delete", "web", "wide", "--yes")
    host.assert_datasets(NOTHING)


def test_what_is_sent_stays_and_is_told(host):
    """The last clone goes; the snapshot that it was made from is being sent, and stays."""
    host.create("golden")
    host.fill("golden", mib=8)
    host.run("kvm-clone", "golden", "web")
    (snapshot,) = host.snapshots("golden")
    host.sh(f"mkfifo /root/slow; nohup setsid sh -c 'zfs send {ROOT}/golden@{snapshot} >/root/slow' >/dev/null 2>&1 & "
            "nohup setsid sh -c 'exec sleep 600 </root/slow' >/dev/null 2>&1 & sleep 2")
    result = host.run("kvm-delete", "web", "--yes")
    (warning,) = result.warnings
    assert f"{ROOT}/golden@{snapshot}" in warning and "stays" in warning and "busy" in warning, result
    assert host.run("kld", "recover").out == "Nothing to recover.\n"
    host.sh("pkill -x sleep; sleep 1")
    host.assert_datasets(f"""
        .state
        .state/golden
        .state/golden@clone-T1
        golden
        golden@clone-T1
    """)
    host.run("kvm-snap", "golden", "delete", snapshot, "--yes")
    host.run("kvm-delete", "golden", "--yes")


# Puts another volume into the place of the machine's when libvirt has lost it.
ANOTHER_IN_ITS_PLACE = f"""#!/bin/sh
case "$*" in
*'value guid {ROOT}/web '*)
  if ! [ -e /root/replaced ] && ! virsh domstate web >/dev/null 2>&1; then
    touch /root/replaced
    /usr/sbin/zfs destroy -r {ROOT}/web && /usr/sbin/zfs create -s -V 8M {ROOT}/web
  fi ;;
esac
exec /usr/sbin/zfs "$@"
"""


def test_what_took_its_place_stays(host):
    host.create("web", tpm=True)
    host.write("/usr/local/sbin/zfs", ANOTHER_IN_ITS_PLACE)
    host.sh("chmod +x /usr/local/sbin/zfs")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    host.sh("rm /usr/local/sbin/zfs")
    assert result.rc == 4 and f"'{ROOT}/web' is another dataset by now" in result.err, result
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    host.assert_datasets(".state\nweb")


def test_running(host):
    host.create("web", tpm=True)
    host.start("web")
    host.refuses("kvm-delete", "web", "--yes", says="machine 'web' is running", hint="--force")
    host.run("kvm-delete", "web", "--yes", "--force")
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""


def test_in_the_way(host):
    host.create("web")
    host.create("web-b")
    host.run("kvm-snap", "web", "snap", "held")
    host.run("zfs", "hold", "mine", f"{ROOT}/.state/web@held")
    host.refuses("kvm-delete", "web", "--yes", says=f"'{ROOT}/.state/web@held' is held", hint="zfs holds")
    host.run("zfs", "release", "mine", f"{ROOT}/.state/web@held")

    # A disk that another domain uses as well.
    host.run("virsh", "attach-disk", "web-b", f"/dev/zvol/{ROOT}/web", "vdb", "--config")
    host.refuses("kvm-delete", "web", "--yes", says="a disk of domain 'web-b', too", hint="virsh detach-disk")
    host.run("virsh", "detach-disk", "web-b", "vdb", "--config")
    # The same of a running one: it has it only from its next start on.
    host.start("web-b")
    host.run("virsh", "attach-disk", "web-b", f"/dev/zvol/{ROOT}/web", "vdb", "--config")
    host.refuses("kvm-delete", "web", "--yes", says="a disk of domain 'web-b', too", hint="virsh detach-disk")
    host.run("virsh", "detach-disk", "web-b", "vdb", "--config")
    host.run("virsh", "destroy", "web-b")

    # The same by the name that a storage pool of libvirt's gives it.
    host.sh(f"virsh pool-create-as zvols dir --target /dev/zvol/{ROOT}")
    host.write("/root/disk.xml", "<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
               "<source pool='zvols' volume='web'/><target dev='vdb' bus='virtio'/></disk>")
    host.run("virsh", "attach-device", "web-b", "/root/disk.xml", "--config")
    host.refuses("kvm-delete", "web", "--yes", says="a disk of domain 'web-b', too", hint="virsh detach-disk")
    # A pool that cannot be looked into tells nothing, once libvirt has forgotten what was there.
    host.sh("virsh pool-destroy zvols; systemctl restart libvirtd")
    host.refuses("kvm-delete", "web", "--yes", says=f"whether {ROOT}/web is a disk of domain 'web-b', too, cannot be told",
                 hint="virsh pool-start")
    host.run("virsh", "detach-disk", "web-b", "vdb", "--config")

    # A filesystem that somebody mounted over its state: what is read and written there is another's.
    host.run("zfs", "create", "-o", f"mountpoint={STATE}/web", "vmpool/over")
    host.refuses_all([(command, 3, f"vmpool/over lies over {ROOT}/.state/web", f"umount {STATE}/web") for command in TOUCHING_WEB])
    host.run("zfs", "destroy", "vmpool/over")

    # The host itself may use it.
    host.sh(f"mkswap -q /dev/zvol/{ROOT}/web; swapon /dev/zvol/{ROOT}/web")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and f"the host's swap space has {ROOT}/web open" in result.err, result
    host.sh(f"swapoff /dev/zvol/{ROOT}/web; mkfs.ext4 -q /dev/zvol/{ROOT}/web; mount /dev/zvol/{ROOT}/web /mnt")
    result = host.run("kvm-delete", "web", "--yes", check=False)
    assert result.rc == 1 and f"a mounted file system has {ROOT}/web open" in result.err, result
    host.sh("umount /mnt")

    # Who has the device open is waited for, then named; all is as before.
    before = host.state()
    host.sh(f"nohup setsid sleep 600 <>/dev/zvol/{ROOT}/web >/dev/null 2>&1 & echo $! >/root/holder")
    pid = host.sh("cat /root/holder")
    began = time.monotonic()
    result = host.run("kvm-delete", "web", "--yes", check=False)
    took = time.monotonic() - began
    assert result.rc == 1 and len(result.errors) == 1, result
    assert f"{ROOT}/web" in result.errors[0] and "sleep" in result.errors[0] and pid in result.errors[0], result
    assert "Everything done so far was undone." in result.err
    assert 5 <= took < 60, took
    host.assert_same(before)
    # Gone within the five seconds: no error. A snapshot by somebody's timer behind the last look goes along.
    host.write("/usr/local/sbin/zfs", SNAPSHOTS_BEHIND_THE_LOOK)
    host.sh("chmod +x /usr/local/sbin/zfs")
    host.sh(f"kill {pid}; nohup setsid sleep 2 <>/dev/zvol/{ROOT}/web >/dev/null 2>&1 &")
    host.run("kvm-delete", "web", "web-b", "--yes")
    assert host.read("/root/behind") == f"{ROOT}/web@behind\n", "no snapshot was taken"
    host.sh("rm /usr/local/sbin/zfs")
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""

    host.refuses("kvm-delete", "web", "--yes", says="no machine 'web'")


def test_what_libvirt_keeps(host):
    """Managed save, libvirt's own snapshots and checkpoints, block jobs, transient domains."""
    host.create("web", tpm=True)
    host.start("web")
    host.run("virsh", "managedsave", "web")
    host.refuses("kvm-delete", "web", "--yes", says="managed save image", hint="--discard-saved")
    # A snapshot of it says what it is, and so does a clone.
    host.run("kvm-snap", "web", "snap", "asleep")
    assert host.property("web@asleep", "com.kldload:consistency") == "saved"
    cloned = host.run("kvm-clone", "web", "copy")
    assert [line for line in cloned.warnings if "sleeps in a managed save image" in line], cloned
    assert host.property(f"web@{host.snapshots('web')[1]}", "com.kldload:consistency") == "saved"
    host.run("kvm-delete", "copy", "--yes")
    # Cut off behind the point where the image is gone, it is finished.
    discard = ["kvm-delete", "web", "--yes", "--discard-saved"]
    plan = plan_of(host, discard)
    host.run(*strace(at_record(plan, record_before(plan, "discard-saved"), "signal=KILL"), discard), check=False)
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""
    host.create("web", tpm=True)
    host.start("web")
    host.run("virsh", "managedsave", "web")
    host.run("kvm-delete", "web", "--yes", "--discard-saved")
    host.assert_datasets(NOTHING)
    assert left_behind(host) == ""

    # A snapshot by libvirt, of the definition alone: made so, as internal ones want qcow2.
    host.create("web")
    host.write("/root/snapshot.xml", f"<domainsnapshot><name>theirs</name><state>shutoff</state>"
               f"<creationTime>1700000000</creationTime><memory snapshot='no'/><disks><disk name='vda' snapshot='internal'/>"
               f"</disks>{host.xml('web')}</domainsnapshot>")
    host.run("virsh", "snapshot-create", "web", "/root/snapshot.xml", "--redefine")
    host.refuses_all([(command, 3, "snapshots of libvirt's own", "virsh snapshot-list") for command in TOUCHING_WEB])
    host.run("virsh", "snapshot-delete", "web", "theirs", "--metadata")

    # One as backups take it: from now on the machine runs from a file, which no snapshot of ours holds.
    host.start("web")
    host.run("virsh", "snapshot-create-as", "web", "backup", "--disk-only", "--no-metadata", "--diskspec",
             "vda,file=/var/lib/libvirt/images/web.backup")
    host.refuses("kvm-snap", "web", says="vda: /var/lib/libvirt/images/web.backup is not a zvol of this machine")
    host.refuses("kvm-clone", "web", "copy", says="vda: /var/lib/libvirt/images/web.backup is not a zvol")
    host.refuses("kvm-delete", "web", "--yes", says="machine 'web' is running")
    assert host.kvm_list("web")["web"]["state"] == "running"
    host.run("virsh", "blockcommit", "web", "vda", "--active", "--pivot", "--wait")

    # A block job: a copy of the running disk that never ends.
    host.sh("truncate -s 1G /var/lib/libvirt/images/mirror.raw; virsh blockcopy web vda "
            "/var/lib/libvirt/images/mirror.raw --format raw --reuse-external --transient-job")
    host.refuses_all([(command, 3, "a block job is running", "vda", "virsh blockjob") for command in TOUCHING_WEB])
    host.run("virsh", "blockjob", "web", "vda", "--abort")

    # A checkpoint cannot be made on raw disks; its definition can be there all the same.
    host.write("/root/checkpoint.xml", f"<domaincheckpoint><name>theirs</name><creationTime>1700000000</creationTime>"
               f"<disks><disk name='vda' checkpoint='no'/></disks>{host.xml('web')}</domaincheckpoint>")
    host.run("virsh", "checkpoint-create", "web", "/root/checkpoint.xml", "--redefine")
    host.refuses_all([(command, 3, "checkpoints of libvirt's own", "virsh checkpoint-list") for command in TOUCHING_WEB])
    host.run("virsh", "checkpoint-delete", "web", "theirs", "--metadata")
    host.run("virsh", "destroy", "web")

    # A transient domain of that name.
    xml = host.xml("web")
    host.run("virsh", "undefine", "web", "--keep-tpm")
    host.write("/root/web.xml", xml)
    host.run("virsh", "create", "/root/web.xml")
    host.refuses_all([(command, 3, "is a transient domain", "virsh define") for command in TOUCHING_WEB])
    host.run("virsh", "destroy", "web")
    # Datasets without a domain can be deleted.
    host.run("kvm-delete", "web", "--yes")
    host.assert_datasets(NOTHING)
