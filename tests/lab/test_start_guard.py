# SPDX-License-Identifier: Apache-2.0
"""What libvirt is kept from starting, whoever asks it to."""

import re

from faults import end_background, hold, plan_of, record_before
from host import ROOT, STATE, TPM
from sweeps import kill_at


def starts(host, name):
    host.run("virsh", "start", name)
    assert host.domains()[name] == "running"
    host.run("virsh", "destroy", name)


def bars(host, name, *says):
    """virsh itself says why."""
    result = host.run("virsh", "start", name, check=False)
    assert result.rc == 1, result
    for text in says:
        assert text in result.err, result
    assert host.domains()[name] == "shut off"


def test_a_golden_image_does_not_start(host):
    host.create("golden")
    host.run("zfs", "set", "com.kldload:golden=true", f"{ROOT}/golden")
    bars(host, "golden", "machine 'golden' is a golden image", "kvm-clone golden NAME --start")
    host.run("kvm-clone", "golden", "web", "--start")
    assert host.domains()["web"] == "running"
    host.run("zfs", "inherit", "com.kldload:golden", f"{ROOT}/golden")
    starts(host, "golden")


def test_state_that_is_not_mounted(host):
    host.run("kvm-create", "web", "--no-start", "--disk", "1", "--ram", "256", "--cpus", "1")
    tpm = f"{TPM}/{host.uuid('web')}"
    host.run("zfs", "unmount", tpm)
    bars(host, "web", "state of machine 'web' is not mounted", f"zfs mount {ROOT}/.state/web/tpm")
    host.run("zfs", "unmount", f"{STATE}/web")
    bars(host, "web", "state of machine 'web' is not mounted", f"zfs mount {ROOT}/.state/web")
    host.run("zfs", "mount", f"{ROOT}/.state/web")
    host.run("zfs", "mount", f"{ROOT}/.state/web/tpm")
    starts(host, "web")
    # A name that libvirt alone gave it changes nothing.
    host.run("virsh", "domrename", "web", "site")
    host.run("zfs", "unmount", tpm)
    bars(host, "site", "state of machine 'web' is not mounted")


def test_an_operation_that_has_not_ended(host):
    host.create("web")
    host.create("mail")
    host.run("kvm-snap", "web", "snap", "then")
    argv = ["kvm-snap", "web", "rollback", "then"]
    plan = plan_of(host, argv)
    hold(host, argv, record_before(plan, "rename-dataset"), 20, plan)
    bars(host, "web", "machine 'web' is being changed by another command", "rollback (")
    starts(host, "mail")
    end_background(host)
    host.sh("for i in $(seq 120); do pgrep -x kvm-snap || exit 0; sleep 0.5; done; exit 1")
    kill_at(host, argv, record_before(plan, "rename-dataset"), plan)
    bars(host, "web", "an operation on machine 'web' was cut off", "kld recover")
    host.run("kld", "recover")
    starts(host, "web")


def test_what_is_set_aside_bars_nobody(host):
    """A version that was half dropped is not the machine."""
    host.create("web")
    host.run("kvm-snap", "web", "snap", "then")
    host.run("kvm-snap", "web", "rollback", "then")
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    kill_at(host, ["kvm-snap", "web", "drop", kept["name"], "--yes"], 2)
    starts(host, "web")
    host.run("kld", "recover")


def test_another_disk_comes_first(host):
    """Whose root it lies below says nothing of the others."""
    host.run("zfs", "create", "-V", "16M", "vmpool/loose")
    host.create("golden")
    host.run("zfs", "set", "com.kldload:golden=true", f"{ROOT}/golden")
    host.sh(f"udevadm settle; virsh dumpxml golden --inactive | sed 's:/dev/zvol/{ROOT}/golden:/dev/zvol/vmpool/loose:' "
            ">/root/golden.xml; virsh define /root/golden.xml; virsh attach-disk golden "
            f"/dev/zvol/{ROOT}/golden vdz --config")
    bars(host, "golden", "machine 'golden' is a golden image")


def test_our_own_starts_pass(host):
    """On the way there, on the way back, and in recovery."""
    host.create("web")
    host.run("kvm-snap", "web", "snap", "then")
    host.start("web")
    host.run("kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1s")
    assert host.domains()["web"] == "running"
    argv = ["kvm-snap", "web", "undo", "--stop", "--timeout", "1s"]
    plan = plan_of(host, argv)
    acts = [step["act"] for step in plan["steps"]]
    kill_at(host, argv, acts.index("start-domain") + 2, plan)
    bars(host, "web", "an operation on machine 'web' was cut off")
    host.run("kld", "recover")
    assert host.domains()["web"] == "running"


def test_what_is_not_ours(host):
    host.run("qemu-img", "create", "-q", "-f", "raw", "/var/tmp/alien.img", "16M")
    host.define("alien", "/var/tmp/alien.img")
    starts(host, "alien")
    host.run("zfs", "create", "-V", "16M", "vmpool/loose")
    host.sh("udevadm settle")
    host.define("loose", "/dev/zvol/vmpool/loose")
    starts(host, "loose")
    # The link of one with a blank in its name has another character there.
    host.sh("zfs create -V 16M 'vmpool/of windows'; udevadm settle")
    host.define("windows", host.sh("ls /dev/zvol/vmpool/of*windows"))
    starts(host, "windows")
    assert not re.search("kld", host.sh("journalctl -b -u libvirtd -o cat --grep 'start-guard' || true"))
