# SPDX-License-Identifier: Apache-2.0
"""Runs on the lab's host: times commands against their peers, the repetitions interleaved, and prints JSON."""

import argparse
import json
import os
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


def datasets():
    """Of the machines: what each peer snapshots."""
    names = run("zfs", "list", "-Hr", "-o", "name", ROOT).split()
    return [name for name in names if name not in (ROOT, f"{ROOT}/.state")]


def forget_snapshots():
    """All of all machines, by name."""
    listed = run("zfs", "list", "-Hr", "-t", "snapshot", "-o", "name", ROOT).split()
    for name in sorted({line.split("@")[1] for line in listed}):
        if not name.startswith("clone-"):
            run("zfs", "destroy", "-r", f"{ROOT}@{name}")


SANOID = f"""[{ROOT}]
use_template = bench
recursive = yes
process_children_only = yes
[template_bench]
frequently = 0
hourly = 1
daily = 0
monthly = 0
yearly = 0
autosnap = yes
autoprune = yes
"""


def write_sanoid_conf():
    os.makedirs("/etc/sanoid", exist_ok=True)
    with open("/etc/sanoid/sanoid.conf", "w") as file:
        file.write(SANOID)


def hourly_run(repeat, machines):
    """Every machine has three datasets: disk, state, TPM."""
    create("source")
    # golden and edited are machines, too.
    clones = [f"h-{n}" for n in range(machines - 3)]
    run("kvm-clone", "-q", "source", *clones)
    write_sanoid_conf()
    names = datasets()
    note(f"{len(names)} datasets")

    def loop(n):
        return timed(*(["zfs", "snapshot", f"{name}@loop-{n}"] for name in names))

    times = {}
    interleaved(times, {
        f"kvm-snapshot, {machines} machines": (
            lambda n: timed(["kvm-snapshot", "-q"]), lambda n: forget_snapshots()),
        "sanoid --take-snapshots": (
            lambda n: timed(["sanoid", "--take-snapshots", "--force-update", "--quiet"]),
            lambda n: forget_snapshots()),
        "a loop of zfs snapshot": (loop, lambda n: forget_snapshots()),
    }, repeat)
    run("kvm-delete", "-q", "--yes", "source", *clones)
    return times


def prunes(repeat, count):
    """So many snapshots of datasets go, older than every rule; of ten machines with a disk and a state."""
    machines = [f"p-{n}" for n in range(10)]
    run("kvm-clone", "-q", "golden", *machines)
    parts = [name for machine in machines for name in (f"{ROOT}/{machine}", f"{ROOT}/.state/{machine}")]
    run("zfs", "set", "com.kldload:keep=last=2", ROOT)
    write_sanoid_conf()

    def make(kind):
        """Old ones, and two that are new: these stay."""
        # What sanoid knows of before it does not see anew in the same run.
        run("rm", "-f", "/var/cache/sanoid/snapshots.txt")
        now = time.time()
        for back in range(count // len(parts) + 1, -1, -1):
            moment = now - 3600 * (back + 72 if back > 1 else back)
            run("date", "-s", f"@{int(moment)}")
            utc = time.gmtime(moment)
            name = time.strftime("auto-%Y-%m-%dT%H:%M:%SZ" if kind == "auto" else "autosnap_%Y-%m-%d_%H:%M:%S_hourly", utc)
            run("zfs", "snapshot", "-o", "com.kldload:by=auto", "-o", "com.kldload:op=bench",
                *(f"{part}@{name}" for part in parts))
        run("date", "-s", f"@{int(now) + 60}")

    def there():
        return len(run("zfs", "list", "-Hr", "-t", "snapshot", "-o", "name", *parts).split())

    def measured(kind, prune):
        def measure(n):
            make(kind)
            before = there()
            seconds = prune()
            gone = before - there()
            note(f"{gone} of {before} gone")
            if gone < 0.9 * count:
                sys.exit(f"only {gone} of {before} were pruned")
            return seconds
        return measure

    def loop():
        listed = run("zfs", "list", "-H", "-d", "1", "-t", "snapshot", "-s", "creation", "-o", "name", *parts).split()
        doomed = [name for name in listed if "@auto" in name][:-2 * len(parts)]
        return timed(*(["zfs", "destroy", name] for name in doomed))

    times = {}
    interleaved(times, {
        f"kvm-snapshot --prune of {count} snapshots": (
            measured("auto", lambda: timed(["kvm-snapshot", "--prune", "-q", *machines])), lambda n: forget_snapshots()),
        "sanoid --prune-snapshots": (
            measured("sanoid", lambda: timed(["sanoid", "--prune-snapshots", "--quiet"])),
            lambda n: forget_snapshots()),
        "a loop of zfs destroy": (measured("auto", loop), lambda n: forget_snapshots()),
    }, repeat)
    run("zfs", "inherit", "com.kldload:keep", ROOT)
    run("kvm-delete", "-q", "--yes", *machines)
    return times


MANY_SNAPSHOTS = """
args = ...
for number = 1, tonumber(args["argv"][2]) do
  local failed = zfs.sync.snapshot(args["argv"][1] .. "@auto-" .. args["argv"][3] .. "-" .. number)
  if failed ~= 0 then error("snapshot " .. number .. ": " .. failed) end
end
"""


def snapshots(repeat, own, pool):
    """One machine's among those of others."""
    with open(f"{HERE}/snapshots.lua", "w") as file:
        file.write(MANY_SNAPSHOTS)
    run("kvm-clone", "-q", "golden", "shot")
    parts = [f"{ROOT}/shot", f"{ROOT}/.state/shot"]
    run("zfs", "create", "vmpool/others")
    for dataset, many in [*((part, own // len(parts)) for part in parts), ("vmpool/others", pool - own)]:
        for at in range(0, many, 500):
            run("zfs", "program", "-t", "100000000", "vmpool", f"{HERE}/snapshots.lua", dataset, str(min(500, many - at)),
                str(at))
    times = {}
    interleaved(times, {
        f"kvm-snap list, {own} of {pool} snapshots": (lambda n: timed(["kvm-snap", "shot", "list"]), lambda n: None),
        "zfs list -t snapshot of the same datasets": (
            lambda n: timed(["zfs", "list", "-t", "snapshot", "-o", "name,used,creation", *parts]), lambda n: None),
    }, repeat)
    run("zfs", "destroy", "-r", "vmpool/others")
    for part in parts:
        run("zfs", "destroy", f"{part}@%")
    run("kvm-delete", "-q", "--yes", "shot")
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--large", type=int, default=8192)
    parser.add_argument("--sizes", default="10,100,500")
    parser.add_argument("--loops", type=int, default=5)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--prune", type=int, default=2000)
    parser.add_argument("--prune-repeat", type=int, default=3)
    parser.add_argument("--own", type=int, default=1000)
    parser.add_argument("--pool", type=int, default=20000)
    parser.add_argument("--only", default="one,many,amounts,listings,hourly,prune,snapshots")
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
    if "hourly" in only:
        results["hourly"] = hourly_run(options.prune_repeat, options.machines)
    if "prune" in only:
        results["prune"] = prunes(options.prune_repeat, options.prune)
    if "snapshots" in only:
        results["snapshots"] = snapshots(options.repeat, options.own, options.pool)
    # Last: its machines stay.
    if "listings" in only:
        results["listings"] = listings(options.repeat, [int(size) for size in options.sizes.split(",")], options.loops)
    print(json.dumps(results))


main()
