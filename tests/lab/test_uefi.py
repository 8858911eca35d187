# SPDX-License-Identifier: Apache-2.0
"""Firmware variables and TPM of machines that run them. Emulated: UEFI under nested KVM ends the outer emulator."""

from host import ROOT, STATE, TPM


FIRMWARE = ["--virt-type", "qemu", "--disk", "64M", "--ram", "256", "--cpus", "1", "--no-start"]


def confinement(host, name):
    """AppArmor's label of the machine's QEMU and swtpm."""
    return host.sh(f"cat /proc/$(cat /run/libvirt/qemu/{name}.pid)/attr/current; "
                   f"for pid in $(pgrep swtpm); do if grep -qa {host.uuid(name)} /proc/$pid/cmdline; "
                   "then cat /proc/$pid/attr/current; fi; done").splitlines()


def test_variables_and_tpm_lie_in_the_machines_datasets(host):
    host.run("kvm-create", "fw", *FIRMWARE)
    uuid = host.uuid("fw")

    # With the TPM's filesystem not mounted the machine does not start with a blank one.
    host.run("zfs", "unmount", f"{ROOT}/.state/fw/tpm")
    assert host.run("virsh", "start", "fw", check=False).rc != 0
    assert host.sh(f"ls -A {TPM}/{uuid}") == ""
    host.run("zfs", "mount", f"{ROOT}/.state/fw/tpm")

    host.start("fw")
    assert host.sh(f"stat -f -c %T {STATE}/fw/uefi_VARS.fd {TPM}/{uuid}/tpm2/tpm2-00.permall") == "zfs\nzfs"
    assert int(host.sh(f"stat -c %s {STATE}/fw/uefi_VARS.fd")) > 100000
    assert host.sh("ls -A /var/lib/libvirt/qemu/nvram") == ""
    label = f"libvirt-{uuid} (enforce)"
    live = host.xml("fw", "--security-info")
    assert "OVMF_CODE_4M.fd" in live
    assert f"<label>libvirt-{uuid}</label>" in live and "model='apparmor'" in live
    labels = confinement(host, "fw")
    assert labels[0] == label and len(labels) == 2 and "enforce" in labels[1], labels

    # Cloned as it runs, with its variables and its TPM: the clone starts and has its own.
    host.run("kvm-clone", "fw", "fw-2", "--start")
    host.run("kvm-clone", "fw", "fw-3", "--tpm", "new")
    assert host.domains() == {"fw": "running", "fw-2": "running", "fw-3": "shut off"}
    other = host.uuid("fw-2")
    assert confinement(host, "fw-2")[0] == f"libvirt-{other} (enforce)"
    assert host.sh(f"ls {TPM}/{other}/tpm2/tpm2-00.permall {STATE}/fw-2/uefi_VARS.fd")
    assert host.sh(f"find /proc/[0-9]*/fd -lname {STATE}/fw/uefi_VARS.fd 2>/dev/null | wc -l || true") == "1", "the clone uses its source's variables"
    assert host.sh(f"ls -A {TPM}/{host.uuid('fw-3')}") == ""
    host.assert_datasets("""
        .state
        .state/fw
        .state/fw@clone-T1
        .state/fw@clone-T2
        .state/fw/tpm
        .state/fw/tpm@clone-T1
        .state/fw/tpm@clone-T2
        .state/fw-2 of .state/fw@clone-T1
        .state/fw-2/tpm of .state/fw/tpm@clone-T1
        .state/fw-3 of .state/fw@clone-T2
        .state/fw-3/tpm
        fw
        fw@clone-T1
        fw@clone-T2
        fw-2 of fw@clone-T1
        fw-3 of fw@clone-T2
    """)

    host.run("kvm-delete", "fw", "fw-2", "fw-3", "--yes", "--force")
    host.assert_datasets(".state")
    assert host.sh(f"find {STATE} {TPM} -mindepth 1") == ""
    assert host.sh("pgrep -l 'swtpm|qemu-system' || true") == ""
