# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The disk of a small Debian guest with cloud-init and the guest agent, made without mounting
# anything: an MBR, a FAT with the boot loader and the kernel, an ext4 root that can grow.
# Boots by BIOS and by UEFI.

guest_size=2048 # MiB, as are these
boot_start=1
boot_size=48
guest_line='root=LABEL=root console=tty0 console=ttyS0 net.ifnames=0 quiet mitigations=off norandmaps nokaslr
  init_on_alloc=0 hardened_usercopy=0 randomize_kstack_offset=0'

build_guest() {
  debian tree guest
  as_root "$lab/guest/configure" tree "$lab/guest/files"
  initrd
  boot_partition
  root_partition
  truncate -s "${guest_size}M" guest.raw
  sfdisk -q guest.raw <<END
label: dos
start=${boot_start}MiB, size=${boot_size}MiB, type=ef, bootable
start=$((boot_start + boot_size))MiB, type=83
END
  dd if=/usr/lib/syslinux/mbr/mbr.bin of=guest.raw conv=notrunc status=none
  place boot.fat "$boot_start"
  place root.ext4 $((boot_start + boot_size))
  qemu-img convert -f raw -O qcow2 guest.raw guest.qcow2
  as_root rm -rf tree initrd.tree boot.fat root.ext4 guest.raw vmlinuz initrd
}

# place FILE MIB: puts a partition where it belongs.
place() { dd if="$1" of=guest.raw bs=1M seek="$2" conv=notrunc,sparse status=none; }

boot_partition() {
  local efi=/usr/lib/SYSLINUX.EFI/efi64 modules=/usr/lib/syslinux/modules/efi64
  cat >syslinux.cfg <<END
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND ${guest_line//$'\n' /}
END
  cp tree/boot/vmlinuz-* vmlinuz
  truncate -s "${boot_size}M" boot.fat
  # The boot sector must know how far into the disk its partition lies.
  mformat -i boot.fat -v BOOT -H $((boot_start * 2048)) -h 255 -s 63 -T $((boot_size * 2048)) ::
  mmd -i boot.fat ::/EFI ::/EFI/BOOT
  mcopy -i boot.fat vmlinuz initrd syslinux.cfg ::/
  mcopy -i boot.fat "$efi/syslinux.efi" ::/EFI/BOOT/BOOTX64.EFI
  mcopy -i boot.fat "$modules/ldlinux.e64" syslinux.cfg ::/EFI/BOOT/
  syslinux --install boot.fat
}

root_partition() {
  as_root rm -rf tree/boot/*
  truncate -s $((guest_size - boot_start - boot_size))M root.ext4
  as_root mke2fs -q -t ext4 -m 0 -L root -d tree root.ext4
}

# initrd: only what finds the root file system. Debian's own starts a udev and is far slower
# under nested emulation.
initrd() {
  local kernel module
  kernel=$(basename tree/lib/modules/*)
  mkdir -p initrd.tree/{bin,dev,proc,sys,root}
  cp tree/bin/busybox initrd.tree/bin/
  cp "$lab/guest/init" initrd.tree/init
  for module in virtio_pci virtio_blk ext4; do
    modprobe -d "$PWD/tree" -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
  done | awk '!seen[$0]++' >modules.list
  while read -r module; do
    cp "$module" initrd.tree/
    basename "$module" >>initrd.tree/modules
  done <modules.list
  (cd initrd.tree && find . | cpio -o -H newc --quiet -R 0:0) | gzip -9 >initrd
}
