# SPDX-License-Identifier: Apache-2.0
"""kvm-snap rollback, undo, kept and drop: nothing is lost, whatever one goes back to."""

import re

from faults import background, background_status, plan_of, record_before
from host import JOURNAL, ROOT, STATE, TPM, UTC
from past import change, genid, get, guids, put, ready, says
from sweeps import kill_at

KEPT = re.compile(rf"web-{UTC}")


def test_back_and_back_again(host):
    ready(host)
    host.sh(f"zfs set com.example:backup='every night' compression=zstd {ROOT}/web; zfs set sync=always {ROOT}/web-data; "
            f"zfs hold -r mine {ROOT}/web@first; zfs hold mine {ROOT}/web@later; zfs bookmark {ROOT}/web@first {ROOT}/web#first; "
            f"zfs bookmark {ROOT}/web@later {ROOT}/web#later")
    uuid, before, before_guids, id_before = host.uuid("web"), host.state(), guids(host), genid(host)

    result = host.run("kvm-snap", "web", "rollback", "then")
    assert re.fullmatch(r"'web' rolled back in \d+\.\d\d seconds\. The present was set aside: 'kvm-snap web undo' brings "
                        r"it back\.\n", result.out), result
    says(host, "then")
    assert host.uuid("web") == uuid and genid(host) != id_before
    assert host.domains() == {"web": "shut off", "early": "shut off", "late": "shut off"}
    assert host.sh("ls /etc/libvirt/qemu/autostart") == "web.xml"
    # What was then has its history; what is newer went aside.
    (safety,) = {name for name, _ in guids(host) if name.startswith("safety-")}
    assert host.snapshots("web") == ["first", "then"] and host.snapshots(".state/web/tpm") == ["first", "then"]
    (kept,) = host.run("kvm-snap", "web", "kept", "--json").json
    assert KEPT.fullmatch(kept["name"]) and kept["reason"] == "rollback" and kept["used_bytes"] > 0
    aside = f".kept/{kept['name']}"
    assert host.snapshots(f"{aside}/web") == ["later", safety]
    assert host.property(f"{aside}/web@{safety}", "com.kldload:by", "com.kldload:consistency") == \
        ("safety", "offline")
    assert host.property("early", "origin") == f"{ROOT}/web@then"
    assert host.property("late", "origin") == f"{ROOT}/{aside}/web@later"
    assert host.property(f"{aside}/web", "origin") == f"{ROOT}/web@then"
    assert host.property(f"{aside}/.state/tpm", "mounted", "canmount") == ("no", "noauto")
    # Every snapshot keeps its guid, every local property its value; holds and bookmarks go along.
    assert [one for one in guids(host) if one[0] != safety] == before_guids
    assert host.property("web", "com.example:backup", "compression", "com.kldload:machine") == \
        ("every night", "zstd", "web")
    assert host.property("web-data", "sync") == "always"
    assert host.property("web@first", "userrefs") == host.property(f"{aside}/web@later", "userrefs") == "1"
    # For seven days, unless told otherwise.
    assert int(host.sh(f"echo $(( $(date -d {kept['expires']} +%s) - $(date +%s) ))")) in range(7 * 86400 - 3600, 7 * 86400)
    bookmarks = host.sh(f"zfs list -Ho name -t bookmark -r {ROOT}").splitlines()
    assert sorted(bookmarks) == [f"{ROOT}/{aside}/web#later", f"{ROOT}/web#first"]
    # A host that starts anew mounts none of what is set aside.
    assert aside not in host.sh("zfs mount -a; zfs mount")
    assert sorted(host.kvm_list()) == ["early", "late", "web"]

    # Nobody is kept from working with it.
    host.run("kvm-snap", "-q", "web", "snap", "since")
    change(host, "since")
    result = host.run("kvm-snap", "web", "undo")
    assert "'web' brought back in" in result.out
    says(host, "now")
    assert host.uuid("web") == uuid
    assert host.snapshots("web") == ["first", "then", "later", safety]
    assert host.property("web@first", "userrefs") == host.property("web@later", "userrefs") == "1"
    assert host.property("early", "origin") == f"{ROOT}/web@then"
    assert host.property("late", "origin") == f"{ROOT}/web@later"
    assert sorted(host.sh(f"zfs list -Ho name -t bookmark -r {ROOT}").splitlines()) == \
        [f"{ROOT}/web#first", f"{ROOT}/web#later"]
    # What was the present meanwhile is aside in its turn, and can be brought back, or dropped.
    (second,) = host.run("kvm-snap", "web", "kept", "--json").json
    assert second["name"] != kept["name"] and host.snapshots(f".kept/{second['name']}/web") == ["since"]
    host.run("kvm-snap", "web", "undo", second["name"])
    says(host, "since")
    host.run("kvm-snap", "web", "undo")
    says(host, "now")
    (third,) = host.run("kvm-snap", "web", "kept", "--json").json
    host.refuses("kvm-snap", "web", "drop", third["name"], says="nobody is there to ask", hint="--yes")
    host.run("kvm-snap", "web", "drop", third["name"], "--yes")
    assert host.run("kvm-snap", "web", "kept", "--json").json == []
    # But for the snapshot and the generation id, all is as it was.
    host.sh(f"zfs list -Ho name -t snapshot | grep '@{safety}$' | xargs -n 1 zfs destroy; "
            f"zfs destroy {ROOT}/.kept")
    strange = [line for line in set(host.state()) ^ set(before)
               if "genid" not in line and not line.startswith("content ")]
    assert strange == [], strange
    host.run("zfs", "release", "-r", "mine", f"{ROOT}/web@first", f"{ROOT}/web@later")
    host.run("kvm-delete", "web", "early", "late", "--yes")
    assert left_behind_nothing(host)


def left_behind_nothing(host):
    return [one for one in host.datasets() if one not in (".state", ".kept")] == []


def test_what_runs(host):
    """Stopped only when told to; what does not start is taken back, and the present starts again."""
    host.create("web", "--disk", "data=64M", tpm=True)
    change(host, "then")
    host.sh(f"cp /usr/share/OVMF/OVMF_VARS_4M.fd {STATE}/web/uefi_VARS.fd; rm -r {TPM}/$(virsh domuuid web)/tpm2")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    put(host, "web", "now")
    host.start("web")
    host.refuses("kvm-snap", "web", "rollback", "then", says="machine 'web' is running", hint="--stop")
    host.run("kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1s")
    assert host.domains() == {"web": "running"} and get(host, "web") == "then"
    # It starts from its own disks, not from those that were set aside.
    pid = host.sh("pgrep -f qemu-system-x86_64.*guest=web")
    assert host.sh(f"zvol=$(basename $(readlink -f /dev/zvol/{ROOT}/web)); ls -l /proc/{pid}/fd | grep -c \"/$zvol$\"") != "0"
    host.run("kvm-snap", "web", "undo", "--stop", "--timeout", "1s")
    assert host.domains() == {"web": "running"} and get(host, "web") == "now"
    host.run("virsh", "destroy", "web")

    # A definition that passes every look and does not start: its serial port wants a file in no directory.
    host.sh("virsh dumpxml web --inactive >/root/good.xml; "
            "sed 's|</devices>|<serial type=\"file\"><source path=\"/nonexistent/log\"/></serial></devices>|' "
            "/root/good.xml >/root/bad.xml; virsh define /root/bad.xml")
    host.run("kvm-snap", "-q", "web", "snap", "bad")
    host.sh("virsh define /root/good.xml")
    host.run("kvm-snap", "-q", "web", "snap", "good")
    host.start("web")
    before = [line for line in host.state() if "mounted" not in line]
    result = host.run("kvm-snap", "web", "rollback", "bad", "--stop", "--timeout", "1s", check=False)
    assert result.rc == 1 and "Everything done so far was undone." in result.err, result
    assert host.domains() == {"web": "running"} and get(host, "web") == "now"
    assert [line for line in host.state() if "mounted" not in line] == before


def test_interrupted_while_it_shuts_down(host):
    """The power button cannot be let go again: whoever lets go of the command waits for what comes of it, and what went
    off starts again, also where nobody is left to wait."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.start("web")
    argv = ["kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1h"]
    for signal in ("HUP", "KILL"):
        background(host, argv)
        host.until(f"cat {JOURNAL}/*.json", '{"begin":0}')
        host.sh("sleep 2; ! [ -s /tmp/job/rc ]")
        host.sh(f"pkill -{signal} -x kvm-snap")
        if signal == "KILL":
            host.sh("while pgrep -x kvm-snap >/dev/null; do sleep 0.2; done")
            background(host, ["kld", "recover", "--json"])
        host.sh("sleep 3; ! [ -s /tmp/job/rc ]")
        # As its system would, at last.
        host.run("virsh", "destroy", "web")
        status, said = background_status(host)
        assert status == (130 if signal == "HUP" else 0), said
        assert signal == "KILL" or "cannot be asked not to: waiting until it is off, 3600 s at most" in said
        assert host.domains() == {"web": "running"}, said
    assert host.run("kvm-snap", "web", "kept", "--json").json == []


def test_interrupted_while_it_does_not_shut_down(host):
    """Its firmware alone hears no power button. What may still come is told."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.start("web")
    before = host.state()
    background(host, ["kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "6s"])
    host.until(f"cat {JOURNAL}/*.json", '{"begin":0}')
    host.sh("pkill -INT -x kvm-snap")
    status, said = background_status(host)
    assert status == 130 and "asked to shut down and still runs: should it go off, start it again" in said, said
    host.assert_same(before)


def test_saved_while_it_shuts_down(host):
    """That memory would go on with disks of another time."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.start("web")
    background(host, ["kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1h"])
    host.until(f"cat {JOURNAL}/*.json", '{"begin":0}')
    host.sh("sleep 2; virsh managedsave web")
    status, said = background_status(host)
    assert status == 1 and "the memory of domain 'web' was saved meanwhile" in said, said
    assert "Everything done so far was undone." in said
    # It goes on where it was saved.
    assert host.domains() == {"web": "running"}
    assert "Managed save:   no" in host.run("virsh", "dominfo", "web").out


def test_a_start_that_fails_in_recovery(host):
    """Killed when all but the start was done, and by then it does not start: the present is back, and told."""
    host.create("web")
    host.sh("ip link add br7 type bridge; virsh dumpxml web --inactive >/root/now.xml; "
            "sed 's/<\\/devices>/<interface type=\"bridge\"><source bridge=\"br7\"\\/><\\/interface><\\/devices>/' "
            "/root/now.xml >/root/then.xml; virsh define /root/then.xml")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.sh("virsh define /root/now.xml")
    put(host, "web", "now")
    host.start("web")
    argv = ["kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1s"]
    plan = plan_of(host, argv)
    kill_at(host, argv, record_before(plan, "start-domain") - 1, plan)
    host.run("ip", "link", "delete", "br7")
    result = host.run("kld", "recover", "--json", check=False)
    assert result.rc == 1, result
    (recovered,) = result.json
    assert recovered["result"] == "undone" and "br7" in recovered["problem"], recovered
    assert host.domains() == {"web": "running"} and get(host, "web") == "now"


def test_recovery_starts_what_starts_with_the_host(host):
    """It ran, it starts with the host, and the power went in the middle: recovery starts it past the guard."""
    host.create("web", "--autostart")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.start("web")
    argv = ["kvm-snap", "web", "rollback", "then", "--stop", "--timeout", "1s"]
    plan = plan_of(host, argv)
    kill_at(host, argv, record_before(plan, "redefine-domain"), plan)
    host.sh(f"sed -i 's/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"an earlier one\"/' {JOURNAL}/*.json")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert host.domains() == {"web": "running"} and "Autostart:      enable" in host.run("virsh", "dominfo", "web").out


def test_a_definition_without_generation_id_comes_back(host):
    """Machines that others made have none."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.sh("virsh dumpxml web --inactive | sed '/<genid>/d' >/root/now.xml; virsh define /root/now.xml; "
            "virsh desc web --config --new-desc now")
    assert genid(host) is None
    argv = ["kvm-snap", "web", "rollback", "then"]
    plan = plan_of(host, argv)
    # Defined, and then cut off.
    acts = [step["act"] for step in plan["steps"]]
    kill_at(host, argv, acts.index("redefine-domain") + 3, plan)
    host.sh(f"for entry in {JOURNAL}/*.json; do head -n -1 $entry >/root/entry; cat /root/entry >$entry; done")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert genid(host) is None and host.run("virsh", "desc", "web", "--config").out.strip() == "now"


def test_udev_looks_into_it(host):
    """It is waited for: it looks into each volume that came, was renamed or written to, and is done soon."""
    host.create("web")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    rule = "/run/udev/rules.d/99-slow.rules"
    host.write(rule, 'ACTION=="change", KERNEL=="zd*", PROGRAM="/bin/sleep 3"\n')
    host.sh(f"""
        udevadm control --reload
        device=$(readlink -f /dev/zvol/{ROOT}/web)
        opened() {{ ls -l /proc/[0-9]*/fd 2>/dev/null | grep " $device$" >/dev/null; }}
        echo change >/sys/block/${{device#/dev/}}/uevent
        for i in $(seq 50); do if opened; then break; fi; sleep 0.1; done
        opened
        kvm-snap web rollback then
        rm {rule}; udevadm control --reload""")
    assert host.run("kvm-snap", "web", "kept", "--json").json


def resume_token(host):
    """Of a copy of web@first that was cut off."""
    host.sh(f"zfs send {ROOT}/web@first | head -c 6M | zfs receive -s vmpool/copy 2>/dev/null || true")
    token = host.sh("zfs get -Hpo value receive_resume_token vmpool/copy")
    assert token != "-"
    return token


def test_refused(host):
    host.create("web", "--disk", "data=64M", tpm=True)
    change(host, "then")
    host.fill("web", mib=16, seek=32)
    host.run("kvm-snap", "-q", "web", "snap", "first")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.create("mail")
    host.run("kvm-snap", "-q", "mail", "snap", "theirs")
    rollback = ["kvm-snap", "web", "rollback"]
    host.refuses_all([
        (["kvm-snap", "web", "rollback", "thn"], 3, "did you mean '@then'?"),
        (["kvm-snap", "web", "rollback", "mail@theirs"], 3, "not a snapshot of machine 'web'"),
        (["kvm-snap", "wev", "rollback"], 3, "did you mean 'web'?"),
        (["kvm-snap", "web", "undo"], 3, "nothing of machine 'web' is set aside"),
        (["kvm-snap", "web", "drop", "x", "--yes"], 3, "nothing of machine 'web' is set aside"),
        (["kvm-snap", "web", "drop"], 2, "which one?"),
        ([*rollback, "then", "--keep-for", "7"], 2, "--keep-for '7' is not a duration"),
        ([*rollback, "then", "--timeout", "0s"], 2, "must be more than zero"),
        (["kvm-snap", "web", "undo", "--only-disks"], 2, "--only-disks is for rollback"),
        (["kvm-snap", "web", "undo", "--destroy-newer"], 2, "--destroy-newer is for rollback"),
    ])
    # Somebody has a disk open, or sends what would move.
    host.sh(f"nohup setsid sh -c 'exec sleep 600 </dev/zvol/{ROOT}/web-data' >/dev/null 2>&1 & sleep 1")
    host.refuses(*rollback, "then", says=f"has {ROOT}/web-data open")
    host.sh("pkill -x sleep")
    host.fill("web", mib=8)
    host.run("kvm-snap", "-q", "web", "snap", "big")
    host.sh(f"mkfifo /root/slow; nohup setsid sh -c 'zfs send {ROOT}/web@big | cat >/root/slow' >/dev/null 2>&1 & "
            "nohup setsid sh -c 'exec sleep 600 </root/slow' >/dev/null 2>&1 & sleep 2")
    host.refuses(*rollback, "big", says=[f"zfs send of {ROOT}/web@big (pid ", "to 'cat'", "so far"])
    host.sh("pkill -x sleep; sleep 1; ! pgrep -f '^zfs send'")
    # A stream of all below the root may be reading any of them.
    host.sh(f"zfs snapshot -r {ROOT}@all; nohup setsid sh -c 'zfs send -R {ROOT}@all | cat >/root/slow' >/dev/null 2>&1 & "
            "nohup setsid sh -c 'exec sleep 600 </root/slow' >/dev/null 2>&1 & sleep 2")
    host.refuses(*rollback, "then", says=[f"zfs send of {ROOT}@all (pid "])
    host.sh(f"pkill -x sleep; sleep 1; ! pgrep -f '^zfs send'; zfs destroy -r {ROOT}@all")
    host.run("kvm-snap", "-q", "web", "delete", "big", "--yes")
    # One that goes on from a token names neither.
    token = resume_token(host)
    host.sh(f"nohup setsid sh -c 'zfs send -t {token} | cat >/root/slow' >/dev/null 2>&1 & "
            "nohup setsid sh -c 'exec sleep 600 </root/slow' >/dev/null 2>&1 & sleep 3")
    host.refuses(*rollback, "then", says=[f"zfs send of {ROOT}/web@first (pid "])
    host.sh("pkill -x sleep; sleep 1; ! pgrep -f '^zfs send'; zfs receive -A vmpool/copy")
    host.run("kvm-snap", "-q", "web", "delete", "first", "--yes")
    # What it was could not start here any more, or is not there any more.
    host.sh("virsh dumpxml web --inactive >/root/now.xml; ip link add br7 type bridge; "
            "sed 's/<\\/devices>/<interface type=\"bridge\"><source bridge=\"br7\"\\/><\\/interface><\\/devices>/' "
            "/root/now.xml >/root/then.xml; virsh define /root/then.xml")
    host.run("kvm-snap", "-q", "web", "snap", "bridged")
    host.sh("virsh define /root/now.xml; ip link delete br7")
    host.refuses(*rollback, "bridged", says="this host has no bridge 'br7'", hint="--only-disks")
    host.sh("touch /root/some.iso; virsh attach-disk web /root/some.iso sdb --type cdrom --mode readonly --config")
    host.run("kvm-snap", "-q", "web", "snap", "with-iso")
    host.sh("virsh define /root/now.xml; rm /root/some.iso")
    host.refuses(*rollback, "with-iso", says="/root/some.iso is not there")
    host.sh("touch /root/vmlinuz; sed 's|</type>|</type><kernel>/root/vmlinuz</kernel>|' /root/now.xml >/root/then.xml; virsh define /root/then.xml")
    host.run("kvm-snap", "-q", "web", "snap", "direct")
    host.sh("virsh define /root/now.xml; rm /root/vmlinuz")
    host.refuses(*rollback, "direct", says="/root/vmlinuz is not there")
    host.sh(f"virsh detach-disk web vdb --config; zfs rename {ROOT}/web-data vmpool/elsewhere")
    host.refuses(*rollback, "then", says=["vdb: ", f"{ROOT}/web-data is no zvol of this machine any more"])


def test_its_disks_alone(host):
    ready(host)
    definition = host.xml("web")
    host.run("kvm-snap", "web", "rollback", "first", "--only-disks")
    assert [get(host, "web"), get(host, "web-data")] == ["first", "first"]
    assert host.sh(f"cat {STATE}/web/uefi_VARS.fd {TPM}/{host.uuid('web')}/tpm2/marker") == "now\nnow"
    # libvirt puts controllers in another order when it reads them.
    lines, now = (sorted(line for line in xml.splitlines() if "<genid>" not in line)
                  for xml in (definition, host.xml("web")))
    assert now == lines
    title, row = host.run("kvm-snap", "web", "kept").out.splitlines()
    assert title.split() == ["NAME", "REASON", "USED", "EXPIRES"]
    assert re.fullmatch(rf"web-{UTC} +rollback +[\d.]+[KMG] +{UTC} *", row), row
    host.run("kvm-snap", "web", "undo")
    assert [get(host, "web"), get(host, "web-data")] == ["now", "now"]


def test_a_disk_that_came_later(host):
    """It goes aside with the present, and comes back with it."""
    host.create("web", tpm=True)
    change(host, "then", ["web"])
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.sh(f"zfs create -s -V 64M -o com.kldload:machine=web -o com.kldload:disk=data {ROOT}/web-data; udevadm settle; "
            f"virsh attach-disk web /dev/zvol/{ROOT}/web-data vdb --config")
    change(host, "now")
    result = host.run("kvm-snap", "web", "rollback")
    assert f"{ROOT}/web-data is not in '@then': it goes aside" in result.err
    says(host, "then", ["web"])
    assert "web-data" not in host.xml("web") and "web-data" not in host.datasets()
    # Its name may be another's by then.
    host.create("web-data")
    host.refuses("kvm-snap", "web", "undo", says=f"{ROOT}/web-data, of machine 'web-data'", hint="rename or delete")
    host.run("kvm-delete", "-q", "web-data", "--yes")
    host.run("kvm-snap", "web", "undo")
    says(host, "now")


def test_further_and_further_back(host):
    """Two rollbacks: what the first set aside hangs on what the second did."""
    ready(host)
    host.run("kvm-snap", "web", "rollback", "then")
    host.run("kvm-snap", "web", "rollback", "first", "--keep-for", "1h")
    says(host, "first")
    (one, two) = [kept["name"] for kept in host.run("kvm-snap", "web", "kept", "--json").json]
    host.refuses("kvm-snap", "web", "undo", one, says=f"'{one}' was set aside before '{two}'", hint=f"undo {two}")
    host.refuses("kvm-snap", "web", "drop", two, "--yes", says=f"set aside as '{one}'")
    host.run("kvm-snap", "web", "undo", two)
    says(host, "then")
    host.run("kvm-snap", "web", "undo", one)
    says(host, "now")
    assert host.snapshots("web")[:3] == ["first", "then", "later"]
    # What is set aside is the machine's property; a machine that was cloned from it is not.
    host.run("kvm-snap", "web", "rollback", "then")
    host.refuses("kvm-delete", "web", "early", "--yes", says=["'late'", "@later"])
    kept = host.run("kvm-snap", "web", "kept", "--json").json[0]["dataset"]
    host.sh(f"zfs create -s -V 8M {kept}/mine; udevadm settle")
    host.refuses("kvm-delete", "web", "early", "late", "--yes", says=f"{kept}/mine lies in", hint="zfs rename")
    host.sh(f"zfs destroy {kept}/mine")
    shown = host.run("kvm-delete", "web", "early", "late", "--dry-run").out
    assert f"{ROOT}/.kept/" in shown
    host.run("kvm-delete", "web", "early", "late", "--yes")
    assert left_behind_nothing(host)


def test_golden_and_clones_of_clones(host):
    host.create("golden", tpm=True)
    put(host, "golden", "golden")
    host.run("kvm-clone", "-q", "golden", "web")
    put(host, "web", "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("kvm-clone", "-q", "web", "copy")
    put(host, "web", "now")
    origin = host.property("web", "origin")
    host.run("kvm-snap", "web", "rollback", "then")
    assert get(host, "web") == "then" and host.property("web", "origin") == origin
    assert get(host, "copy") == "then" and get(host, "golden") == "golden"
    host.run("kvm-snap", "golden", "snap", "older")
    put(host, "golden", "edited")
    host.run("kvm-snap", "golden", "rollback", "older")
    assert get(host, "golden") == "golden" and host.property("web", "origin") == origin
    host.run("kvm-snap", "web", "undo")
    assert get(host, "web") == "now" and host.property("web", "origin") == origin
    host.run("kvm-snap", "golden", "undo")
    assert get(host, "golden") == "edited"
