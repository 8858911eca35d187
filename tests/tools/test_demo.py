# SPDX-License-Identifier: Apache-2.0
"""tools/demo itself, with stand-ins for the lab, the build and the story: what it starts, keeps, stops and says."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Demo(unittest.TestCase):
    def setUp(self):
        self.tree = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)
        for directory in ("tools", "lab", "stand-ins"):
            (self.tree / directory).mkdir()
        shutil.copy(ROOT / "tools/demo", self.tree / "tools/demo")
        self.script("tools/setup", f'echo "setup $*" >>{self.tree}/calls')
        self.script("tools/install", 'echo building; touch "$2/kldload-kvm_1_amd64.deb"; echo "$2/kldload-kvm_1_amd64.deb"')
        self.script("tools/demo-story", f'echo "story $*" >>{self.tree}/calls')
        self.lab()

    def script(self, path, text):
        file = self.tree / path
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def lab(self, fails=""):
        """Writes down how it was called; a verb may fail."""
        self.script("lab/lab", f'echo "lab $*" >>{self.tree}/calls\n'
                    f'if [ "$1" = guest ]; then echo /the/guest.qcow2; fi\nif [ "$1" = "{fails}" ]; then exit 1; fi')

    def run_it(self, *words):
        (self.tree / "calls").unlink(missing_ok=True)
        done = subprocess.run([self.tree / "tools/demo", *words], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": f"{self.tree}/stand-ins:{os.environ['PATH']}"})
        self.out, self.err = done.stdout, done.stderr
        calls = self.tree / "calls"
        self.calls = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode

    def verbs(self):
        return [line.split()[1] for line in self.calls if line.startswith("lab ")]

    def test_the_host_goes_again(self):
        self.assertEqual(self.run_it(), 0, self.err)
        setup, start, copy, install, timer, story, stop = self.calls
        self.assertEqual((setup, start, stop), ("setup lab", "lab start demo", "lab stop demo"))
        self.assertRegex(copy, rf"^lab copy \S+/kldload-kvm_1_amd64.deb {self.tree}/tools/demo-story demo:/root/$")
        self.assertEqual(install, "lab run demo -- dpkg -i /root/kldload-kvm_1_amd64.deb")
        self.assertEqual(timer, "lab run demo -- systemctl stop kvm-snapshot.timer")
        self.assertEqual(story, "lab run demo -- /root/demo-story vmpool /var/lib/kldload-lab/guest.qcow2")
        self.assertNotIn("log in", self.out)

    def test_keep(self):
        self.assertEqual(self.run_it("--keep"), 0, self.err)
        self.assertEqual(self.verbs(), ["start", "copy", "run", "run", "run"])
        self.assertIn(f"log in:  {self.tree}/lab/lab ssh demo\n", self.out)
        self.assertIn(f"stop it: {self.tree}/lab/lab stop demo\n", self.out)

    def test_what_fails_leaves_no_host(self):
        self.lab(fails="copy")
        self.assertEqual(self.run_it(), 1)
        self.assertEqual(self.verbs(), ["start", "copy", "stop"])

    def test_words(self):
        self.assertEqual(self.run_it("--help"), 0)
        self.assertIn("usage: tools/demo", self.out)
        for words in (["--nonsense"], ["--here"]):
            self.assertEqual(self.run_it(*words), 2)
            self.assertIn("usage: tools/demo", self.err)
        self.assertEqual(self.calls, [])

    def test_here_needs_a_hypervisor(self):
        bare = self.tree / "bare"
        bare.mkdir()
        for program in ("bash", "dirname", "readlink", "id", "cat"):
            (bare / program).symlink_to(shutil.which(program))
        done = subprocess.run([self.tree / "tools/demo", "--here", "pool"], capture_output=True, text=True, timeout=60,
                              env={"PATH": str(bare)})
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("this host has no zfs" if os.geteuid() == 0 else "run it as root", done.stderr)


if __name__ == "__main__":
    unittest.main()
