# SPDX-License-Identifier: Apache-2.0
"""tools/test itself: what it counts, its closing line and its exit status, with stand-ins for what it runs."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PASSES = "import unittest\nclass Docs(unittest.TestCase):\n    def test_docs(self):\n        pass\n"
FAILS = PASSES.replace("pass", "self.fail('on purpose')")
SKIPS = PASSES.replace("pass", "self.skipTest('on purpose')")

# GoogleTest's report, with these tests.
REPORT = '''#!/bin/bash
for word in "$@"; do case $word in --gtest_output=json:*) report=${word#*json:} ;; esac; done
cat >"$report" <<END
{"testsuites": [{"testsuite": [TESTS]}]}
END
exit STATUS
'''
GOOD = '{"name": "a", "status": "RUN", "result": "COMPLETED"}'
BAD = '{"name": "b", "status": "RUN", "result": "COMPLETED", "failures": [{}]}'
AWAY = '{"name": "c", "status": "RUN", "result": "SKIPPED"}'


class Runner(unittest.TestCase):
    """A tree with the script, one source, one fuzz target, two unit tests and one test each of docs and tools."""

    def setUp(self):
        self.tree = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)
        for directory in ("tools", "src", "tests/docs", "tests/tools", "tests/fuzz", "stand-ins", "build/sanitize/tests"):
            (self.tree / directory).mkdir(parents=True)
        shutil.copy(ROOT / "tools/test", self.tree / "tools/test")
        (self.tree / "src/a.cc").write_text("int main() {}\n")
        (self.tree / "tests/fuzz/parser.cc").write_text("")
        (self.tree / ".clang-tidy").write_text("")
        self.script("tools/setup", "exit 0")
        for program in ("clang-format", "clang-tidy", "shellcheck", "cmake", "ninja"):
            self.script(f"stand-ins/{program}", "exit 0")
        self.script("build/sanitize/tests/fuzz_parser", "exit 0")
        self.unit(GOOD, GOOD)
        (self.tree / "tests/docs/test_a.py").write_text(PASSES)
        (self.tree / "tests/tools/test_a.py").write_text(PASSES)

    def script(self, path, text):
        file = self.tree / path
        file.write_text(f"#!/bin/bash\n{text}\n" if not text.startswith("#!") else text)
        file.chmod(0o755)

    def unit(self, *tests, status=0):
        self.script("build/sanitize/tests/kld_unit",
                    REPORT.replace("TESTS", ", ".join(tests)).replace("STATUS", str(status)))

    def run_it(self, *words):
        done = subprocess.run([self.tree / "tools/test", *words], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "PATH": f"{self.tree}/stand-ins:{os.environ['PATH']}"})
        self.last = done.stdout.splitlines()[-1] if done.stdout else ""
        self.all = done.stdout + done.stderr
        return done.returncode

    def expect(self, status, line):
        self.assertEqual((self.run_it("unit"), self.last), (status, line), self.all)

    def test_all_pass(self):
        # clang-format, shellcheck, clang-tidy, the fuzz target; two of GoogleTest's; one each of docs and tools.
        self.expect(0, "8 passed, 0 failed")

    def test_one_fails(self):
        self.unit(GOOD, BAD, status=1)
        self.expect(1, "7 passed, 1 failed")
        self.assertIn("FAIL  unit: 1 of 2 tests failed", self.all)

    def test_one_is_skipped(self):
        self.unit(GOOD, AWAY)
        self.expect(0, "7 passed, 0 failed, 1 skipped")

    def test_docs_fail_and_skip(self):
        (self.tree / "tests/docs/test_a.py").write_text(FAILS)
        (self.tree / "tests/tools/test_a.py").write_text(SKIPS)
        self.expect(1, "6 passed, 1 failed, 1 skipped")
        self.assertIn("on purpose", self.all)

    def test_a_lint_fails(self):
        self.script("stand-ins/clang-format", "echo not so; exit 1")
        self.expect(1, "7 passed, 1 failed")
        self.assertIn("  | not so", self.all)

    def test_a_fuzz_target_fails(self):
        self.script("build/sanitize/tests/fuzz_parser", "exit 134")
        self.expect(1, "7 passed, 1 failed")

    def test_no_report_is_a_failure(self):
        self.script("build/sanitize/tests/kld_unit", "echo crashed; exit 0")
        self.expect(1, "6 passed, 1 failed")

    def test_no_test_at_all_is_a_failure(self):
        self.unit()
        self.expect(1, "6 passed, 1 failed")

    def test_a_bad_end_is_a_failure(self):
        self.unit(GOOD, GOOD, status=1)
        self.expect(1, "8 passed, 1 failed")

    def test_a_failed_build_lets_no_old_one_pass(self):
        self.script("stand-ins/ninja", "exit 1")
        self.assertEqual(self.run_it("unit"), 1)
        # The build itself, unit and the fuzz target.
        self.assertEqual(self.last, "5 passed, 3 failed", self.all)

    def test_words(self):
        self.assertEqual(self.run_it("nonsense"), 2)
        self.assertEqual(self.run_it("--help"), 0)
        self.assertIn("usage: tools/test [PART]", self.all)


if __name__ == "__main__":
    unittest.main()
