# SPDX-License-Identifier: Apache-2.0
"""What libvirt is kept from starting, whoever asks it to."""

import re

from faults import background, background_status, end_background, hold, plan_of, record_before
from host import LIBVIRTD, ROOT, STATE, TPM
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
    # Nor from a file, without being defined.
    host.sh("virsh dumpxml golden --inactive >/root/golden.xml; virsh undefine golden --keep-nvram --keep-tpm")
    result = host.run("virsh", "create", "/root/golden.xml", check=False)
    assert result.rc == 1 and "machine 'golden' is a golden image" in result.err, result
    assert host.domains() == {}
    host.run("virsh", "define", "/root/golden.xml")
    host.run("kvm-clone", "golden", "web", "--start")
    assert host.domains()["web"] == "running"
    host.run("zfs", "inherit", "com.kldload:golden", f"{ROOT}/golden")
    starts(host, "golden")


def test_it_asks_nobody_that_waits_for_it(host):
    """libvirt waits until it has answered: it asks ZFS once, and never libvirt."""
    for name in ("golden", "web"):
        host.create(name)
        host.sh(f"virsh dumpxml {name} >/root/{name}.xml")
    host.run("zfs", "set", "com.kldload:golden=true", f"{ROOT}/golden")
    host.sh(f"systemctl stop {LIBVIRTD} 2>&1")
    for name, status, says in (("golden", 3, "is a golden image"), ("web", 0, "")):
        result = host.sh(f"strace -f -qq -e trace=execve,connect -e signal=none -o /tmp/guard "
                         f"/etc/libvirt/hooks/qemu.d/kld-start-guard {name} prepare begin - </root/{name}.xml", check=False)
        assert result.rc == status and says in result.err, result
        traced = host.read("/tmp/guard")
        assert "libvirt-sock" not in traced, traced
        started = [line for line in traced.splitlines() if "execve(" in line and line.endswith(" = 0")]
        assert len(started) <= 2, started
    host.sh("systemctl start libvirtd.socket libvirtd.service")


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


def test_the_watchdog_ends_with_its_guest(host):
    """While a guest runs whose agent says nothing, it may have a freeze before it; once it is off, it has none."""
    host.create("web")
    host.start("web")
    background(host, ["kld", "guard-thaw", host.uuid("web"), "--connect", "qemu:///system", "--pid", "4000000", "--seconds", "1"])
    host.sh("sleep 8; ! [ -s /tmp/job/rc ]")
    host.run("virsh", "destroy", "web")
    assert background_status(host) == (0, "")


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
    # Nor need names be such as a dataset can have.
    uuid, xml = host.uuid("windows"), host.xml("windows")
    for name in ("Win11 (test)", "büro", "x@home", "-h"):
        host.sh(f"virsh undefine {uuid}")
        host.write("/root/odd.xml", xml.replace("<name>windows<", f"<name>{name}<"))
        host.sh(f"virsh define /root/odd.xml; virsh start {uuid}; virsh destroy {uuid}")
    assert not re.search("kld", host.sh("journalctl -b -u libvirtd -o cat --grep 'start-guard' || true"))


def test_another_domain_may_mend_what_does_not_boot(host):
    """It has none of the machine's state: neither its firmware variables nor its TPM."""
    host.create("web", tpm=True)
    host.define("rescue", f"/dev/zvol/{ROOT}/web")
    starts(host, "rescue")
    host.sh(f"virsh undefine rescue; zfs unmount {TPM}/{host.uuid('web')}")
    host.define("rescue", f"/dev/zvol/{ROOT}/web")
    starts(host, "rescue")
    bars(host, "web", "state of machine 'web' is not mounted")
    # The machine itself, defined anew, and under another name.
    uuid, xml = host.uuid("web"), host.xml("web")
    host.run("virsh", "undefine", "web", "--keep-nvram", "--keep-tpm")
    host.write("/root/web.xml", xml.replace(uuid, "5f3c0f5e-0b5e-4c39-9f0e-0123456789ab"))
    host.run("virsh", "define", "/root/web.xml")
    bars(host, "web", "state of machine 'web' is not mounted")
    host.run("virsh", "undefine", "web", "--keep-nvram", "--keep-tpm")
    host.write("/root/web.xml", xml)
    host.run("virsh", "define", "/root/web.xml")
    host.run("virsh", "domrename", "web", "site")
    bars(host, "site", "state of machine 'web' is not mounted")
