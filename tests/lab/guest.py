# SPDX-License-Identifier: Apache-2.0
"""The inside of a guest that boots, through its agent."""

import base64
import functools
import json
import time

from host import ROOT

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


def boot_of(host, name):
    """Which boot of the guest this is, once its agent answers."""
    give_up = time.monotonic() + BOOT
    while time.monotonic() < give_up:
        if boot := inside(host, name, "cat /proc/sys/kernel/random/boot_id"):
            return boot
        if host.domains()[name] != "running":
            reset_after_kvm_gave_up(host, name)
        time.sleep(2)
    raise AssertionError(f"{name} did not answer within {BOOT} s")


def again_if_kvm_gave_up(name):
    """A test of a guest that runs. If KVM stopped or reset the guest meanwhile, what it did is taken away, and it runs once
    more: any other failure stands. A triple fault below an emulated CPU resets a guest without a word in QEMU's log."""

    def wrap(test):
        @functools.wraps(test)
        def run(host, *args, **kwargs):
            known = {row["name"] for row in host.run("kvm-snap", name, "list", "--json").json}
            boot = boot_of(host, name)
            try:
                return test(host, *args, **kwargs)
            except AssertionError as problem:
                host.run("virsh", "resume", name, check=False)
                if boot_of(host, name) == boot:
                    raise
                print(f"{name} began anew meanwhile: {problem}")
            host.run("kld", "recover")
            mac = host.definition(name).find("devices/interface/mac").get("address")
            host.run("virsh", "domif-setlink", name, mac, "up")
            host.run("zfs", "inherit", "com.kldload:freeze", f"{ROOT}/{name}")
            others = [one for one in host.domains() if one != name]
            if others:
                host.run("kvm-delete", *others, "--yes", "--force")
            for row in host.run("kvm-snap", name, "list", "--json").json:
                if row["name"] not in known:
                    host.run("kvm-snap", name, "delete", row["name"], "--yes")
            return test(host, *args, **kwargs)

        return run

    return wrap
