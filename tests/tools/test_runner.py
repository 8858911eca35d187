# SPDX-License-Identifier: Apache-2.0
"""tools/test itself: what it counts, its closing line and its exit status, with stand-ins for what it runs."""

import os
import shutil
import subprocess
import tempfile
import time
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

# Stands in for `python3 -m pytest`: writes down its words, and JUnit's report of two tests.
PYTEST = '''import os, pathlib, sys
pathlib.Path("calls").open("a").write(f"pytest {os.environ['KLD_DEB']} {' '.join(sys.argv[1:])}\\n")
if os.environ.get("KLD_WRITE_TABLE"): pathlib.Path("table").write_text(os.environ["KLD_WRITE_TABLE"])
report = next(word.split("=")[1] for word in sys.argv if word.startswith("--junitxml="))
pathlib.Path(report).write_text("<testsuites><testsuite><testcase/><testcase>SECOND</testcase></testsuite></testsuites>")
sys.exit(STATUS)
'''


class Runner(unittest.TestCase):
    """A tree with the script, one source, one fuzz target, two unit tests and one test each of docs and tools."""

    def setUp(self):
        self.tree = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)
        for directory in ("tools", "src", "tests/docs", "tests/tools", "tests/lab", "tests/fuzz", "bench", "stand-ins", "lab",
                          "build/sanitize/tests"):
            (self.tree / directory).mkdir(parents=True)
        shutil.copy(ROOT / "tools/test", self.tree / "tools/test")
        (self.tree / "src/a.cc").write_text("int main() {}\n")
        (self.tree / "tests/fuzz/parser.cc").write_text("")
        (self.tree / ".clang-tidy").write_text("")
        batches = self.tree / "build/sanitize/src/CMakeFiles/a.dir/Unity"
        batches.mkdir(parents=True)
        (batches / "unity_0_cxx.cxx").write_text(f'#include "{self.tree}/src/a.cc"\n')
        self.script("tools/setup", 'echo "setup $*" >>calls')
        self.script("tools/install", 'echo building >&2; echo /the/package.deb')
        self.script("lab/lab", 'echo "lab $*" >>calls')
        self.pytest()
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

    def pytest(self, second="", status=0):
        (self.tree / "pytest.py").write_text(PYTEST.replace("SECOND", second).replace("STATUS", str(status)))

    def calls(self):
        return (self.tree / "calls").read_text().splitlines()

    def environment(self):
        return {**os.environ, "PATH": f"{self.tree}/stand-ins:{os.environ['PATH']}", "XDG_CACHE_HOME": f"{self.tree}/cache"}

    def run_it(self, *words):
        done = subprocess.run([self.tree / "tools/test", *words], capture_output=True, text=True, timeout=120,
                              env=self.environment())
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
        for lint in ("clang-format", "clang-tidy", "shellcheck"):
            with self.subTest(lint=lint):
                self.script(f"stand-ins/{lint}", "echo not so; exit 1")
                for _ in range(2):  # what it has seen to be good it does not look at again: this is not
                    self.expect(1, "7 passed, 1 failed")
                    self.assertIn("  | not so", self.all)
                self.script(f"stand-ins/{lint}", "exit 0")

    def test_sanitizers(self):
        self.script("stand-ins/cmake", 'echo "cmake $*" >>calls')
        self.expect(0, "8 passed, 0 failed")
        self.assertIn("-DKLD_SANITIZE=ON", next(line for line in self.calls() if line.startswith("cmake ")))

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

    def test_lab(self):
        self.assertEqual((self.run_it("lab"), self.last), (0, "2 passed, 0 failed"), self.all)
        *before, pytest = self.calls()
        self.assertEqual(before, ["setup lab", "lab make"])
        self.assertTrue(pytest.startswith("pytest /the/package.deb tests/lab "), pytest)
        self.assertNotIn("--soak", pytest)

    def test_lab_fails_and_skips(self):
        self.pytest("<failure/>", status=1)
        self.assertEqual((self.run_it("lab"), self.last), (1, "1 passed, 1 failed"), self.all)
        self.pytest("<skipped/>")
        self.assertEqual((self.run_it("lab"), self.last), (0, "1 passed, 0 failed, 1 skipped"), self.all)
        self.pytest(status=3)
        self.assertEqual((self.run_it("lab"), self.last), (1, "2 passed, 1 failed"), self.all)

    def test_no_lab_is_a_failure(self):
        self.script("lab/lab", "echo no space; exit 1")
        (self.tree / "pytest.py").write_text("raise SystemExit(1)\n")
        self.assertEqual((self.run_it("lab"), self.last), (1, "0 passed, 2 failed"), self.all)
        self.assertIn("  | no space", self.all)

    def test_all_is_both(self):
        for words in ([], ["all"]):
            self.assertEqual((self.run_it(*words), self.last), (0, "10 passed, 0 failed"), self.all)
        self.assertEqual(self.calls()[0], "setup lab")
        # While the rest compiles, and then once more to see that it is there.
        self.assertEqual(self.calls().count("lab make"), 4)
        self.assertNotIn("--soak", self.calls()[-1])
        self.assertFalse((self.tree / "table").exists())

    def test_the_making_of_the_lab_ends_with_it(self):
        self.script("lab/lab", "echo $$ >making.new; mv making.new making; exec sleep 600")
        self.script("stand-ins/clang-format", "sleep 2")
        with subprocess.Popen([self.tree / "tools/test", "all"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=self.environment()) as run:
            making = self.tree / "making"
            for _ in range(600):
                if making.exists():
                    break
                time.sleep(0.05)
            pid = int(making.read_text())
            run.terminate()
            run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130)
        for _ in range(200):
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.05)
        os.kill(pid, 9)
        self.fail("the lab is still being made")

    def test_soak_leaves_nothing_out(self):
        self.script("build/sanitize/tests/fuzz_parser", 'echo "$2" >runs')
        self.assertEqual((self.run_it("soak"), self.last), (0, "10 passed, 0 failed"), self.all)
        self.assertTrue(self.calls()[-1].endswith(" --soak"), self.calls())
        self.assertEqual((self.tree / "table").read_text(), "1")
        self.assertEqual((self.tree / "build/sanitize/runs").read_text(), "1000000\n")

    def test_what_ci_runs(self):
        (self.tree / ".ci").mkdir()
        shutil.copy(ROOT / ".ci/run", self.tree / ".ci/run")
        self.script("tools/test", 'echo "test $*" >calls; exit 7')
        done = subprocess.run([self.tree / ".ci/run"], cwd=self.tree, timeout=60)
        self.assertEqual((done.returncode, self.calls()), (7, ["test all"]))

    def test_words(self):
        self.assertEqual(self.run_it("nonsense"), 2)
        self.assertEqual(self.run_it("--help"), 0)
        self.assertIn("usage: tools/test [PART]", self.all)


if __name__ == "__main__":
    unittest.main()
