# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The lab's host: packages and kernel modules, nothing configured yet. Minutes, as zfs.ko is compiled.

build_debian() {
  debian debian.tar lab-host bench --components=main,contrib \
    --customize-hook="$lab/debian/shrink \"\$1\""
}
