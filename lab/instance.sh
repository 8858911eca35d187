# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Running instances: one directory each, with private overlays over the lab's disks.

# enter NAME: goes into the directory of an instance that was started once.
enter() {
  [ -e "$run/$1/ready" ] || die "no lab named '$1'" "lab/lab start $1"
  cd "$run/$1"
}

# plain WORD: refuses what cannot be the name of a directory.
plain() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || die "'$1' is no name for a lab or a state"
}

start() {
  local name=$1 net=${2:-}
  plain "$name"
  make_lab
  mkdir -p "$run/$name"
  cd "$run/$name"
  # A socket's name has at most 107 characters, ssh's own suffix included.
  [ ${#PWD} -le 75 ] || die "the path $PWD is too long for a socket" "set KLDLOAD_LAB_DIR to a short one"
  power_off
  drop_connection
  rm -rf -- *
  ln -s "$ready" ready
  mkdir saved
  if [ "$net" = pair ]; then ln -s "../$(peer_of "$name")" peer; fi
  resume ready own
}

# resume DIR [own]: runs on from the state saved in DIR, which stays as it is. Its RAM is mapped
# copy on write, which is quickest; `own` RAM is a copy, from which it is quick to save again.
resume() {
  local disk format backend="mem-path=$1/ram,share=off"
  power_off
  drop_connection
  for disk in root pool spare; do
    format=qcow2
    if [ -e "$1/$disk.raw" ]; then format=raw; fi
    # A new file: the old one's locks may outlive the QEMU that was killed by a moment.
    rm -f "$disk.qcow2"
    qemu-img create -q -f qcow2 -F "$format" -b "$(readlink -f "$1")/$disk.$format" "$disk.qcow2"
  done
  rm -f ram
  if [ "${2:-}" = own ]; then
    cp --sparse=always "$1/ram" ram
    backend=mem-path=ram,share=on
  fi
  machine qcow2 "memory-backend-file,id=ram,size=$ram,$backend"
  launch -incoming defer
  qmp "$(leave_out_ram true)" "$(migrate migrate-incoming "exec:cat $1/state")" wait-migration \
    "$(leave_out_ram false)" cont
  reached 60
  if [ "$1" = ready ] && [ -L peer ]; then
    ssh -F ssh_config -n lab "lab-identity $(basename "$PWD") $(number_of "$(basename "$PWD")")"
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

boot() {
  enter "$1"
  power_off
  rm -f ram
  machine qcow2 memory-backend-ram,id=ram,size="$ram"
  launch -kernel ready/vmlinuz -initrd ready/initrd -append "$kernel_line"
  reached 180
}

save() {
  enter "$1"
  alive || die "lab '$1' does not run"
  plain "$2"
  local dir=saved/$2
  [ ! -e "$dir" ] || die "lab '$1' has a state '$2' already"
  mkdir "$dir"
  drop_connection
  if [ -e ram ]; then save_own "$dir"; else save_mapped "$dir"; fi
  mv root.qcow2 pool.qcow2 spare.qcow2 "$dir"
  resume "$dir" own
}

save_own() {
  qmp "$(leave_out_ram true)" "$(migrate migrate "exec:cat >$1/state")" wait-migration
  power_off
  if [ "$1" != . ]; then mv ram "$1"; fi
}

# save_mapped DIR: a second QEMU takes the machine over, with its RAM in a file.
save_mapped() {
  ln -s ../../root.qcow2 ../../pool.qcow2 ../../spare.qcow2 "$1"
  (
    cd "$1"
    machine qcow2 memory-backend-file,id=ram,size="$ram",mem-path=ram,share=on
    launch -incoming unix:from
  )
  qmp stop '{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 100000000000}}' \
    "$(migrate migrate "unix:$1/from")" wait-migration
  (
    cd "$1"
    # It must run for a moment before it can be saved: only then its disks are its own.
    qmp wait-migration cont
    save_own .
    rm root.qcow2 pool.qcow2 spare.qcow2
  )
  power_off
}

restore() {
  enter "$1"
  local state=saved/$2
  if [ "$2" = ready ]; then state=ready; fi
  [ -e "$state/state" ] || die "lab '$1' has no state '$2'" "it has: ready $(cd saved && echo *)"
  resume "$state"
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
