# SPDX-License-Identifier: Apache-2.0
"""A UEFI variable that the firmware changes and an index in the TPM's NV memory: a rollback and its undo bring both back.
Emulated: UEFI under nested KVM ends the outer emulator. Its firmware boots three times, which takes four minutes: in the
long tests."""

import subprocess
import time

import pytest
from host import ROOT, STATE, TPM, lab

BOOT = 1200  # seconds; a firmware that is emulated twice takes a minute and a half to its shell on an idle machine
LOG = "/var/log/libvirt/qemu/fw-serial.log"
VARIABLE = "KldTest -guid 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
SET = "setvar {} -nv -bs -rt =L\"{}\"\r\n"
TELL = "dmpstore {}\r\necho told\r\nreset -s\r\n"

INDEX, OWNER = bytes.fromhex("01500001"), bytes.fromhex("40000001")
NO_PASSWORD = bytes.fromhex("00000009" "40000009" "0000" "00" "0000")
# Starts the emulator on the state that the machine's own one works with, and passes it commands.
ASK_TPM = """
import socket, subprocess, sys, time
state, commands = sys.argv[1], sys.argv[2:]
tpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + state, "--flags",
                        "not-need-init,startup-clear", "--terminate", "--server", "type=unixio,path=/root/tpm.sock"])
for _ in range(100):
    try:
        server = socket.socket(socket.AF_UNIX)
        server.connect("/root/tpm.sock")
        break
    except OSError:
        time.sleep(0.1)
for command in commands:
    server.send(bytes.fromhex(command))
    print(server.recv(4096).hex())
server.close()
try:
    tpm.wait(60)
finally:
    tpm.kill()
"""


def tpm_command(code, handles, parameters):
    """Of a TPM 2.0, given by the owner, whose password is empty."""
    body = code.to_bytes(4, "big") + handles + NO_PASSWORD + parameters
    return (b"\x80\x02" + (len(body) + 6).to_bytes(4, "big") + body).hex()


# Four bytes that owner and authorization may read and write.
DEFINE = tpm_command(0x12A, OWNER, bytes.fromhex("0000" "000e" "01500001" "000b" "02060006" "0000" "0004"))
READ = tpm_command(0x14E, OWNER + INDEX, bytes.fromhex("0004" "0000"))


def write(text):
    return tpm_command(0x137, OWNER + INDEX, bytes.fromhex("0004") + text.encode() + bytes.fromhex("0000"))


def ask_tpm(host, *commands):
    """The last answer, as bytes; each has to say success."""
    host.write("/root/ask-tpm", ASK_TPM)
    lines = host.run("python3", "/root/ask-tpm", f"{TPM}/{host.uuid('fw')}/tpm2", *commands).out.split()
    assert len(lines) == len(commands) and all(line[12:20] == "00000000" for line in lines), lines
    return bytes.fromhex(lines[-1])


def boot(host, tmp_path, text=""):
    """Its firmware's shell sets the variable if told to, says what it holds and powers off: what it said."""
    (tmp_path / "startup.nsh").write_text((SET.format(VARIABLE, text) if text else "") + TELL.format(VARIABLE), newline="")
    disk = tmp_path / "disk.fat"
    disk.write_bytes(bytes(8 << 20))
    subprocess.run(["mformat", "-i", disk, "-T", "16384", "-h", "16", "-s", "32", "::"], check=True)
    subprocess.run(["mcopy", "-i", disk, tmp_path / "startup.nsh", "::/"], check=True)
    lab("copy", disk, f"{host.name}:/root/disk.fat")
    host.sh(f"dd if=/root/disk.fat of=/dev/zvol/{ROOT}/fw bs=1M oflag=direct status=none; rm -f {LOG}")
    host.start("fw")
    give_up = time.monotonic() + BOOT
    while host.domains()["fw"] != "shut off":
        assert time.monotonic() < give_up, host.sh(f"tail -c 3000 {LOG}", check=False).out
        time.sleep(3)
    said = host.run("cat", "-v", LOG).out
    assert "told" in said, said
    return said


def holds(said, text):
    """A dump has sixteen bytes a line, then the same as characters."""
    return f"{text[0]}.{text[1]}.{text[2]}.{text[3]}" in said


def sums(host):
    return host.sh(f"sha256sum {STATE}/fw/uefi_VARS.fd {TPM}/{host.uuid('fw')}/tpm2/tpm2-00.permall").splitlines()


@pytest.mark.soak
def test_variables_and_tpm_go_back_and_come_back(host, tmp_path):
    # An emulated guest takes all of an emulated host: who asks how it is goes first.
    host.run("systemctl", "set-property", "--runtime", "machine.slice", "CPUWeight=1")
    host.run("kvm-create", "fw", "--virt-type", "qemu", "--disk", "64M", "--ram", "256", "--cpus", "1", "--network", "none",
             "--no-start")
    host.sh(f"""
        virsh dumpxml fw --inactive >/root/fw.xml
        for kind in serial console; do
          sed -i "s|<$kind type='pty'>|<$kind type='file'><source path='{LOG}'/>|" /root/fw.xml
        done
        virsh define /root/fw.xml
    """)
    assert holds(boot(host, tmp_path, "then"), "then")
    ask_tpm(host, DEFINE, write("then"))
    host.run("kvm-snap", "-q", "fw", "snap", "then")
    then = sums(host)

    assert holds(boot(host, tmp_path, "next"), "next")
    ask_tpm(host, write("next"))
    now = sums(host)
    assert not set(now) & set(then)

    host.run("kvm-snap", "fw", "rollback", "then")
    assert sums(host) == then
    assert b"then" in ask_tpm(host, READ)
    said = boot(host, tmp_path)
    assert holds(said, "then") and not holds(said, "next"), said

    host.run("kvm-snap", "fw", "undo")
    assert sums(host) == now
    assert b"next" in ask_tpm(host, READ)
