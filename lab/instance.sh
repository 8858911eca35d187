# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Running instances: one directory each, with private overlays over the lab's disks.

# enter NAME: goes into the directory of an instance that was started once.
enter() {
  [ -e "$run/$1/ready" ] || die "no lab named '$1'" "lab/lab start $1"
  cd "$run/$1"
}

start() {
  local name=$1 net=${2:-} disk
  make_lab
  mkdir -p "$run/$name"
  cd "$run/$name"
  # A socket's name has at most 107 characters, ssh's own suffix included.
  [ ${#PWD} -le 75 ] || die "the path $PWD is too long for a socket" "set KLDLOAD_LAB_DIR to a short one"
  power_off
  drop_connection
  rm -rf -- *
  ln -s "$ready" ready
  if [ "$net" = pair ]; then ln -s "../$(peer_of "$name")" peer; fi
  for disk in root pool spare; do
    qemu-img create -q -f qcow2 -F raw -b "$ready/$disk.raw" "$disk.qcow2"
  done
  machine qcow2 memory-backend-file,id=ram,size="$ram",mem-path=ready/ready.ram,share=off
  launch -incoming defer
  qmp "$leave_out_ram" \
    '{"execute": "migrate-incoming", "arguments": {"uri": "exec:cat ready/ready.state"}}' \
    wait-migration
  reached 60
  if [ "$net" = pair ]; then
    ssh -F ssh_config -n lab "lab-identity $name $(number_of "$name")"
  fi
}

peer_of() {
  case $1 in a) echo b ;; b) echo a ;; *) die "a pair's hosts are named a and b, not '$1'" ;; esac
}
number_of() { if [ "$1" = a ]; then echo 1; else echo 2; fi; }

# reached SECONDS: waits until the host answers.
reached() {
  write_ssh_config "$PWD/ready/key"
  wait_for_ssh "$1"
}

# plain_ram: the RAM of a machine that is not restored from the ready state.
plain_ram() { machine qcow2 memory-backend-ram,id=ram,size="$ram"; }

boot() {
  enter "$1"
  power_off
  plain_ram
  launch -kernel ready/vmlinuz -initrd ready/initrd -append "$kernel_line"
  reached 180
}

save() {
  enter "$1"
  alive || die "lab '$1' does not run"
  qmp "savevm $2"
}

restore() {
  enter "$1"
  if alive; then
    qmp "loadvm $2"
  else
    plain_ram
    launch -loadvm "$2"
  fi
  reached 60
}

stop() {
  enter "$1"
  power_off
  drop_connection
  cd "$run"
  rm -rf -- "${run:?}/$1"
}

cut_power() {
  enter "$1"
  alive || die "lab '$1' does not run"
  power_off
  drop_connection
}

status() {
  local dir name state
  for dir in "$run"/*/; do
    [ -e "$dir/ready" ] || continue
    name=$(basename "$dir")
    if (cd "$dir" && alive); then state=running; else state=off; fi
    printf '%-8s %-8s %s\n' "$name" "$state" "$dir"
  done
}

in_lab() {
  local name=$1 command
  shift
  enter "$name"
  printf -v command '%q ' "$@"
  exec ssh -F ssh_config lab "$command"
}

# denials NAME: what AppArmor refused since the last restore or boot; exit 1 if there is any.
denials() {
  local found
  found=$(in_lab "$1" dmesg | awk '
    /lab: restored/ { found = "" }
    /apparmor="DENIED"/ { found = found $0 "\n" }
    END { printf "%s", found }')
  if [ -z "$found" ]; then return; fi
  printf '%s\n' "$found"
  exit 1
}
