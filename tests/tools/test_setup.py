# SPDX-License-Identifier: Apache-2.0
"""tools/setup and tools/install themselves, with stand-ins for apt, dpkg, sudo and the build."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = """# comment
[build]
cmake ninja-build

[lab]
qemu-system-x86
cmake
"""


class Tools(unittest.TestCase):
    def setUp(self):
        self.tree = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)
        for directory in ("tools", "stand-ins"):
            (self.tree / directory).mkdir()
        for tool in ("setup", "install"):
            shutil.copy(ROOT / "tools" / tool, self.tree / "tools" / tool)
        (self.tree / "tools/packages").write_text(PACKAGES)
        self.stand_in("id", "echo 0")
        self.stand_in("sudo", f'echo "sudo $*" >>{self.tree}/calls; shift; exec "$@"')
        self.stand_in("tee", f"cat >{self.tree}/contrib")
        self.apt()
        self.installed()

    def stand_in(self, name, text):
        file = self.tree / "stand-ins" / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def apt(self, contrib=""):
        self.stand_in("apt-get", f"""case "$*" in
            "indextargets Created-By: Packages Component: contrib") echo "{contrib}" ;;
            indextargets*) echo http://mirror.example/debian ;;
            *) echo "apt-get $*" >>{self.tree}/calls ;;
            esac""")

    def installed(self, *packages):
        lines = "".join(f"installed {package}\\n" for package in packages)
        self.stand_in("dpkg-query", f"printf '{lines}'; exit 1")

    def run_it(self, tool, *words):
        (self.tree / "calls").unlink(missing_ok=True)
        done = subprocess.run([self.tree / "tools" / tool, *words], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": f"{self.tree}/stand-ins:{os.environ['PATH']}"})
        self.out, self.err = done.stdout, done.stderr
        calls = self.tree / "calls"
        self.calls = calls.read_text().splitlines() if calls.exists() else []
        # What apt does, and with what; not how it waits.
        self.apt_did = [[word for word in line.split() if word in ("update", "install") or word[0] not in "-D"][1:]
                        for line in self.calls if line.startswith("apt-get")]
        return done.returncode

    def test_nothing_is_missing(self):
        self.installed("cmake", "ninja-build")
        self.assertEqual(self.run_it("setup", "build"), 0, self.err)
        self.assertEqual(self.calls, [])

    def test_what_is_missing(self):
        self.installed("cmake")
        self.assertEqual(self.run_it("setup", "build", "lab"), 0, self.err)
        self.assertEqual(self.apt_did, [["update"], ["update"], ["install", "ninja-build", "qemu-system-x86"]])
        self.assertRegex((self.tree / "contrib").read_text(), r"^deb .*http://mirror.example/debian \S+ contrib\n$")
        self.assertIn("installing: ninja-build qemu-system-x86", self.err)

    def test_contrib_is_there(self):
        self.apt(contrib="something")
        self.assertEqual(self.run_it("setup", "build"), 0, self.err)
        self.assertEqual(self.apt_did, [["update"], ["install", "cmake", "ninja-build"]])
        self.assertFalse((self.tree / "contrib").exists())

    def test_not_root(self):
        self.stand_in("id", "echo 1000")
        self.apt(contrib="something")
        self.assertEqual(self.run_it("setup", "build"), 0, self.err)
        self.assertEqual([line.split()[:3] for line in self.calls if line.startswith("sudo")],
                         [["sudo", "--", "apt-get"], ["sudo", "--", "env"]])

    def test_words(self):
        self.assertEqual(self.run_it("setup"), 2)
        self.assertEqual(self.run_it("setup", "nonsense"), 2)
        self.assertIn("no section 'nonsense'", self.err)
        self.assertEqual(self.calls, [])
        self.assertEqual(self.run_it("setup", "--list", "build", "lab"), 0)
        self.assertEqual(self.out.split(), ["cmake", "ninja-build", "qemu-system-x86", "cmake"])
        self.assertEqual(self.run_it("install", "--nonsense"), 2)
        self.assertEqual(self.run_it("install", "--deb"), 2)

    def build(self):
        """Stand-ins for what builds: it says how often the package was made."""
        self.installed("cmake", "ninja-build")
        for directory in ("build/release/src", "build/release/docs", "packaging", "docs"):
            (self.tree / directory).mkdir(parents=True)
        for file in ("build/release/src/kld", "build/release/docs/cli.json", "build/release/CPackConfig.cmake",
                     "README.md", "CHANGELOG.md"):
            (self.tree / file).touch()
        for program in ("cmake", "ninja"):
            self.stand_in(program, "exit 0")
        self.stand_in("cpack", f"echo cpack >>{self.tree}/calls; touch kldload-kvm_1_amd64.deb")

    def test_a_package(self):
        self.build()
        for made in (["cpack"], []):  # only when something changed
            self.assertEqual(self.run_it("install", "--deb", self.tree / "out"), 0, self.err)
            self.assertEqual((self.out, self.calls), (f"{self.tree}/out/kldload-kvm_1_amd64.deb\n", made))
        future = (self.tree / "out/kldload-kvm_1_amd64.deb").stat().st_mtime + 10
        os.utime(self.tree / "build/release/src/kld", (future, future))
        self.assertEqual((self.run_it("install", "--deb", self.tree / "out"), self.calls), (0, ["cpack"]))
        self.assertTrue((self.tree / "out/kldload-kvm_1_amd64.deb").exists())

    def test_an_installation(self):
        self.build()
        self.assertEqual(self.run_it("install"), 0, self.err)
        self.assertEqual(self.apt_did, [["install", f"{self.tree}/build/release/kldload-kvm_1_amd64.deb"]])
        self.assertIn("--reinstall", self.calls[-1])

    def test_what_does_not_build_is_not_installed(self):
        self.build()
        self.stand_in("ninja", "exit 1")
        self.assertEqual(self.run_it("install"), 1)
        self.assertEqual(self.calls, [])


if __name__ == "__main__":
    unittest.main()
