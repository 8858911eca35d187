# SPDX-License-Identifier: Apache-2.0
"""kld recover on a host that has no machine yet."""

from faults import plan_of, record_before
from host import ROOT
from sweeps import kill_at


def test_nothing_to_recover(host):
    with host.assert_unchanged():
        assert host.run("kld", "recover").out == "Nothing to recover.\n"


def test_the_first_machine_of_a_host_cleared_away_by_hand(host):
    """Their common parent, which the same command had made, is no machine that could be finished."""
    argv = ["kvm-create", "cleared", "--no-start", "--disk", "1", "--ram", "256", "--firmware", "bios", "--no-tpm"]
    plan = plan_of(host, argv)
    assert plan["steps"][0]["name"] == f"{ROOT}/.state"
    before = [line for line in host.state() if not line.startswith("config ")]
    kill_at(host, argv, record_before(plan, "define-domains"), plan)
    host.sh(f"zfs destroy {ROOT}/cleared; zfs destroy {ROOT}/.state/cleared; udevadm settle")
    (recovered,) = host.run("kld", "recover", "--json").json
    assert recovered["result"] == "undone", recovered
    assert host.domains() == {}
    # The root that it wrote down is all that it leaves.
    assert [line for line in host.state() if not line.startswith("config ")] == before
