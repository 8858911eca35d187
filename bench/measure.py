# SPDX-License-Identifier: Apache-2.0
"""Runs on the lab's host: times commands against their peers, the repetitions interleaved, and prints JSON."""

import argparse
import json
import subprocess
import sys
import time

ROOT = "vmpool/vms"
HERE = "/root/bench"
BLOCK = "/tmp/random-64M"


def run(*argv, check=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(*commands):
    """Seconds for the commands, one after the other."""
    start = time.monotonic()
    for argv in commands:
        run(*argv)
    return round(time.monotonic() - start, 3)


def note(text):
    print(text, file=sys.stderr, flush=True)


def interleaved(times, peers, repeat):
    """peers: name to (measure, clean up). One of each, then the next round."""
    for number in range(repeat):
        for name, (measure, clean_up) in peers.items():
            times.setdefault(name, []).append(measure(number))
            note(f"{name}: {times[name][-1]} s")
            clean_up(number)
            # What udev still does for the last one is not the next one's.
            run("udevadm", "settle")


def forget(name, snapshot=True):
    run("virsh", "-q", "undefine", name, "--keep-nvram", "--keep-tpm")
    run("zfs", "destroy", f"{ROOT}/{name}")
    if snapshot:
        run("zfs", "destroy", f"{ROOT}/golden@{name}")


def create(name, *flags):
    run("kvm-create", name, "-q", "--no-start", "--disk", "20", "--ram", "256", "--cpus", "1", "--firmware", "bios",
        *flags)


def fill(name, mib):
    """Incompressible for blocks of 64K: the same random 64 MiB again and again."""
    run("bash", "-c", f"[ -s {BLOCK} ] || head -c 64M /dev/urandom >{BLOCK}")
    for at in range(0, mib, 64):
        run("dd", f"if={BLOCK}", f"of=/dev/zvol/{ROOT}/{name}", "bs=1M", f"seek={at}", "conv=notrunc", "oflag=direct",
            "status=none")
    run("zpool", "sync", "vmpool")


def one_clone(repeat):
    with open(f"{HERE}/golden.xml", "w") as file:
        file.write(run("virsh", "dumpxml", "golden", "--inactive"))
    # Its snapshot is what the others use again; their number stays the same in every round.
    run("kvm-clone", "-q", "golden", "reuse-first")
    times = {}
    interleaved(times, {
        "kvm-clone, the source unchanged since its last clone": (
            lambda n: timed(["kvm-clone", "-q", "golden", f"reuse-{n}"]),
            lambda n: run("kvm-delete", "-q", "--yes", f"reuse-{n}")),
        "kvm-clone with a snapshot": (
            lambda n: timed(["kvm-clone", "-q", "edited", f"new-{n}"]),
            lambda n: run("kvm-delete", "-q", "--yes", f"new-{n}")),
        "by hand: zfs snapshot, zfs clone, virsh define": (
            lambda n: timed([f"{HERE}/by-hand", ROOT, "golden", f"hand-{n}", f"{HERE}/golden.xml"]),
            lambda n: forget(f"hand-{n}")),
        "zfs snapshot, zfs clone, virt-clone --preserve-data": (
            lambda n: timed([f"{HERE}/by-virt-clone", ROOT, "golden", f"virt-{n}"]),
            lambda n: forget(f"virt-{n}")),
    }, repeat)
    run("kvm-delete", "-q", "--yes", "reuse-first")
    return times


def many_clones(repeat, count):
    def clean_loop(n):
        for number in range(1, count + 1):
            name = f"loop-{n}-{number}"
            run("virsh", "-q", "undefine", name, "--keep-nvram", "--keep-tpm")
            run("zfs", "destroy", f"{ROOT}/{name}")
            run("zfs", "destroy", f"{ROOT}/.state/{name}")
        for dataset in ("golden", ".state/golden"):
            run("zfs", "destroy", f"{ROOT}/{dataset}@loop-{n}-")

    def delete(prefix):
        return lambda n: run("kvm-delete", "-q", "--yes", *(f"{prefix}-{n}-{i}" for i in range(1, count + 1)))

    times = {}
    interleaved(times, {
        f"kvm-clone --count {count}": (
            lambda n: timed(["kvm-clone", "-q", "golden", "--count", str(count), "--prefix", f"many-{n}-"]),
            delete("many")),
        f"a bare loop of the library calls, {count} times": (
            lambda n: timed([f"{HERE}/clone_loop", ROOT, "golden", f"loop-{n}-", str(count)]), clean_loop),
        f"kvm-clone, {count} times": (
            lambda n: timed(*(["kvm-clone", "-q", "golden", f"single-{n}-{i}"] for i in range(1, count + 1))),
            delete("single")),
    }, repeat)
    return times


def amounts(repeat, large):
    create("small", "--no-tpm")
    create("large", "--no-tpm")
    fill("small", 64)
    note(f"writing {large} MiB")
    fill("large", large)
    times = {}
    # A fresh block before each: no snapshot is used again.
    interleaved(times, {
        f"{mib} MiB": (
            lambda n, name=name: timed(["kvm-clone", "-q", name, f"{name}-{n}"]),
            lambda n, name=name: (run("kvm-delete", "-q", "--yes", f"{name}-{n}"), fill(name, 64)))
        for name, mib in (("small", 64), ("large", large))
    }, repeat)
    run("kvm-delete", "-q", "--yes", "small", "large")
    return times


def listings(repeat, sizes, loops):
    columns = "name,used,referenced,compressratio,origin"
    times = {}
    there = 0
    for size in sizes:
        # golden and edited are machines, too.
        if size - 2 > there:
            run("kvm-clone", "-q", "golden", *(f"m-{n}" for n in range(there, size - 2)))
            there = size - 2

        def loop(_):
            start = time.monotonic()
            for name in run("virsh", "-q", "list", "--all", "--name").split():
                run("virsh", "-q", "dominfo", name)
                run("zfs", "get", "-Hp", "-o", "property,value", "used,referenced,compressratio,origin",
                    f"{ROOT}/{name}")
            return round(time.monotonic() - start, 3)

        note(f"{size} machines")
        peers = {
            f"{size}: kvm-list": (lambda n: timed(["kvm-list"]), lambda n: None),
            f"{size}: zfs list -d 1 -t volume and virsh list --all": (
                lambda n: timed(["zfs", "list", "-d", "1", "-t", "volume", "-o", columns, ROOT],
                                ["virsh", "list", "--all"]), lambda n: None),
        }
        interleaved(times, peers, repeat)
        interleaved(times, {f"{size}: a loop of virsh dominfo and zfs get": (loop, lambda n: None)},
                    loops if size > 50 else repeat)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--large", type=int, default=8192)
    parser.add_argument("--sizes", default="10,100,500")
    parser.add_argument("--loops", type=int, default=5)
    parser.add_argument("--only", default="one,many,amounts,listings")
    options = parser.parse_args()
    create("golden", "--no-tpm")
    fill("golden", 64)
    create("edited", "--no-tpm")
    run("virsh", "desc", "edited", "--config", "--new-desc", "never what was saved")
    results = {}
    only = options.only.split(",")
    if "one" in only:
        results["one"] = one_clone(options.repeat)
    if "many" in only:
        results["many"] = many_clones(options.repeat, options.count)
    if "amounts" in only:
        results["amounts"] = amounts(options.repeat, options.large)
    if "listings" in only:
        results["listings"] = listings(options.repeat, [int(size) for size in options.sizes.split(",")], options.loops)
    print(json.dumps(results))


main()
