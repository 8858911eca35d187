# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The lab's host, configured, booted once, prepared and saved: disks, RAM and the machine's state.

build_host() {
  ssh-keygen -q -t ed25519 -N '' -C lab -f key
  root_disk
  truncate -s "$pool_size" pool.raw
  sfdisk -q pool.raw <<<'label: gpt
    type=6A898CC3-1DD2-11B2-99A6-080020736631, name=pool'
  truncate -s "$spare_size" spare.raw

  machine raw memory-backend-file,id=ram,size="$ram",mem-path=ram,share=on
  trap power_off EXIT
  launch -kernel vmlinuz -initrd initrd -append "$kernel_line"
  write_ssh_config "$PWD/key"
  wait_for_ssh 180
  ssh -F ssh_config -n lab lab-prepare
  drop_connection
  # Running when saved, so running as soon as it is restored.
  qmp "$(leave_out_ram true)" "$(migrate migrate 'exec:cat >state')" wait-migration
  power_off
  [ -s state ]
  trap - EXIT
  rm -f ssh_config
  sync -f .
}

# root_disk: the host's tree with its configuration as an ext4 image, its kernel beside it.
root_disk() {
  mkdir tree
  as_root tar -C tree --xattrs --numeric-owner -xpf "$debian/debian.tar"
  as_root "$lab/host/configure" tree "$lab/host/files" key "$guest/guest.qcow2"
  as_root cp tree/boot/vmlinuz-* vmlinuz
  as_root cp tree/boot/initrd.img-* initrd
  truncate -s 12G root.raw
  as_root mke2fs -q -t ext4 -m 0 -d tree root.raw
  as_root chown "$(id -u)" vmlinuz initrd
  as_root rm -rf tree
}
