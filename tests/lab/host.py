# SPDX-License-Identifier: Apache-2.0
"""The lab's host as the tests see it: run commands in it, and compare what it is before and after."""

import contextlib
import difflib
import json
import os
import re
import shlex
import subprocess
import tempfile
import textwrap
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "lab" / "lab"

ROOT = "vmpool/vms"
STATE = "/var/lib/kldload/state"
LIBVIRTD = "libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
TPM = "/var/lib/libvirt/swtpm"
JOURNAL = "/var/lib/kldload/journal"
CONFIG = "/etc/kldload/kvm.toml"
GUEST = "/var/lib/kldload-lab/guest.qcow2"

UTC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?:\.\d+)?"

# One line a fact, so that two states can be compared as text. No sizes, no times. Processes are slow to start under
# emulation: one of each.
STATE_SCRIPT = r"""
zfs get -Hp -t all -o name,property,value,source all | awk -F '\t' '
  $2 ~ /^(guid|origin|type|volsize|userrefs|mounted|keystatus)$/ || $4 == "local" || $4 == "received" {
    print "dataset " $1 ": " $2 "=" $3 }'
cd /etc/libvirt/qemu
virsh -q "list --all; $(sed -n 's:^  <uuid>\(.*\)</uuid>:dumpxml --inactive \1;:p' ./*.xml 2>/dev/null)" 2>&1 |
  sed 's/^/domain: /; s/^domain:  *[0-9-]*  */domain: /'
find autostart /var/lib/libvirt/qemu/save /var/lib/kldload/state /var/lib/libvirt/swtpm -mindepth 1 \
  -printf 'file %p %y %m %u:%g\n' 2>/dev/null | sort
find /var/lib/kldload/state -type f \( -name domain.xml -o -path '*/seed*' \) -print0 2>/dev/null | sort -z |
  xargs -0r sha256sum | sed 's/^/content /'
sed 's/^/config /' /etc/kldload/kvm.toml 2>/dev/null
true
"""


class CommandFailed(AssertionError):
    """A command that should have worked did not."""


@dataclass
class Result:
    rc: int
    out: str
    err: str

    def __str__(self):
        return f"exit {self.rc}\n--- stdout\n{self.out}--- stderr\n{self.err}"

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    @property
    def hints(self):
        return [line for line in self.err.splitlines() if line.startswith("hint:")]

    @property
    def warnings(self):
        return [line for line in self.err.splitlines() if line.startswith("warning:")]


def lab(*argv, timeout=300, check=True):
    """Runs lab/lab; its output is not a pipe, because what it starts in the background would keep that open."""
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run([LAB, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout)
        out.seek(0)
        text = out.read()
    if check and done.returncode != 0:
        raise CommandFailed(f"lab/lab {shlex.join(argv)}: exit {done.returncode}\n{text}")
    return done.returncode, text


def words(text):
    """The lines of a block of text without blanks, sorted."""
    return sorted(line.strip() for line in textwrap.dedent(text).splitlines() if line.strip())


class Host:
    def __init__(self, name):
        self.name = name
        self._known = None  # the last state(), while nothing ran since

    # ---- Running ----

    def run(self, *argv, check=True, input=None, timeout=300, env=None):
        """Runs a command on the host; arguments go through unchanged. `env`: further variables."""
        self._known = None
        argv = [str(word) for word in argv]
        if env:
            argv = ["env", *(f"{key}={value}" for key, value in env.items()), *argv]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
            if input is not None:
                given.write(input if isinstance(input, bytes) else input.encode())
                given.seek(0)
            try:
                done = subprocess.run([LAB, "run", self.name, "--", *argv],
                                      stdin=given, stdout=out, stderr=err, timeout=timeout)
            except subprocess.TimeoutExpired:
                err.seek(0)
                raise CommandFailed(f"{shlex.join(argv)}: no end after {timeout} s\n{err.read().decode()}") from None
            out.seek(0)
            err.seek(0)
            result = Result(done.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace"))
        if check and result.rc != 0:
            raise CommandFailed(f"{shlex.join(argv)}: {result}")
        return result

    def sh(self, script, check=True, timeout=300, input=None):
        """Runs a bash script, stopping at its first failure; the answer is its output without the last newline."""
        result = self.run("bash", "-euo", "pipefail", "-c", script, check=check, timeout=timeout, input=input)
        return result.out.rstrip("\n") if check else result

    def until(self, command, says, seconds=60, pause=0.5):
        """Repeats a shell command until its output has these words."""
        # Not by `grep -q`: it ends at the first match, and what writes to it then dies, and the pipe with it.
        self.sh(f"for i in $(seq {round(seconds / pause)}); do said=$({command}) || true; "
                f"if [[ $said == *{shlex.quote(says)}* ]]; then exit; fi; sleep {pause}; done; printf '%s\\n' \"$said\" >&2; exit 1",
                timeout=10 * seconds + 60)

    def spawn(self, *argv):
        """Starts a command and returns at once: a subprocess.Popen without streams."""
        self._known = None
        return subprocess.Popen([LAB, "run", self.name, "--", *map(str, argv)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def write(self, path, content):
        """Writes a file on the host, its directory, too."""
        self.run("bash", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "-", path, input=content)

    def read(self, path):
        return self.run("cat", path).out

    # ---- What is there ----

    def state(self):
        """Everything that a refused or undone command must leave alone, as lines of text: datasets, snapshots and
        bookmarks with guid, origin and local properties; domains with their inactive definitions; state and TPM files;
        the configuration."""
        if self._known is None:
            self._known = self.run("bash", "-c", STATE_SCRIPT).out.splitlines()
        return self._known

    @contextlib.contextmanager
    def assert_unchanged(self):
        before = self.state()
        yield
        self.assert_same(before)

    def assert_same(self, before):
        after = self.state()
        if before != after:
            diff = "\n".join(difflib.unified_diff(before, after, "before", "after", lineterm="", n=0))
            raise AssertionError(f"the host changed:\n{diff}")

    def datasets(self):
        """All of `zfs list -t all`, sorted: relative to the VM root, "NAME" or "NAME of ORIGIN". Times in snapshot
        names are T1, T2 … in the order of their creation. The pool and the root themselves are left out."""
        rows = [line.split("\t") for line in
                self.run("zfs", "list", "-Hp", "-t", "all", "-o", "name,origin,createtxg").out.splitlines()]
        times = []
        for name, _, _ in sorted(rows, key=lambda row: int(row[2])):
            found = re.search(UTC + "$", name)
            if found and found[0] not in times:
                times.append(found[0])

        def plain(name):
            name = re.sub(UTC + "$", lambda found: f"T{times.index(found[0]) + 1}", name)
            return name.removeprefix(ROOT + "/")

        return sorted(plain(name) + (f" of {plain(origin)}" if origin != "-" else "")
                      for name, origin, _ in rows if name not in (ROOT, ROOT.split("/")[0]))

    def assert_datasets(self, text):
        """The whole `zfs list -t all`, as datasets() has it, is exactly these lines."""
        assert self.datasets() == words(text)

    @contextlib.contextmanager
    def adds(self, text):
        """These lines are what the body adds to datasets(), and nothing goes."""
        before = set(self.datasets())
        yield
        after = set(self.datasets())
        assert before <= after, f"gone: {sorted(before - after)}"
        assert sorted(after - before) == words(text)

    def snapshots(self, dataset):
        """Names behind '@' of a dataset's snapshots, oldest first; `dataset` is relative to the root."""
        out = self.run("zfs", "list", "-Hp", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", "name",
                       f"{ROOT}/{dataset}").out
        return [line.split("@")[1] for line in out.splitlines()]

    def property(self, dataset, *names):
        """Values of a dataset's properties, one or a tuple; `dataset` is relative to the root."""
        out = self.run("zfs", "get", "-Hp", "-o", "value", ",".join(names), f"{ROOT}/{dataset}").out.splitlines()
        return out[0] if len(names) == 1 else tuple(out)

    def domains(self):
        """Names of all domains and their states: {"web": "shut off"}."""
        lines = self.run("virsh", "-q", "list", "--all").out.splitlines()
        return {words[1]: words[2].strip() for words in (line.split(None, 2) for line in lines if line.strip())}

    def xml(self, domain, *flags):
        """The inactive definition unless other flags are given."""
        return self.run("virsh", "dumpxml", domain, *(flags or ["--inactive"])).out

    def definition(self, domain):
        """The inactive definition as an ElementTree."""
        return ElementTree.fromstring(self.xml(domain))

    def uuid(self, domain):
        return self.run("virsh", "domuuid", domain).out.strip()

    def kvm_list(self, *argv):
        """`kvm-list --json` by name."""
        return {row["name"]: row for row in self.run("kvm-list", "--json", *argv).json}

    @contextlib.contextmanager
    def without_start_guard(self):
        """As where libvirt has not found its hook yet."""
        hook = "/etc/libvirt/hooks/qemu.d/kld-start-guard"
        self.sh(f"mv {hook} /root/")
        yield
        self.sh(f"mv /root/kld-start-guard {hook}")

    # ---- Cheap machines ----

    def create(self, name, *flags, tpm=False, size="1"):
        """A machine of one small empty disk, BIOS, 256 MiB, not started."""
        return self.run("kvm-create", name, "--no-start", "--disk", size, "--ram", "256", "--cpus", "1",
                        "--firmware", "bios", *([] if tpm else ["--no-tpm"]), *flags)

    def start(self, name):
        """Its firmware finds nothing to boot and waits: a machine that runs, at no cost."""
        self.run("virsh", "start", name)

    def fill(self, volume, mib=4, seek=0):
        """Writes random data to a volume of the root, and waits until ZFS has it."""
        self.sh(f"dd if=/dev/urandom of=/dev/zvol/{ROOT}/{volume} bs=1M count={mib} seek={seek} oflag=direct "
                f"conv=notrunc status=none; zpool sync")

    def checksum(self, device, mib):
        return self.sh(f"head -c {mib}M {device} | sha256sum | cut -c1-64")

    def define(self, name, *disks, os="", devices="", start=False):
        """A domain as people make them by hand, on devices or image files."""
        parts = ""
        for target, path in zip("abcdef", disks):
            kind, attribute = ("block", "dev") if path.startswith("/dev/") else ("file", "file")
            image = "qcow2" if path.endswith("qcow2") else "raw"
            parts += (f"<disk type='{kind}' device='disk'><driver name='qemu' type='{image}'/>"
                      f"<source {attribute}='{path}'/><target dev='vd{target}' bus='virtio'/></disk>")
        self.write(f"/root/{name}.xml", f"""<domain type='kvm'><name>{name}</name><memory unit='MiB'>128</memory>
            <os{' firmware="efi"' if 'nvram' in os else ''}><type arch='x86_64' machine='q35'>hvm</type>{os}</os>
            <features><acpi/></features><devices>{parts}{devices}</devices></domain>""")
        self.run("virsh", "define", f"/root/{name}.xml")
        if start:
            self.start(name)

    # ---- Refusals ----

    def run_all(self, commands):
        """Runs many commands in one go: their results. Each may be a list or a line for bash."""
        script = "exec </dev/null\n"
        for command in commands:
            line = command if isinstance(command, str) else shlex.join(map(str, command))
            script += f"( {line} ) >/tmp/out 2>/tmp/err; printf '%s\\0' $?; cat /tmp/out; printf '\\0'\n"
            script += "cat /tmp/err; printf '\\0'\n"
        fields = self.run("bash", "-c", script, timeout=600).out.split("\0")
        return [Result(int(fields[at]), fields[at + 1], fields[at + 2]) for at in range(0, len(fields) - 1, 3)]

    def refuses_all(self, table):
        """Each row is a command, its exit status and texts that its error, evidence or hint holds: refused as
        refuses() has it. The host is compared once, at the end: none changed anything, or one undid another."""
        before = self.state()
        problems = []
        for (command, code, *texts), result in zip(table, self.run_all(row[0] for row in table), strict=True):
            good = (result.rc == code and len(result.errors) == 1 and len(result.hints) == 1 and result.out == ""
                    and all(text in result.err for text in texts))
            if not good:
                problems.append(f"{command}: expected {code} and {texts}, got {result}")
        assert not problems, "\n".join(problems)
        self.assert_same(before)

    def refuses(self, *argv, code=3, says=(), hint="", **options):
        """The command is refused with this exit status, one clear line and a hint, and changes nothing.
        `says`: texts that its error or evidence holds."""
        before = self.state()
        result = self.run(*argv, check=False, **options)
        assert result.rc == code, result
        assert len(result.errors) == 1, result
        assert len(result.hints) == 1, result
        assert hint in result.hints[0], result
        for text in [says] if isinstance(says, str) else says:
            assert text in result.err, result
        assert result.out == "", result
        self.assert_same(before)
        return result

    # ---- For failures ----

    def evidence(self):
        """What a person would look at first."""
        return self.sh("journalctl --no-pager -b -n 60; echo; zfs list -t all; virsh list --all; "
                       f"ls -lR {JOURNAL} 2>&1 || true", check=False, timeout=60).out


def environment(name, default=""):
    return os.environ.get(name) or default
