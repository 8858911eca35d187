#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""qmp.py SOCKET COMMAND...: QMP commands as JSON, or lines for QEMU's human monitor.

Prints what each answers. `wait-migration` waits until a migration in or out has ended.
"""
import json
import socket
import sys
import time


def main() -> int:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    stream = connection.makefile("rw")

    def execute(command: dict):
        stream.write(json.dumps(command) + "\n")
        stream.flush()
        while True:
            line = stream.readline()
            if not line:
                sys.exit("qmp: QEMU closed the connection")
            answer = json.loads(line)
            if "error" in answer:
                sys.exit("qmp: " + answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def wait_for_migration():
        while True:
            status = execute({"execute": "query-migrate"}).get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                sys.exit("qmp: migration " + status)
            time.sleep(0.02)

    stream.readline()
    execute({"execute": "qmp_capabilities"})
    for command in sys.argv[2:]:
        if command == "wait-migration":
            wait_for_migration()
        elif command.startswith("{"):
            answer = execute(json.loads(command))
            if answer:
                print(json.dumps(answer))
        else:
            said = execute({"execute": "human-monitor-command", "arguments": {"command-line": command}})
            print(said.replace("\r", ""), end="")
            if said.startswith("Error"):
                return 1
    return 0


sys.exit(main())
