# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what the other tests rely on without looking."""

import subprocess
import tempfile
import time

from conftest import CORES, left_behind
from host import JOURNAL, LAB, Host, lab


def test_a_denial_is_seen(host, instance):
    """What AppArmor denies fails a test: machines run confined, and so they must get what they need."""
    assert left_behind(instance, host) == ""
    host.sh("aa-exec -p virt-aa-helper -- cat /etc/shadow 2>/dev/null || true")
    assert '"/etc/shadow"' in left_behind(instance, host)
    assert lab("denials", host.name, check=False)[0] == 1
    host.sh(f"touch {JOURNAL}/open.json {CORES}/program.1")
    assert left_behind(instance, host) == f"core dump: {CORES}/program.1\nleft in the journal: {JOURNAL}/open.json"
    assert left_behind(instance, host, journal_allowed=True) == f"core dump: {CORES}/program.1"
    host.sh(f"rm {JOURNAL}/open.json {CORES}/program.1")


def test_it_is_made_once_and_restored_in_seconds(host, instance):
    began = time.monotonic()
    assert "making" not in lab("make")[1]
    instance.restore()
    assert host.run("zpool", "list", "-H", "-o", "health").out == "ONLINE\n"
    assert time.monotonic() - began < 60
    code, said = lab("restore", host.name, "never-saved", check=False)
    assert code == 1 and "it has: ready installed" in said, said


def test_logging_in_and_copying_out(host, tmp_path):
    done = subprocess.run([LAB, "ssh", host.name], input="hostname; exit\n", text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and host.sh("hostname") in done.stdout, done
    host.write("/root/some-file", "content\n")
    lab("fetch", f"{host.name}:/root/some-file", tmp_path)
    assert (tmp_path / "some-file").read_text() == "content\n"
    assert host.name in lab("status")[1]


def test_machines_run_confined(host):
    host.create("web")
    host.start("web")
    assert host.sh("cat /proc/$(pgrep -o -f 'qemu-system.*guest=web,')/attr/current").startswith(f"libvirt-{host.uuid('web')}")
    assert host.run("virsh", "dumpxml", "web").out.count("<label>libvirt-") == 1


def test_a_power_cut_keeps_what_was_synced_alone(host):
    host.sh("echo kept >/root/kept; sync; echo lost >/root/lost")
    lab("cut", host.name)
    lab("boot", host.name, timeout=400)
    assert host.read("/root/kept") == "kept\n"
    assert host.sh("cat /root/lost 2>/dev/null || true").strip() != "lost"


def test_a_pair(monkeypatch):
    """Two hosts from one saved state: told apart by all that must differ, and joined by a network."""
    with tempfile.TemporaryDirectory(prefix="pair", dir="/var/tmp") as directory:
        # Whoever has a pair of their own keeps it.
        monkeypatch.setenv("KLDLOAD_LAB_DIR", directory)
        try:
            for name in ("a", "b"):
                lab("start", name, "--net", "pair", timeout=3600)
            a, b = Host("a"), Host("b")
            assert (a.sh("hostname"), b.sh("hostname")) == ("a", "b")
            assert a.sh("ssh -o BatchMode=yes b hostname") == "b" and b.sh("ssh -o BatchMode=yes a hostname") == "a"
            for fact in ("cat /etc/machine-id", "hostid", "virsh capabilities | grep '<uuid>'",
                         "zpool get -Hp -o value guid vmpool", "ip -br addr show pair0"):
                assert a.sh(fact) != b.sh(fact), fact
            a.sh("zfs snapshot vmpool/vms@sent; zfs send vmpool/vms@sent | ssh b zfs receive -u vmpool/received")
            assert b.sh("zfs list -H -o name vmpool/received@sent") == "vmpool/received@sent"
            # One falls, the other goes on.
            lab("cut", "a")
            assert b.run("ping", "-c", "1", "-W", "2", "a", check=False).rc != 0
            lab("restore", "a", "ready")
            assert b.sh("ssh -o BatchMode=yes a hostname") == "a"
            assert "pair0" in a.sh("ip -br addr") and a.sh("zfs list -H -t snapshot vmpool/vms") == ""
        finally:
            for name in ("a", "b"):
                lab("stop", name, check=False)
