# SPDX-License-Identifier: Apache-2.0
"""Man pages, completion and example configuration against the program as it was built.

KLD_BUILD  build directory (build/sanitize)
"""

import gzip
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KLD_BUILD") or ROOT / "build/sanitize").resolve()
KLD = BUILD / "src/kld"
DOCS = BUILD / "docs"


def run(*argv, **options):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60, **options)


def load_generator():
    path = str(ROOT / "packaging/generate-docs")
    loader = importlib.machinery.SourceFileLoader("generate_docs", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("generate_docs", loader))
    loader.exec_module(module)
    return module


def unformatted(roff):
    """The words of a page: roff's escapes undone."""
    text = re.sub(r"\\f[BIR]", "", roff)
    for escape, sign in ((r"\-", "-"), (r"\(ti", "~"), (r"\(ha", "^"), (r"\&", ""), (r"\e", "\\")):
        text = text.replace(escape, sign)
    return text


class Documentation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cli = json.loads(run(KLD, "--dump-cli", check=True).stdout)
        cls.generator = load_generator()
        cls.pages = {path.name[:-3]: gzip.decompress(path.read_bytes()).decode() for path in DOCS.glob("man*/*.gz")}

    def commands(self):
        for command in self.cli["commands"]:
            name = command["link"] or f"kld-{command['name']}"
            yield command, unformatted(self.pages[f"{name}.8"])

    def flags(self, command):
        return [name for option in command["options"] for name in option["names"]]

    # Man pages

    def test_there_is_a_page_for_each_command(self):
        links = {command["link"] or "kld-" + command["name"] for command in self.cli["commands"]}
        self.assertEqual(set(self.pages), {link + ".8" for link in links} | {"kld.8", "kvm.toml.5"})

    def test_pages_are_made_of_what_the_program_says_now(self):
        self.assertEqual(json.loads((DOCS / "cli.json").read_text()), self.cli)

    def test_each_flag_and_argument_is_in_its_page(self):
        for command, page in self.commands():
            options = page.split(".SH OPTIONS", 1)[1].split("\n.SH ", 1)[0]
            for flag in self.flags(command):
                self.assertRegex(options, rf"(?m)^(?:.*, )?{re.escape(flag)}(?:,| |$)")
            for option in command["options"]:
                self.assertIn(option["description"], page)
                self.assertIn(option["positional"], page)

    def test_pages_have_their_sections(self):
        wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "FILES", "SEE ALSO"]
        for name, page in self.pages.items():
            with self.subTest(page=name):
                sections = re.findall(r"^\.SH (.*)$", page, re.M)
                missing = [section for section in wanted if section not in sections]
                # A file has no exit status.
                self.assertEqual(missing, ["EXIT STATUS", "FILES"] if name == "kvm.toml.5" else [])

    def test_each_exit_status_is_explained(self):
        for _, page in self.commands():
            section = page.split(".SH EXIT STATUS", 1)[1].split("\n.SH ", 1)[0]
            self.assertEqual(re.findall(r"^(\d+)$", section, re.M), ["0", "1", "2", "3", "4", "130"])

    def test_examples_use_flags_that_exist(self):
        for command, page in self.commands():
            for example in command["examples"]:
                self.assertIn(example["command"], page)
                for flag in re.findall(r"(?<!\S)(--[a-z-]+|-[a-z](?!\S))", example["command"]):
                    self.assertIn(flag, self.flags(command))

    def test_groff_and_man_do_not_warn(self):
        for path in sorted(DOCS.glob("man*/*.gz")):
            with self.subTest(page=path.name):
                page = gzip.decompress(path.read_bytes()).decode()
                self.assertEqual(run("groff", "-ww", "-z", "-man", "-Tutf8", input=page).stderr, "")
                shown = run("man", "--warnings", "-l", path, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
                self.assertEqual((shown.returncode, shown.stderr), (0, ""))

    def test_json_of_the_list_is_documented(self):
        for page, source in (("kvm-list.8", "src/plan/list_shown.cc"), ("kvm-snap.8", "src/cmd/snap.cc"),
                             ("kvm-snap.8", "src/cmd/rollback.cc"), ("kvm-snapshot.8", "src/cmd/snapshot_run.cc"),
                             ("kvm-snapshot.8", "src/cmd/snapshot_explain.cc")):
            text = (ROOT / source).read_text()
            documented = unformatted(self.pages[page]).split(".SH JSON", 1)[1].split("\n.SH ", 1)[0]
            keys = re.findall(r'\{"([a-z_]+)", (?!")', text)
            self.assertTrue(keys, source)
            for key in keys:
                with self.subTest(page=page, key=key):
                    self.assertRegex(documented, rf"\b{key}\b")

    # Configuration

    def test_each_key_is_documented(self):
        keys = re.findall(r'key == "([a-z_]+)"', (ROOT / "src/run/config.cc").read_text())
        self.assertTrue(keys)
        example = (ROOT / "packaging/kvm.toml").read_text()
        for key in keys:
            with self.subTest(key=key):
                self.assertRegex(unformatted(self.pages["kvm.toml.5"]), rf"(?m)^{key} = ")
                self.assertRegex(example, rf"(?m)^# {key} = ")

    def test_example_is_empty_until_it_is_uncommented(self):
        example = (ROOT / "packaging/kvm.toml").read_text()
        self.assertEqual(tomllib.loads(example), {})
        keys = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", example))
        self.assertEqual(set(keys), {"root", "root_guid", "connect", "keep", "early_deletion"})

    def test_each_variable_is_documented(self):
        sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.cc"))
        for variable in set(re.findall(r'"(KLD_[A-Z_]+)"', sources)):
            for page in ("kld.8", "kvm-list.8", "kvm.toml.5"):
                with self.subTest(variable=variable, page=page):
                    self.assertIn(variable, self.pages[page])

    # Completion

    def complete(self, *words, path="/nonexistent"):
        """What TAB offers after these words; without virsh on the path unless told."""
        script = """
            PATH=$1; shift; source "$1"; shift
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _kld "$1"
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        done = run("/bin/bash", "--norc", "-c", script, "bash", path, DOCS / "completions/kld", *words,
                   cwd=ROOT / "packaging")
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_each_flag_is_completed(self):
        for command, _ in self.commands():
            for words in filter(None, (("kld", command["name"]), command["link"] and (command["link"],))):
                self.assertEqual(self.complete(*words, "-"), set(self.flags(command)))

    def test_commands_are_completed(self):
        names = {command["name"] for command in self.cli["commands"]}
        self.assertEqual(self.complete("kld", ""), names | {"help", "--help", "--version", "--dump-cli"})
        self.assertEqual(self.complete("kld", "help", ""), names)
        self.assertEqual(self.complete("kld", "cl"), {"clone"})

    def test_links_are_completed(self):
        links = {command["link"] for command in self.cli["commands"] if command["link"]}
        last = (DOCS / "completions/kld").read_text().splitlines()[-1]
        self.assertEqual(set(last.split()), {"complete", "-F", "_kld", "kld"} | links)

    def test_words_are_completed_and_are_those_that_the_program_names(self):
        for (name, argument), words in self.generator.WORDS.items():
            with self.subTest(command=name, argument=argument):
                command = next(command for command in self.cli["commands"] if command["name"] == name)
                option = next(option for option in command["options"]
                              if argument in option["names"] or argument == option["positional"])
                for word in words:
                    self.assertRegex(option["description"], rf"(?<![\w-]){word}(?![\w-])")
                before = ("web",) if option["positional"] else ("web", argument)
                self.assertEqual(self.complete("kld", name, *before, ""), set(words))

    def test_files_are_completed(self):
        self.assertEqual(self.complete("kvm-create", "web", "--iso", "kvm.t"), {"kvm.toml"})
        self.assertEqual(self.complete("kvm-create", "web", "--iso", "=", "kvm.t"), {"kvm.toml"})
        self.assertEqual(self.complete("kvm-create", "--ram", "kvm.t"), set())

    def test_machines_are_completed_where_they_exist_already(self):
        with tempfile.TemporaryDirectory() as folder:
            virsh = Path(folder) / "virsh"
            virsh.write_text("#!/bin/sh\nprintf 'web\\nweb-1\\ndb\\n\\n'\n")
            virsh.chmod(0o755)
            path = f"{folder}:/usr/bin:/bin"
            machines = {"web", "web-1", "db"} if os.geteuid() == 0 else set()
            for words in (("kvm-delete", ""), ("kvm-delete", "db", ""), ("kld", "snap", ""), ("kvm-clone", ""),
                          ("kvm-list", "--sort", "used", ""), ("kvm-list", "--sort", "=", "used", "")):
                with self.subTest(words=words):
                    self.assertEqual(self.complete(*words, path=path), machines)
            for words in (("kvm-clone", "web", ""), ("kvm-create", ""), ("kvm-snap", "web", "list", "")):
                with self.subTest(words=words):
                    self.assertEqual(self.complete(*words, path=path), set())

    def test_completion_is_silent_without_libvirt(self):
        self.assertEqual(self.complete("kvm-delete", ""), set())

    def test_shellcheck_has_nothing_to_say(self):
        done = run("shellcheck", "-s", "bash", DOCS / "completions/kld")
        self.assertEqual(done.stdout, "")


class Faults(unittest.TestCase):
    def test_the_table_has_each_command_with_each_fault(self):
        rows = {tuple(cell.strip() for cell in line.split("|")[1:3])
                for line in (ROOT / "bench/FAULTS.md").read_text().splitlines() if line.startswith("|")}
        commands = ["create", "clone", "snap", "snap-delete", "rollback", "undo", "delete", "ghost", "adopt", "prune"]
        faults = ["ZFS call fails", "kill -9", "SIGINT", "SIGTERM", "SIGHUP", "power cut", "libvirtd stopped", "pool full",
                  "datasets read-only", "disk held open"]
        for command in commands:
            for fault in faults:
                # The host would start what it starts by itself before anything is recovered: a row of its own.
                where = "delete of what the host does not start" if (command, fault) == ("delete", "power cut") else command
                with self.subTest(command=command, fault=fault):
                    self.assertIn((where, fault), rows)


class Units(unittest.TestCase):
    def test_systemd_understands_the_service(self):
        unit = (ROOT / "packaging/systemd/kld-recover.service").read_text()
        self.assertIn("ExecStart=/usr/bin/kld recover", unit)
        journal = re.search(r'kJournalDirectory\[\] = "(.*)"', (ROOT / "src/run/journal.h").read_text())[1]
        self.assertIn(f"ConditionDirectoryNotEmpty={journal}", unit)

    def test_directories_are_those_of_the_program(self):
        made = (ROOT / "packaging/systemd/tmpfiles.conf").read_text()
        for source, mode in (("run/journal.h", "0700"), ("run/lock.h", "0700"), ("plan/view.h", "0711")):
            for path in re.findall(r'"(/(?:var/lib|run)/kldload/\S+)"', (ROOT / "src" / source).read_text()):
                with self.subTest(path=path):
                    self.assertRegex(made, rf"(?m)^d {path} +{mode} ")


if __name__ == "__main__":
    unittest.main()
