# SPDX-License-Identifier: Apache-2.0
def test_nothing_to_recover(host):
    with host.assert_unchanged():
        assert host.run("kld", "recover").out == "Nothing to recover.\n"
