# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Starts, stops and talks to the machine whose files lie in the current directory.

# launch ARGUMENT...: starts the machine with further arguments, in the background.
launch() {
  rm -f pair.sock qmp.sock pid
  # Not a child of the caller's terminal, and without its locks (descriptor 9).
  setsid "${machine[@]}" "$@" </dev/null >>qemu.log 2>&1 9>&- &
  local i
  for ((i = 0; i < 100; i++)); do
    if [ -S qmp.sock ] && [ -s pid ]; then return; fi
    sleep 0.05
  done
  die "QEMU did not start" "see $PWD/qemu.log"
}

# qmp COMMAND...: each is a QMP command as JSON, or a line for the human monitor.
qmp() {
  python3 "$lab/qmp.py" qmp.sock "$@"
}

# leave_out_ram BOOL: the QMP command for it. RAM in a file is not part of a saved state.
leave_out_ram() {
  echo '{"execute": "migrate-set-capabilities", "arguments":
    {"capabilities": [{"capability": "x-ignore-shared", "state": '"$1"'}]}}'
}

# migrate OUT_OR_IN URI: the QMP command for it.
migrate() {
  echo '{"execute": "'"$1"'", "arguments": {"uri": "'"$2"'"}}'
}

# alive: a stale pid file may name a stranger by now; ours has this working directory.
alive() {
  [ -s pid ] && [ -S qmp.sock ] && [ "/proc/$(cat pid)/cwd" -ef . ]
}

# power_off: as if the plug was pulled; the disks stay as they are.
power_off() {
  local pid
  alive || return 0
  pid=$(cat pid)
  kill -9 "$pid"
  until gone "$pid"; do sleep 0.01; done
  rm -f pid qmp.sock pair.sock
}

# gone PID: no thread of it lives, so that its locks are free. A zombie may stay for longer.
gone() {
  local thread
  for thread in /proc/"$1"/task/*; do
    if [ -d "$thread" ] && ! grep -qs '^State:.*[ZX] ' "$thread/status"; then return 1; fi
  done
}

write_ssh_config() {
  local port
  port=$(qmp 'info usernet' | awk '/HOST_FORWARD/ { print $4 }')
  [ -n "$port" ] || die "QEMU forwards no ssh port" "see $PWD/qemu.log"
  cat >ssh_config <<END
Host lab
  HostName 127.0.0.1
  Port $port
  User root
  IdentityFile $1
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 5
  ControlMaster auto
  ControlPath $PWD/ssh.sock
  ControlPersist yes
END
}

# wait_for_ssh SECONDS: logs in anew (a restored host knows no old connection) and sets the
# clock, which stands where the state was saved. AppArmor's denials count from here.
wait_for_ssh() {
  local give_up=$((SECONDS + $1)) command
  command="date -s @$(date +%s) >/dev/null; echo 'lab: restored' >/dev/kmsg"
  drop_connection
  until ssh -F ssh_config -n lab "$command" 2>>ssh.log 9>&-; do
    alive || die "QEMU is gone" "see $PWD/qemu.log and $PWD/serial.log"
    [ "$SECONDS" -lt "$give_up" ] || die "no ssh after $1 s" "see $PWD/serial.log and $PWD/ssh.log"
    sleep 0.2
  done
}

drop_connection() {
  if [ -S ssh.sock ]; then ssh -F ssh_config -O exit lab 2>/dev/null || true; fi
  rm -f ssh.sock
}
