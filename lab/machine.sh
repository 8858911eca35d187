# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The emulated machine that the lab's host runs on. A saved state fits only the
# machine that it was saved on, so what is here is part of the cache's name.

ram=6144M
pool_size=24G
# The lab for measurements has two, as hosts have more than one; it starts no machine (see below).
cpus=${KLD_LAB_CPUS:-1}
spare_size=4G
# Emulation translates code anew wherever it finds it at another address: a host that randomizes none starts programs in a
# third of the time. The rest would clear, check or count what no test looks at.
quick='mitigations=off norandmaps nokaslr init_on_alloc=0 hardened_usercopy=0 randomize_kstack_offset=0 nowatchdog
  kfence.sample_interval=0'
kernel_line="root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=1 security=apparmor ${quick//$'\n' /}"
# Without what emulation does slowly: string moves by the byte, a fifth level of page tables, checks at each way into the kernel.
cpu=max,-erms,-fsrm,-la57,-smap,-smep,-umip,-pku

# A saved state is a directory: disks, `state` (of the devices) and `ram`, a file that is only
# mapped, not copied, when the state is restored.
# machine FORMAT RAM_BACKEND...: QEMU's arguments for the machine whose files lie in the
# current directory, in the array `machine`. Relative paths, as a socket's name must be short.
machine() {
  local format=$1
  shift
  local disk="cache=writeback,discard=unmap,format=$format,if=none"
  # shellcheck disable=SC2054  # the commas are QEMU's
  machine=(
    qemu-system-x86_64 -nodefaults -display none -no-user-config
    # One processor. With more, QEMU before 8.2 may go on running code that another has just patched, and a kernel that
    # patches itself at every start of a virtual machine then traps for ever. Two labs on two processors are quicker
    # so, too: nothing spins.
    -accel "tcg,thread=multi,tb-size=1024"
    -machine q35,memory-backend=ram -cpu "$cpu" -smp "$cpus" -m "$ram"
    -object "$*"
    -drive "file=root.$format,id=root,$disk" -device virtio-blk-pci,drive=root,serial=root
    -drive "file=pool.$format,id=pool,$disk" -device virtio-blk-pci,drive=pool,serial=pool
    -drive "file=spare.$format,id=spare,$disk" -device virtio-blk-pci,drive=spare,serial=spare
    # The host sees nothing but this machine: tests must not need the internet.
    -netdev "user,id=user,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"
    -device virtio-net-pci,netdev=user,romfile=
    -netdev "dgram,id=pair,local.type=unix,local.path=pair.sock,remote.type=unix,remote.path=peer/pair.sock"
    -device virtio-net-pci,netdev=pair,romfile=,mac=02:00:00:00:77:00
    -device virtio-rng-pci
    -serial file:serial.log
    -qmp unix:qmp.sock,server=on,wait=off
    -pidfile pid
  )
}
