# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Makes what the lab starts from. Three stages, each cached under the hash of its recipe:
#   debian-HASH  a Debian with OpenZFS and libvirt, as a tar
#   guest-HASH   the disk of a small Debian guest
#   lab-HASH     the lab's host: configured, booted once, prepared; its disks and RAM

debian_stage() { echo "debian-$( (packages lab-host bench && recipe debian) | hash_of)"; }
guest_stage() { echo "guest-$( (packages guest && recipe guest) | hash_of)"; }
lab_stage() {
  echo "lab-$( (debian_stage && guest_stage && recipe host && cat "$lab/machine.sh" && echo "$cpus" &&
    qemu-system-x86_64 --version) | hash_of)"
}

packages() { "$lab/../tools/setup" --list "$@" | sort -u; }
hash_of() { sha256sum | cut -c1-12; }

# recipe DIR: all that decides what a stage makes.
recipe() {
  declare -f debian
  (cd "$lab/$1" && find . -type f -printf '%P %m\n' | sort && find . -type f -print0 | sort -z | xargs -0 cat)
}

# debian OUT SECTION... OPTION...: a Debian with the packages of these sections.
debian() {
  local out=$1 sections=() options=() word
  shift
  for word in "$@"; do
    case $word in -*) options+=("$word") ;; *) sections+=("$word") ;; esac
  done
  # What this machine needs to reach a mirror (proxy, ...) the new system needs while it is made.
  apt-config dump | grep -E '^Acquire::(https?::|Check-)' >apt.conf || true
  as_root mmdebstrap --variant=minbase --include="$(packages "${sections[@]}" | paste -sd,)" \
    --aptopt=apt.conf --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    "${options[@]}" bookworm "$out"
}

# stage NAME FUNCTION: runs FUNCTION in a new directory, which becomes $cache/NAME when it
# is whole. What failed is left for a look, and the next attempt starts anew.
stage() {
  local name=$1 build=$2 work=$cache/$1.making
  if [ -d "$cache/$name" ]; then return; fi
  echo "making $cache/$name" >&2
  as_root rm -rf "$work"
  mkdir -p "$work"
  local began=$SECONDS
  # Not `(...) || ...`: bash would go on after errors inside it.
  set +e
  (
    set -e
    cd "$work"
    "$build"
  ) >"$cache/$name.log" 2>&1
  local status=$?
  set -e
  if [ $status != 0 ]; then
    tail -n 20 "$cache/$name.log" >&2
    die "making $name failed" "the whole log: $cache/$name.log; what was made: $work"
  fi
  mv "$work" "$cache/$name"
  echo "made $name in $((SECONDS - began)) s" >&2
}

make_lab() {
  require
  ready=$cache/$(lab_stage)
  if [ ! -d "$ready" ]; then
    lock
    debian=$cache/$(debian_stage) guest=$cache/$(guest_stage)
    . "$lab/debian/build.sh"
    . "$lab/guest/build.sh"
    . "$lab/host/build.sh"
    stage "${debian##*/}" build_debian
    stage "${guest##*/}" build_guest
    stage "${ready##*/}" build_host
    touch "$debian" "$guest"
    forget_old
    unlock
  fi
  touch "$ready"
}

# make_guest: only the guest's disk, whose name it prints.
make_guest() {
  require
  guest=$cache/$(guest_stage)
  lock
  . "$lab/guest/build.sh"
  stage "${guest##*/}" build_guest
  unlock
  touch "$guest"
  echo "$guest/guest.qcow2"
}

require() {
  if command -v mmdebstrap qemu-system-x86_64 syslinux >/dev/null; then return; fi
  die "programs are missing" "tools/setup lab"
}

# What two of us make at the same time one makes and the other waits for.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/make.lock"
  flock 9
}
unlock() { exec 9>&-; }

# forget_old: what no lab was started from for a week goes.
forget_old() {
  find "$cache" -mindepth 1 -maxdepth 1 -name '*-*' -mtime +7 -print0 | as_root xargs -0r rm -rf
}
