# SPDX-License-Identifier: Apache-2.0
"""The inside of a guest that boots, through its agent."""

import base64
import json
import time

BOOT = 900  # seconds; a boot takes about one minute on an idle machine
RESETS = {}


def ask(host, name, request):
    """The guest agent's answer, None while it has none."""
    result = host.run("virsh", "qemu-agent-command", name, json.dumps(request), "--timeout", "10", check=False)
    return result.json["return"] if result.rc == 0 else None


def begin_inside(host, name, script):
    """Runs a script inside the guest and does not wait for it; None when the agent does not answer."""
    return ask(host, name, {"execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", script], "capture-output": True}})


def inside(host, name, script):
    """What a script prints inside the guest, None when it fails or the agent does not answer."""
    begun = begin_inside(host, name, script)
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
