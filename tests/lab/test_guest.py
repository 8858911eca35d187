# SPDX-License-Identifier: Apache-2.0
"""A real Debian guest: imported, booted, cloned. Two boots in all, as each takes minutes under emulation."""

import base64
import json
import time

import pytest
from host import GUEST, ROOT

BOOT = 900  # seconds; a boot takes about one minute on an idle machine

pytestmark = pytest.mark.module_state()


def ask(host, name, request):
    """The guest agent's answer, None while it has none."""
    result = host.run("virsh", "qemu-agent-command", name, json.dumps(request), "--timeout", "10", check=False)
    return result.json["return"] if result.rc == 0 else None


def inside(host, name, script):
    """What a script prints inside the guest, None when it fails or the agent does not answer."""
    begun = ask(host, name, {"execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", script], "capture-output": True}})
    if begun is None:
        return None
    for _ in range(120):
        status = ask(host, name, {"execute": "guest-exec-status", "arguments": {"pid": begun["pid"]}})
        if status is not None and status["exited"]:
            return base64.b64decode(status.get("out-data", "")).decode().strip() if status["exitcode"] == 0 else None
        time.sleep(1)
    return None


def booted(host, name):
    """Waits until cloud-init is done inside, then says who the guest thinks it is."""
    give_up = time.monotonic() + BOOT
    while time.monotonic() < give_up:
        if inside(host, name, "test -e /run/cloud-init/result.json") is not None:
            answer = inside(host, name, "hostname; cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub; "
                            "getent passwd ann; cat /home/ann/.ssh/authorized_keys; cat /root/written || true")
            if answer:
                return answer.splitlines()
        if host.domains()[name] != "running":
            reset_after_kvm_gave_up(host, name)
        time.sleep(3)
    raise AssertionError(f"{name} did not boot within {BOOT} s")


def reset_after_kvm_gave_up(host, name):
    """KVM below an emulated CPU gives up on an instruction now and then, whatever runs on it."""
    log = host.read(f"/var/log/libvirt/qemu/{name}.log")
    reason = host.run("virsh", "domstate", "--reason", name).out
    times = log.count("KVM internal error")
    assert RESETS.get(name, 0) < times < 4, f"{name} is {reason}\n{log[-2000:]}"
    RESETS[name] = times  # each of them explains one stop
    print(f"{name} boots again: {log[log.rindex('KVM internal error'):][:2000]}")
    host.run("virsh", "reset", name)
    host.run("virsh", "resume", name)


identities = {}
RESETS = {}


def test_import_boots_with_its_seed(host):
    host.sh("ssh-keygen -q -t ed25519 -N '' -C someone -f /root/key")
    result = host.run("kvm-create", "golden", "--image", GUEST, "--disk", "4", "--ram", "768", "--cpus", "1",
                      "--firmware", "bios", "--no-tpm", "--os", "debian12", "--user", "ann", "--ssh-key",
                      "/root/key.pub", timeout=600)
    assert "VNC at 127.0.0.1" in result.out
    golden = identities["golden"] = booted(host, "golden")
    assert golden[0] == "golden"
    assert any(line.startswith("ann:") for line in golden)
    assert host.read("/root/key.pub").strip() in golden
    # The bigger disk is there.
    size = int(inside(host, "golden", "blockdev --getsize64 /dev/vda"))
    assert size == 4 << 30
    assert inside(host, "golden", "echo here >/root/written; sync; echo done") == "done"
    # What the guest discards is given back.
    referenced = []
    for script in ("head -c 48M /dev/urandom >/root/large; sync", "rm /root/large; sync; fstrim /"):
        assert inside(host, "golden", f"{script}; echo done") == "done"
        host.run("zpool", "sync")
        referenced.append(int(host.property("golden", "referenced")))
    assert referenced[0] - referenced[1] > 40 << 20, referenced


def test_clone_boots_as_itself(host):
    """Of a running one: in the demo."""
    host.run("virsh", "destroy", "golden")
    host.run("kvm-clone", "golden", "web-1", "--start")
    web = identities["web-1"] = booted(host, "web-1")
    assert web[0] == "web-1" and web[-1] == "here"
    names, machine_ids, host_keys = zip(*(one[:3] for one in identities.values()))
    assert len(set(names)) == len(set(machine_ids)) == len(set(host_keys)) == 2, identities
    assert all(key.startswith("ssh-ed25519 ") for key in host_keys)
    # Each has an address of its own, although the clone's disk holds its source's machine-id until its first boot.
    leases = {words[2]: words for words in map(str.split, host.run("virsh", "-q", "net-dhcp-leases", "default").out.splitlines())}
    macs = [host.definition(name).find("devices/interface/mac").get("address") for name in ("golden", "web-1")]
    assert set(macs) <= leases.keys(), leases
    assert len({leases[mac][4] for mac in macs}) == 2, leases
    assert len({leases[mac][-1] for mac in macs}) == 2, leases
    host.refuses("kvm-delete", "golden", "--yes", says="machine 'web-1'")
    host.run("kvm-delete", "golden", "web-1", "--yes", "--force")
    host.assert_datasets(".state")
    assert host.sh(f"ls /dev/zvol/{ROOT} 2>/dev/null || true") == ""
