# SPDX-License-Identifier: Apache-2.0
"""A restored real host for each test.

KLD_DEB      package to install in the lab
KLD_BINARY   or the program alone (build/release/src/kld), with its links
KLD_LAB      name of the lab instance (t); each process of a parallel run has its own
KLD_LAB_KEEP if set, the instance is left running at the end
"""

import os
import re
import time

import pytest

pytest.register_assert_rewrite("host", "faults", "past", "sweeps")

from host import JOURNAL, REPOSITORY, Host, environment, lab  # noqa: E402

LINKS = ["kvm-create", "kvm-clone", "kvm-snap", "kvm-snapshot", "kvm-delete", "kvm-list", "kvm-adopt"]
CORES = "/var/crash"
BY_THE_CALENDAR = "/run/by-the-calendar"
# Debian's profile for what libvirt runs leaves out OpenSSL's configuration; swtpm does well without.
KNOWN_DENIAL = re.compile(r'name="/etc/ssl/openssl.cnf" .*comm="swtpm"')


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="also the tests that take long")
    parser.addoption("--points", type=int, help="with --soak: at most so many points of a fault, chosen by KLD_SEED")


def pytest_configure(config):
    # All processes of a parallel run choose the same.
    os.environ.setdefault("KLD_SEED", str(int(time.time())))
    for line in (
        "leaves_journal: the test ends with an open journal on purpose",
        "module_state(prepare=None, lasts=False): consecutive tests of the module share one restored host, which "
        "prepare(host) sets up; with `lasts` also behind one that failed",
        "soak: takes long; only with --soak",
    ):
        config.addinivalue_line("markers", line)


# Those that take longest begin first: where several labs run, none is idle at the end.
LONG = ["test_faults", "test_rollback", "test_ghost", "test_guest", "test_counts", "test_retention", "test_demo", "test_delete",
        "test_start_guard", "test_rollback_classic"]


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONG.index(item.module.__name__) if item.module.__name__ in LONG else len(LONG))
    if config.getoption("--soak"):
        return
    left_out = [item for item in items if item.get_closest_marker("soak")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"failed_{report.when}", report.failed)
    host = getattr(item, "lab_host", None)
    if report.failed and host is not None and report.when == "call":
        try:
            report.sections.append(("the lab's host", host.evidence()))
        except Exception as problem:  # the report of the test itself matters more
            report.sections.append(("the lab's host", f"does not answer: {problem}"))


def install(name):
    host = Host(name)
    package = environment("KLD_DEB")
    # The clock jumps at each restore: nothing may run by the calendar unless a test wants it.
    host.write("/etc/systemd/system/kvm-snapshot.timer.d/lab.conf", f"[Unit]\nConditionPathExists={BY_THE_CALENDAR}\n")
    if package:
        lab("copy", package, f"{name}:/tmp/kld.deb")
        host.run("dpkg", "-i", "/tmp/kld.deb")
    else:
        lab("copy", environment("KLD_BINARY", REPOSITORY / "build/release/src/kld"), f"{name}:/usr/bin/kld")
        host.sh("chmod 755 /usr/bin/kld; " + "; ".join(f"ln -sf kld /usr/bin/{link}" for link in LINKS))
    # Whatever dumps core is found there; ssh's sessions would not dump any.
    host.sh(f"mkdir -p {CORES}; sysctl -q kernel.core_pattern={CORES}/%e.%p")
    host.run("kld", "--version")
    host.run("virsh", "-q", "list")


class Instance:
    """The one lab of the session, and whose state it is in."""

    def __init__(self, name):
        self.name = name
        self.owner = None  # the module that shares it, while that is right
        self.denials = ""

    def restore(self):
        lab("restore", self.name, "installed")
        self.owner = None
        self.denials = ""

    def new_denials(self):
        found = lab("denials", self.name, check=False)[1]
        new = found.removeprefix(self.denials)
        self.denials = found
        return "\n".join(line for line in new.splitlines() if line.strip() and not KNOWN_DENIAL.search(line))


@pytest.fixture(scope="session")
def instance(worker_id):
    name = environment("KLD_LAB", "t") + ("" if worker_id == "master" else f"-{worker_id}")
    lab("start", name, timeout=3600)
    try:
        install(name)
        lab("save", name, "installed")
        yield Instance(name)
    finally:
        if not environment("KLD_LAB_KEEP"):
            lab("stop", name)


def left_behind(instance, host, journal_allowed=False):
    """What no test may leave, as text: denials of AppArmor, core dumps, open journals."""
    found = host.sh(f"find {CORES} -type f -printf 'core dump: %p\\n'; "
                    f"find {JOURNAL} -type f -printf 'left in the journal: %p\\n' 2>/dev/null || true", check=False).out
    lines = [line for line in found.splitlines() if not (journal_allowed and "in the journal" in line)]
    return "\n".join(filter(None, [instance.new_denials(), *lines]))


@pytest.fixture
def host(request, instance):
    """The host in its freshly installed state; checked after each test for what no command may leave."""
    shared = request.node.get_closest_marker("module_state")
    module = request.node.module.__name__
    host = Host(instance.name)
    request.node.lab_host = host
    if shared is None or instance.owner != module:
        instance.restore()
        if shared is not None:
            if shared.kwargs.get("prepare"):
                shared.kwargs["prepare"](host)
            instance.owner = module
    yield host
    if getattr(request.node, "failed_call", False) and not (shared and shared.kwargs.get("lasts")):
        # What failed may have left anything: the next test of the module starts anew.
        instance.owner = None
    problems = left_behind(instance, host, journal_allowed=bool(request.node.get_closest_marker("leaves_journal")))
    if problems:
        if not (shared and shared.kwargs.get("lasts")):
            instance.owner = None
        pytest.fail(f"left behind by the test:\n{problems}")
