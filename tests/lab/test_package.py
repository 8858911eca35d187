# SPDX-License-Identifier: Apache-2.0
"""The Debian package on a host: what it brings, an upgrade, its removal."""

from host import CONFIG, ROOT, STATE, environment, lab

LINKS = ["kvm-adopt", "kvm-clone", "kvm-create", "kvm-delete", "kvm-list", "kvm-snap", "kvm-snapshot"]


def test_package(host):
    deb = environment("KLD_DEB")
    assert deb, "KLD_DEB names the package"
    listed = host.sh("dpkg -L kldload-kvm").splitlines()
    assert host.read(CONFIG).lstrip().startswith("#"), "the configuration explains itself before anything is written to it"
    for page in ("man8/kld.8", "man8/kld-recover.8", "man5/kvm.toml.5"):
        assert any(path.startswith(f"/usr/share/man/{page}") for path in listed), page
    for link in LINKS:
        assert host.sh(f"readlink /usr/bin/{link}") == "kld"
        assert any(path.startswith(f"/usr/share/man/man8/{link}.8") for path in listed)
        assert f"/usr/share/bash-completion/completions/{link}" in listed
        assert host.run(link, "--version").out == host.run("kld", "--version").out.replace("kld", link, 1)
    assert host.sh("systemctl is-enabled kld-recover.service kvm-snapshot.timer") == "enabled\nenabled"
    # What is undone is not snapshotted first.
    assert "kld-recover.service" in host.sh("systemctl show -p After --value sanoid.service").split()
    assert host.sh("systemctl show -p After --value libvirtd.service | tr ' ' '\\n' | grep -x zfs-volumes.target")
    assert host.sh("stat -c '%a %U' /var/lib/kldload /var/lib/kldload/state /var/lib/kldload/journal "
                   "/run/kldload/lock") == "711 root\n711 root\n700 root\n700 root"
    # Words in a shell are completed, machines among them.
    host.create("web")
    completed = host.sh("source /usr/share/bash-completion/completions/kvm-snap; COMP_WORDS=(kvm-snap w); COMP_CWORD=1; "
                        "COMP_LINE='kvm-snap w' COMP_POINT=10; $(complete -p kvm-snap | sed 's/.*-F \\([^ ]*\\).*/\\1/') "
                        "kvm-snap w kvm-snap; echo \"${COMPREPLY[*]}\"")
    assert completed.strip() == "web"

    # The first command that changed something wrote the root down: an upgrade leaves that alone, and asks nothing.
    configured = host.read(CONFIG)
    assert 'root = "vmpool/vms"' in configured
    host.run("systemctl", "disable", "-q", "kld-recover.service")
    lab("copy", deb, f"{host.name}:/tmp/again.deb")
    host.sh("dpkg -i /tmp/again.deb </dev/null")
    assert host.read(CONFIG) == configured
    assert host.run("systemctl", "is-enabled", "kld-recover.service", check=False).out.strip() == "disabled"

    # Without the program the machines stay, and so does what it knew.
    before = host.state()
    host.run("dpkg", "--remove", "kldload-kvm")
    host.assert_same(before)
    # Back again, it works as before, by what the administrator had chosen.
    host.run("dpkg", "-i", "/tmp/again.deb")
    assert host.sh("systemctl is-enabled kvm-snapshot.timer") == "enabled"
    assert host.run("systemctl", "is-enabled", "kld-recover.service", check=False).out.strip() == "disabled"
    host.run("zfs", "set", "com.kldload:golden=true", f"{ROOT}/web")
    assert "golden image" in host.run("virsh", "start", "web", check=False).err
    host.run("zfs", "inherit", "com.kldload:golden", f"{ROOT}/web")
    host.run("dpkg", "--remove", "kldload-kvm")
    host.run("dpkg", "--purge", "kldload-kvm")
    assert not host.sh("ls -d /etc/kldload /run/systemd/system/kld* 2>/dev/null || true")
    assert host.sh(f"ls {STATE}/web") == "domain.xml"
    assert host.sh("virsh -q start web && virsh -q domstate web") == "running"
    host.run("dpkg", "-i", "/tmp/again.deb")
    assert host.kvm_list()["web"]["state"] == "running"
