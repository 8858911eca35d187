# SPDX-License-Identifier: Apache-2.0
"""The demo, as it runs in its own lab and with --here: it shows what it promises and leaves nothing."""

import re

from host import GUEST, REPOSITORY, lab


def test_demo(host):
    lab("copy", REPOSITORY / "tools" / "demo-story", f"{host.name}:/root/")
    host.create("bystander")
    with host.assert_unchanged():
        shown = host.run("/root/demo-story", "vmpool", GUEST, timeout=1800).out
    # Every command is printed as typed, with what it answered.
    assert shown.count("\n$ kvm-") >= 9
    names = re.findall(r"^  hostname +(\S+)$", shown, re.MULTILINE)
    assert names == ["demo-golden", "demo-web-1"], shown
    for what in ("machine-id", "SSH key"):
        found = re.findall(rf"^  {what} +(\S.*)$", shown, re.MULTILINE)
        assert len(found) == len(set(found)) == 2, shown
    assert "├─ demo-web-1" in shown
    refused = shown[shown.index("$ kvm-delete demo-golden --force --yes"):]
    assert "machine 'demo-web-3'" in refused.split("\n# ")[0]
    assert host.sh("find /var/lib/kldload/state -mindepth 1 -maxdepth 1 -printf '%f\\n'") == "bystander"
    # A second one in its way, or machines of that name, it does not touch.
    host.run("zfs", "create", "vmpool/kld-demo")
    with host.assert_unchanged():
        result = host.run("/root/demo-story", "vmpool", GUEST, check=False)
        assert result.rc == 3 and "zfs destroy -r vmpool/kld-demo" in result.err
