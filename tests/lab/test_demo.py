# SPDX-License-Identifier: Apache-2.0
"""The demo with --here, on a host without the package: it shows what it promises and leaves nothing."""

import re

from host import GUEST, REPOSITORY, environment, lab

# What needs the network or hours: the packages to build with, the build, the making of a guest.
STAND_INS = {
    "tools/setup": "exit 0",
    "tools/install": 'cp /root/kld.deb "$2/"; echo "$2/kld.deb"',
    "lab/lab": f'[ "$1" = guest ] && echo {GUEST}',
}


STORY = [
    f"kvm-create demo-golden --image {GUEST} --ram 512 --cpus 1 --firmware bios --os debian12 --hostname demo-golden",
    "kvm-snap demo-golden snap first-boot --freeze",
    "kvm-snap demo-golden list",
    "kvm-clone demo-golden demo-web-1 demo-web-2 demo-web-3 --quiet",
    "kvm-list",
    "kvm-list --tree",
    "virsh -q start demo-web-1",
    "kvm-snap demo-web-1 snap before-upgrade",
    "kvm-clone demo-web-1 demo-web-1-copy",
    "kvm-snap demo-web-1 rollback before-upgrade --stop",
    "kvm-snap demo-web-1 kept",
    "kvm-list --tree",
    "kvm-snap demo-web-1 undo --stop",
    "kvm-snap demo-web-1 list",
    "kvm-delete demo-golden --force --yes",
    "kvm-delete --force --yes demo-golden demo-web-1 demo-web-2 demo-web-3 demo-web-1-copy --quiet",
    "kvm-list",
    "zfs list -r -t all vmpool/",
]


def pause_golden(host, then):
    """In the background, once it has begun to boot."""
    host.sh(f"setsid sh -c \"until virsh domstate demo-golden 2>&1 | grep -q running; do sleep 1; done; sleep 3; {then}; "
            "virsh suspend demo-golden\" </dev/null >/dev/null 2>&1 &")


def test_demo(host):
    host.sh("mkdir -p /root/kld/tools /root/kld/lab")
    lab("copy", REPOSITORY / "tools" / "demo", REPOSITORY / "tools" / "demo-story", f"{host.name}:/root/kld/tools/")
    lab("copy", environment("KLD_DEB"), f"{host.name}:/root/kld.deb")
    for path, text in STAND_INS.items():
        host.write(f"/root/kld/{path}", f"#!/bin/bash\n{text}\n")
        host.sh(f"chmod 755 /root/kld/{path}")
    host.create("bystander")
    host.run("dpkg", "--purge", "kldload-kvm")
    demo = ["/root/kld/tools/demo", "--here"]
    with host.assert_unchanged():
        pause_golden(host, "echo 'KVM internal error. Suberror: 1' >>/var/log/libvirt/qemu/demo-golden.log")
        result = host.run(*demo, "vmpool", timeout=2700)
        shown = result.out
        assert "demo-golden stopped: KVM internal error" in result.err, result
        assert f"packages to build with, /root/kld/build, and the guest, {GUEST}" in result.err, result
        assert host.sh("command -v kld || true") == ""
        assert host.sh("ls -d /etc/kldload 2>/dev/null || true") == ""
    # Every command is printed as typed, with what it answered.
    assert [line.split("kld-demo")[0] for line in re.findall(r"^\$ (.*)$", shown, re.MULTILINE)] == STORY, shown
    names = re.findall(r"^  hostname +(\S+)$", shown, re.MULTILINE)
    assert names == ["demo-golden", "demo-web-1"], shown
    for what in ("machine-id", "SSH key"):
        found = re.findall(rf"^  {what} +(\S.*)$", shown, re.MULTILINE)
        assert len(found) == len(set(found)) == 2, shown
    assert re.search(r"^@first-boot .* application ", shown, re.MULTILINE), shown
    assert re.findall(r"^  version +(\S*)$", shown, re.MULTILINE) == ["2", "1"], shown
    assert "├─ demo-web-1" in shown
    refused = shown[shown.index("$ kvm-delete demo-golden --force --yes"):]
    assert "machine 'demo-web-3'" in refused.split("\n# ")[0]
    assert host.sh("find /var/lib/kldload/state -mindepth 1 -maxdepth 1 -printf '%f\\n'") == "bystander"
    with host.assert_unchanged():
        result = host.run(*demo, "vmpool/nowhere", check=False)
        assert result.rc == 3 and "vmpool/nowhere" in result.err, result
    with host.assert_unchanged():
        pause_golden(host, "sed -i '/^KVM internal error/d' /var/log/libvirt/qemu/demo-golden.log")
        result = host.run(*demo, "vmpool", timeout=600, check=False)
        assert result.rc == 1 and "demo-golden is paused (user)" in result.err, result
    # A second one in its way, or machines of that name, it does not touch.
    host.run("zfs", "create", "vmpool/kld-demo")
    with host.assert_unchanged():
        result = host.run(*demo, "vmpool", check=False)
        assert result.rc == 3 and "zfs destroy -r vmpool/kld-demo" in result.err
    host.sh("zfs destroy vmpool/kld-demo; dpkg -i /root/kld.deb")
    host.create("demo-web-2")
    taken = host.run(*demo, "vmpool", check=False)
    assert taken.rc == 3 and "of these names already: demo-web-2" in taken.err
