# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what the other tests rely on without looking."""

import tempfile

from host import Host, lab


def test_a_denial_is_seen(host, instance):
    """What AppArmor denies fails a test: machines run confined, and so they must get what they need."""
    assert instance.new_denials() == ""
    host.sh("aa-exec -p virt-aa-helper -- cat /etc/shadow 2>/dev/null || true")
    assert '"/etc/shadow"' in instance.new_denials()
    assert lab("denials", host.name, check=False)[0] == 1


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
