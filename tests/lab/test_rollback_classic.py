# SPDX-License-Identifier: Apache-2.0
"""kvm-snap rollback --destroy-newer: what is newer goes, after it was listed, and all of the machine goes back."""

from faults import at_record, background_status, hold, journal_entries, plan_of, record_before, strace
from host import ROOT, STATE
from past import change, genid, get, guids, put, ready, says

TIMER = "autosnap_2026-04-04_14:00:00_hourly"
CLASSIC = ["kvm-snap", "web", "rollback", "then", "--destroy-newer"]


def test_lists_what_goes_asks_and_goes_back(host):
    ready(host)
    uuid, id_before = host.uuid("web"), genid(host)
    # What hangs on a newer snapshot, or holds one, is named; without --destroy-newer it would be kept.
    host.refuses(*CLASSIC, "--yes", says=[f"{ROOT}/late, machine 'late', (from {ROOT}/web@later)"],
                 hint="without --destroy-newer")
    host.run("kvm-delete", "-q", "late", "--yes")
    host.run("zfs", "hold", "mine", f"{ROOT}/web-data@later")
    host.refuses(*CLASSIC, "--yes", says=f"{ROOT}/web-data@later", hint="zfs holds")
    host.run("zfs", "release", "mine", f"{ROOT}/web-data@later")
    host.sh(f"zfs bookmark {ROOT}/web@first {ROOT}/web#first; zfs bookmark {ROOT}/web@later {ROOT}/web#later")
    host.fill("web-data", mib=3, seek=8)

    # Everything that goes is listed before the question.
    asked = host.refuses(*CLASSIC, says="nobody is there to ask", hint="--yes").err
    for part in ("web", "web-data", ".state/web", ".state/web/tpm"):
        assert f"  {ROOT}/{part}@later (" in asked, asked
        assert f"  what was written to {ROOT}/{part} since '@then': " in asked, asked
    assert f"to {ROOT}/web-data since '@then': 3." in asked, asked
    assert f"  {ROOT}/web#later\n" in asked and "#first" not in asked and "@first" not in asked, asked
    assert "Nothing is set aside and no safety snapshot is taken: there is no undo." in asked

    older = [one for one in guids(host) if one[0] in ("first", "then")]
    result = host.run(*CLASSIC, "--yes")
    assert "'web' rolled back in" in result.out and "What was newer is gone." in result.out, result
    says(host, "then")
    assert host.uuid("web") == uuid and genid(host) != id_before
    assert host.snapshots("web") == host.snapshots(".state/web/tpm") == ["first", "then"]
    assert [one for one in guids(host) if one[0] in ("first", "then")] == older
    assert host.sh(f"zfs list -Ho name -t bookmark -r {ROOT}") == f"{ROOT}/web#first"
    assert host.property("web", "origin") == "-" and host.property("early", "origin") == f"{ROOT}/web@then"
    assert host.run("kvm-snap", "web", "kept", "--json").json == []
    assert ".kept" not in host.datasets()
    assert host.sh("ls /etc/libvirt/qemu/autostart") == "web.xml"
    host.refuses("kvm-snap", "web", "undo", says="nothing of machine 'web' is set aside")

    # To the newest: no snapshot goes, the data since does.
    change(host, "since")
    asked = host.refuses(*CLASSIC, says="nobody is there to ask").err
    assert "@then (" not in asked and f"what was written to {ROOT}/web since '@then': " in asked, asked
    host.refuses("kvm-snap", "web", "rollback", "--destroy-newer", "--yes", code=2, says="wants the name of a snapshot")
    told = host.run(*CLASSIC, "--yes", "--dry-run").err
    assert f"what was written to {ROOT}/web since '@then': " in told, told
    told = host.run(*CLASSIC, "--yes").err
    assert f"what was written to {ROOT}/web since '@then': " in told, told
    says(host, "then")


def test_its_disks_alone_and_what_runs(host):
    host.create("web", "--disk", "data=64M", "--autostart")
    for disk in ("web", "web-data"):
        put(host, disk, "then")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.run("virsh", "-q", "desc", "web", "--config", "--new-desc", "now")
    for disk in ("web", "web-data"):
        put(host, disk, "now")
    host.run("kvm-snap", "-q", "web", "snap", "later")
    host.start("web")
    host.refuses(*CLASSIC, "--yes", says="machine 'web' is running", hint="--stop")
    host.run(*CLASSIC, "--yes", "--stop", "--timeout", "1s", "--only-disks")
    assert host.domains() == {"web": "running"}
    assert [get(host, "web"), get(host, "web-data")] == ["then", "then"]
    assert "<description>now</description>" in host.xml("web")
    assert host.snapshots("web") == ["then"] and host.snapshots(".state/web") == ["then", "later"]
    host.run("virsh", "destroy", "web")
    # A disk that the snapshot does not know would be lost.
    host.sh(f"zfs create -s -V 64M -o com.kldload:machine=web -o com.kldload:disk=new {ROOT}/web-new; udevadm settle")
    host.refuses(*CLASSIC, "--yes", says=f"{ROOT}/web-new", hint="without --destroy-newer")


def test_what_came_while_it_asked_is_not_lost(host):
    ready(host)
    host.run("kvm-delete", "-q", "late", "--yes")
    argv = [*CLASSIC, "--yes"]
    plan = plan_of(host, argv)
    for come, go, says_why in (
            (f"zfs snapshot {ROOT}/web-data@meanwhile", f"zfs destroy {ROOT}/web-data@meanwhile", "came meanwhile"),
            (f"zfs bookmark {ROOT}/web@later {ROOT}/web#meanwhile", f"zfs destroy {ROOT}/web#meanwhile", "came meanwhile"),
            (f"zfs rename {ROOT}/web-data@then {ROOT}/web-data@other", f"zfs rename {ROOT}/web-data@other {ROOT}/web-data@then",
             "is not the snapshot it was"),
            ("virsh start web && virsh managedsave web", "virsh managedsave-remove web", "was saved meanwhile")):
        hold(host, argv, record_before(plan, "check-newer"), 40 if "virsh" in come else 8, plan)
        # Our own start guard keeps it from being started meanwhile; it is as if it had run and been saved before.
        with host.without_start_guard():
            host.sh(come)
        status, said = background_status(host)
        assert status == 1 and says_why in said and "Everything done so far was undone." in said, said
        assert journal_entries(host) == 0 and "later" in host.snapshots("web") and get(host, "web") == "now"
        assert host.sh("ls /etc/libvirt/qemu/autostart") == "web.xml"
        host.sh(go)
    host.run(*argv)
    says(host, "then")


def test_one_that_does_not_start_afterwards(host):
    """All is done but the start: that is told, and nothing is left to recover."""
    host.create("web")
    put(host, "web", "then")
    host.sh("virsh dumpxml web --inactive >/root/good.xml; "
            "sed 's|</devices>|<serial type=\"file\"><source path=\"/nonexistent/log\"/></serial></devices>|' "
            "/root/good.xml >/root/bad.xml; virsh define /root/bad.xml")
    host.run("kvm-snap", "-q", "web", "snap", "then")
    host.sh("virsh define /root/good.xml")
    put(host, "web", "now")
    host.start("web")
    result = host.run(*CLASSIC, "--yes", "--stop", "--timeout", "1s", check=False)
    assert result.rc == 1 and "What was done before it stays." in result.err, result
    assert host.domains() == {"web": "shut off"} and get(host, "web") == "then" and journal_entries(host) == 0
    host.sh("virsh define /root/good.xml")
    host.start("web")


def test_what_somebody_took_meanwhile_and_a_cut_between_two_datasets(host):
    """Behind its commit point it is finished, with whatever a timer has added."""
    ready(host)
    host.run("kvm-delete", "-q", "late", "--yes")
    argv = [*CLASSIC, "--yes"]
    plan = plan_of(host, argv)
    record = record_before(plan, "rollback-datasets")
    host.run(*strace(at_record(plan, record, "signal=KILL"), argv), check=False)
    assert host.snapshots("web") == ["first", "then"] and get(host, "web") == "now"
    # One dataset is back already, a timer has been there, the other datasets are as they were.
    host.sh(f"zfs rollback {ROOT}/web@then; zfs snapshot -r {ROOT}@{TIMER}; zfs bookmark {ROOT}/web-data@{TIMER} {ROOT}/web-data#auto")
    # In use: it waits until that has ended.
    host.sh(f"nohup setsid sh -c 'exec sleep 600 </dev/zvol/{ROOT}/web-data' >/dev/null 2>&1 & sleep 1")
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and f"has {ROOT}/web-data open" in result.out + result.err, result
    host.sh("pkill -x sleep")
    # What a person took meanwhile is not a timer's.
    host.sh(f"zfs snapshot {ROOT}/web-data@rescue")
    result = host.run("kld", "recover", check=False)
    assert result.rc == 4 and f"'{ROOT}/web-data@rescue' was taken since" in result.out + result.err, result
    host.sh(f"zfs destroy {ROOT}/web-data@rescue")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "finished", recovered
    says(host, "then")
    assert host.snapshots("web") == host.snapshots("web-data") == host.snapshots(".state/web") == ["first", "then"]
    assert host.snapshots("early") == [TIMER], "others keep theirs"
    assert host.domains()["web"] == "shut off" and host.sh("ls /etc/libvirt/qemu/autostart") == "web.xml"
    assert host.sh(f"findmnt -no FSTYPE {STATE}/web") == "zfs"
