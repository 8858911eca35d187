# SPDX-License-Identifier: Apache-2.0
"""What no command may accept: one clear line, a hint, exit 2 or 3, nothing changed."""

import re

import pytest
from host import CONFIG, LIBVIRTD, ROOT, STATE

CREATE = ["--no-start", "--disk", "1", "--ram", "256", "--firmware", "bios", "--no-tpm"]


def prepare(host):
    host.create("web", "--disk", "data=64M")
    host.sh(f"""
        zfs create -s -V 64M {ROOT}/volume
        zfs create -s -V 64M {ROOT}/new-log
        zfs create {ROOT}/folder
        mkdir -p {STATE}/occupied; touch {STATE}/occupied/file
        ln -s /nowhere /dev/zvol/{ROOT}/dangling
        qemu-img create -q -f qcow2 /root/base.qcow2 64M
        gzip -c /root/base.qcow2 >/root/base.img.gz
        qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 /root/overlay.qcow2
        qemu-img create -q -f vmdk /root/disk.vmdk 64M
        qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s \
          /root/luks.qcow2 64M
        : >/root/empty.raw
        echo 'not a key' >/root/garbage
        : >/root/nothing
        virsh net-define /dev/stdin <<<"<network><name>idle</name></network>"
        udevadm settle
    """)
    host.define("stranger", f"/dev/zvol/{ROOT}/planned")


pytestmark = pytest.mark.module_state(prepare=prepare)


def create(name, *flags):
    return ["kvm-create", name, *CREATE, *flags]


def sized(*flags):
    """Without the flags that CREATE sets already."""
    return ["kvm-create", "new", "--no-start", "--firmware", "bios", "--no-tpm", *flags]


def test_names(host):
    host.refuses_all([
        (create(""), 2, "is empty"),
        (create("../x"), 2, "starts with '.'"),
        (create("a/b"), 2, "contains '/'"),
        (create("--", "-x")[:1] + ["--", "-x"], 2, "starts with '-'"),
        (create("-x"), 2, "--help"),
        (create(".state"), 2, "starts with '.'"),
        (create("list"), 2, "is a word the commands use"),
        (create("all"), 2, "is a word the commands use"),
        (create("isos"), 2, "installation media"),
        (create("x" * 64), 2, "64 characters"),
        (create("gräte"), 2, "contains"),
        (create("a b"), 2, "contains ' '"),
        ("kvm-create $'\\xff' --no-start", 2, "argument 1 is not UTF-8 text"),
        (create("a@b"), 2, "contains '@'"),
        (create("a%b"), 2, "contains '%'"),
        (create("a\nb"), 2, "contains"),
        # Taken: by a domain, a dataset, a disk of another, another's definition, files, a link.
        (create("web"), 3, "domain 'web'"),
        (create("stranger"), 3, "domain 'stranger'"),
        (create("volume"), 3, f"dataset {ROOT}/volume"),
        (create("folder"), 3, f"dataset {ROOT}/folder"),
        (create("web-data"), 3, "a disk of machine 'web'"),
        (create("planned"), 3, "the definition of 'stranger' uses"),
        (create("occupied"), 3, f"{STATE}/occupied exists"),
        (create("dangling"), 3, f"/dev/zvol/{ROOT}/dangling exists"),
        (["kvm-clone", "web", "volume"], 3, f"dataset {ROOT}/volume"),
        (["kvm-clone", "web", "web"], 3, "taken"),
        (["kvm-clone", "web", "a", "a"], 3, "given twice"),
        (["kvm-clone", "web", "a/b"], 2, "contains '/'"),
        (["kvm-clone", "web", "new", "list"], 2, "is a word the commands use"),
        (["kvm-snap", "web@s", "list"], 2, "contains '@'"),
        (["kvm-snap", "../web", "list"], 2, "starts with '.'"),
        (["kvm-adopt", "../x", "--yes"], 2, "starts with '.'"),
        (["kvm-clone", "web", "--count", "2", "--prefix", "../"], 2, "starts with '.'"),
        # The place of a further disk.
        (create("new", "--disk", "log=1"), 3, f"dataset {ROOT}/new-log"),
    ])
    # The longest and the oddest that are allowed.
    host.run("kvm-create", "X" * 63, *CREATE, "--dry-run")
    host.run("kvm-create", "a.b_c-9", *CREATE, "--dry-run")


def test_sizes_and_words(host):
    host.refuses_all([
        (sized("--disk", "0"), 2, "--disk"),
        (sized("--disk", "10X"), 2, "10X"),
        (sized("--disk", "-1"), 2, "-1"),
        (sized("--disk", ""), 2, "--disk"),
        (sized("--disk", "99999999999999999999"), 2, "--disk"),
        (sized("--disk", "1", "--disk", "2"), 2, "needs a label"),
        (sized("--disk", "1", "--disk", "a=1", "--disk", "a=2"), 2, "'a' is given twice"),
        (sized("--disk", "1", "--disk", "a/b=1"), 2, "contains '/'"),
        (sized("--ram", "1"), 2, "--ram"),
        (sized("--ram", "0"), 2, "--ram"),
        (sized("--ram", "much"), 2, "much"),
        (sized("--ram", "64G"), 3, "more than the host has"),
        (sized("--cpus", "0"), 2, "--cpus"),
        (sized("--cpus", "two"), 2, "two"),
        (sized("--cpus", "5000"), 2, "--cpus"),
        (sized("--volblocksize", "3K"), 2, "power of two"),
        (sized("--volblocksize", "256K"), 2, "power of two"),
        (sized("--volblocksize", "2K"), 2, "power of two"),
        (sized("--workload", "oracle"), 2, "general, postgres, mysql"),
        (sized("--sync", "never"), 2, "standard, always, disabled"),
        (sized("--os", "dos"), 2, "not a known system"),
        (["kvm-create", "new", "--firmware", "efi"], 2, "uefi, uefi-secure, bios"),
        (sized("--virt-type", "xen"), 2, "neither kvm nor qemu"),
        (sized("--hostname", "a b"), 2, "not a host name"),
        (sized("--user", "a:b"), 2, "not a user name"),
        (sized("--password-hash", "secret"), 2, "crypt(5)"),
        (sized("--user", "a", "--user-data", "/root/garbage"), 2, "--user-data"),
        (sized("--ssh-key", "/root/absent"), 2, "does not exist"),
        (sized("--ssh-key", "/root/nothing"), 2, "holds no key"),
        (["kvm-clone", "web"], 2, "no clone is named"),
        (["kvm-clone", "web", "--count", "3"], 2, "go together"),
        (["kvm-clone", "web", "--prefix", "w-"], 2, "go together"),
        (["kvm-clone", "web", "--count", "0", "--prefix", "w-"], 2, "--count"),
        (["kvm-clone", "web", "new", "--tpm", "old"], 2, "neither copy nor new"),
        (["kvm-clone", "web", "new", "--ram", "0"], 2, "--ram"),
        (["kvm-clone", "web", "new", "--cpus", "0"], 2, "--cpus"),
        (["kvm-clone", "web", "a", "b", "--hostname", "x"], 2, "one clone only"),
        (["kvm-clone", "web", "new", "--without", "vdz"], 3, "vdz"),
    ])


def test_media_and_networks(host):
    host.refuses_all([
        (create("new", "--iso", "/root/absent.iso"), 3, "'/root/absent.iso' does not exist"),
        (create("new", "--iso", "/root"), 3, "is not a file"),
        (create("new", "--os", "win11", "--drivers", "/root/absent.iso"), 3, "does not exist"),
        (create("new", "--drivers", "/root/base.qcow2"), 2, "--drivers"),
        (create("new", "--image", "/root/absent.raw"), 3, "does not exist"),
        (create("new", "--image", "/root/overlay.qcow2"), 3, "its backing file is"),
        (create("new", "--image", "/root/disk.vmdk"), 3, "vmdk"),
        (create("new", "--image", "/root/luks.qcow2"), 3, "encrypted"),
        (create("new", "--image", "/root/empty.raw"), 3, "empty"),
        (create("new", "--image", "/root/base.img.gz"), 3, "is a gzip file, not the disk itself"),
        (create("new", "--image", "/root/base.qcow2", "--iso", "/root/base.qcow2"), 2, "exclude each other"),
        (sized("--disk", "1M", "--image", "/root/base.qcow2"), 3, "smaller than the image"),
        (create("new", "--bridge", "br1"), 3, "did you mean 'br0'?"),
        (create("new", "--bridge", "nowhere"), 3, "no bridge 'nowhere'"),
        (create("new", "--network", "defalt"), 3, "did you mean 'default'?"),
        (create("new", "--network", "absent-altogether"), 3, "no network"),
        (["kvm-create", "new", *CREATE[1:], "--network", "idle", "--iso", "/root/base.qcow2"], 3, "virsh net-start idle"),
        (create("new", "--bridge", "br0", "--network", "idle"), 2, "exclude each other"),
    ])


def test_commands_and_flags(host):
    host.refuses_all([
        (create("new", "--volblocksiz", "8K"), 2, "did you mean '--volblocksize'?"),
        (["kvm-clone", "web", "new", "--ful"], 2, "did you mean '--full'?"),
        (["kvm-clone", "web", "new", "--freeze=perhaps"], 2, "--freeze"),
        (["kvm-snap", "web", "snap", "s", "--freeze=perhaps"], 2, "--freeze"),
        (["kvm-delete", "web", "--forse"], 2, "did you mean '--force'?"),
        (["kvm-list", "--jsn"], 2, "did you mean '--json'?"),
        (["kvm-create"], 2, "NAME"),
        (["kvm-delete"], 2, "MACHINE"),
        (["kld", "clnoe", "web", "new"], 2, "did you mean 'kld clone'?"),
        (["kld", "rollback"], 2, "no command"),
        (["kld", "help", "snpa"], 2, "did you mean 'kld snap'?"),
        (["kvm-clone", "wbe", "new"], 3, "did you mean 'web'?"),
        (["kvm-clone", "stranger", "new"], 3, "kvm-adopt stranger"),
        (["kvm-delete", "nobody", "--yes"], 3, "no machine 'nobody'"),
        (["kvm-delete", "web", "nobody", "--yes"], 3, "no machine 'nobody'"),
        (["kvm-delete", "", "--yes"], 2, "is empty"),
        (["kvm-delete", "../../../tmp/x", "--yes"], 2, "starts with '.'"),
        (["kvm-snap", "x" * 300], 2, "300 characters"),
        (["kvm-snap", "nobody"], 3, "no machine 'nobody'"),
        (["kvm-list", "nobody"], 3, "no machine 'nobody'"),
        # Machines of another host, or a user's own, are none of these datasets'.
        (["kvm-delete", "web", "--yes", "--connect", "qemu:///session"], 3, "does not run this host's system machines"),
    ])
    # What cron and a plain su give.
    assert host.run("kvm-create", "bare", "--dry-run", env={"PATH": "/usr/bin:/bin"}).rc == 0
    # The same by other words.
    with host.assert_unchanged():
        for one, other in [(["--cpus", "1", "--yes", "--dry-run"], ["--vcpus", "1", "-y", "-n"]),
                           (["--cpus", "1", "-n"], ["--cpus", "1", "-n", "--connect", "qemu:///system", "--network", "default"])]:
            outputs = [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", host.run("kvm-create", "new", *words).out)
                       for words in (one, other)]
            assert outputs[0] == outputs[1] and "zfs create" in outputs[0]
        assert host.run("kvm-list", env={"KLD_CONNECT": "qemu:///system", "KLD_ROOT": ROOT}).out == host.run("kvm-list").out
    # For programs the error is an object, and nothing else is said.
    result = host.run("kvm-delete", "nobody", "--json", "--yes", check=False)
    assert result.rc == 3 and result.err == ""
    assert result.json["error"]["kind"] == "no-such-machine" and result.json["error"]["hint"]


def test_help_and_versions(host):
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    commands = ["create", "clone", "snap", "delete", "list", "adopt"]
    with host.assert_unchanged():
        results = host.run_all([f"{nobody} kvm-{name} --help" for name in commands] +
                               [f"{nobody} kld help {name}" for name in [*commands, "recover"]] +
                               [f"{nobody} kvm-{name} -h" for name in commands] +
                               [f"{nobody} kld help", f"{nobody} kld --help", f"{nobody} kld --version", f"{nobody} kvm-list --version",
                                f"{nobody} kld --dump-cli"])
    for result in results:
        assert result.rc == 0 and result.err == "" and result.out, result
    for name, result in zip(commands, results):
        assert "Exit status: 0 done" in result.out and "Examples:" in result.out and f"kvm-{name}" in result.out
    assert "would not boot" in results[1].out, "the help of --tpm says why"
    assert re.fullmatch(r"kld \d+\.\d+\.\d+.*\n", results[-3].out)
    assert {command["name"] for command in results[-1].json["commands"]} >= {*commands, "recover"}
    alone = host.run("kld", check=False)
    assert alone.rc == 2 and "Commands:" in alone.out


def test_not_root(host):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    host.refuses_all([([*nobody, *command], 3, "must run as root") for command in (
        create("new"), ["kvm-clone", "web", "new"], ["kvm-snap", "web"], ["kvm-snap", "web", "list"],
        ["kvm-delete", "web", "--yes"], ["kvm-list"], ["kvm-adopt", "--all"], ["kld", "recover"])])


def test_root_dataset(host):
    host.refuses_all([
        (create("new", "--root", "vmpool/absent"), 3, "'vmpool/absent' does not exist"),
        (create("new", "--root", "absent/vms"), 3, "'absent/vms' does not exist"),
        (create("new", "--root", f"{ROOT}/volume"), 3, "is a volume"),
        (["kvm-list", "--root", "absent/vms"], 3, "'absent/vms' does not exist"),
        (["env", "KLD_ROOT=absent/vms", "kvm-list"], 3, "'absent/vms' does not exist"),
        (["kvm-list", "--connect", "qemu:///nowhere"], 3, "qemu:///nowhere"),
    ])
    host.sh("zfs create 'vmpool/my vms'")
    host.refuses_all([(create("new", "--root", "vmpool/my vms"), 3, "has a blank in its name")])
    host.sh("zfs destroy 'vmpool/my vms'")
    config = host.read(CONFIG)
    every = [create("new"), ["kvm-clone", "web", "new"], ["kvm-snap", "web"], ["kvm-delete", "web", "--yes"],
             ["kvm-list"], ["kvm-adopt", "--all", "--yes"]]

    def configured(content, code, text, commands=every):
        host.write(CONFIG, content)
        host.refuses_all([(command, code, text) for command in commands])

    # Configured and missing, or another one of that name: never a fallback.
    configured('root = "vmpool/moved"\n', 3, "'vmpool/moved' does not exist")
    configured(re.sub(r'guid = "\d+"', 'guid = "4711"', config), 3, "is not the root dataset it was")
    configured('root = "vmpool/vms\n', 2, f"{CONFIG}:1", every[:1])
    configured('rot = "vmpool/vms"\n', 2, "unknown key 'rot'", every[:1])
    # Two that could be it, and none.
    host.sh(f"truncate -s 128M /var/tmp/rpool; zpool create rpool /var/tmp/rpool; zfs create rpool/vms; rm {CONFIG}")
    host.refuses_all([(command, 3, "rpool/vms") for command in every])
    host.sh("zpool destroy rpool; zfs rename vmpool/vms vmpool/elsewhere")
    host.refuses_all([(command, 3, "neither vmpool/vms nor rpool/vms exists") for command in every])
    host.sh("zfs rename vmpool/elsewhere vmpool/vms")
    host.write(CONFIG, config)


def test_libvirtd_stopped(host):
    # What libvirt reads back from its files it puts in another order.
    host.sh("systemctl restart libvirtd.service")
    before = host.state()
    host.sh(f"systemctl stop {LIBVIRTD}")
    commands = [create("new"), ["kvm-clone", "web", "new"], ["kvm-snap", "web"], ["kvm-snap", "web", "list"],
                ["kvm-snap", "web", "delete", "x", "--yes"], ["kvm-delete", "web", "--yes"], ["kvm-list"],
                ["kvm-adopt", "--all", "--yes"]]
    results = host.run_all(commands)
    host.sh("systemctl start libvirtd.socket libvirtd.service")
    for command, result in zip(commands, results):
        assert result.rc == 3 and len(result.errors) == 1 and len(result.hints) == 1, (command, result)
        assert "libvirt" in result.errors[0] and "libvirtd" in result.hints[0], (command, result)
    host.assert_same(before)


def test_zfs_module_not_loaded(host):
    # Opening /dev/zfs would load it: so that it cannot be, as after a kernel without its module.
    before = host.state()
    host.sh("zpool export vmpool; modprobe -r zfs; echo 'install zfs /bin/false' >/etc/modprobe.d/no-zfs.conf")
    commands = [create("new"), ["kvm-clone", "web", "new"], ["kvm-snap", "web"], ["kvm-snap", "web", "list"],
                ["kvm-snap", "web", "delete", "x", "--yes"], ["kvm-delete", "web", "--yes"], ["kvm-list"],
                ["kvm-adopt", "--all", "--yes"]]
    results = host.run_all(commands)
    host.sh("rm /etc/modprobe.d/no-zfs.conf; modprobe zfs; zpool import -a; zfs mount -a")
    for command, result in zip(commands, results):
        assert result.rc == 3 and len(result.errors) == 1 and len(result.hints) == 1, (command, result)
        assert "ZFS" in result.errors[0] and "modprobe zfs" in result.hints[0], (command, result)
    host.assert_same(before)
