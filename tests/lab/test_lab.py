# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what the other tests rely on without looking."""

from host import lab


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
