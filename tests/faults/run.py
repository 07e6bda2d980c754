"""Do the tests see a small fault? Puts faults into a copy of the tree one at a time, and tells.

    python tests/faults/run.py                   # all faults, an hour or two
    python tests/faults/run.py ops optim         # those of ops.toml and optim.toml
    python tests/faults/run.py --hinted          # only the test files that each fault names

A fault is a table in one of the .toml files of this folder:

    [[fault]]
    file = "pycnn/losses.py"
    old = "0 <= label_smoothing < 1"         # must occur exactly once in the file
    new = "0 <= label_smoothing <= 1"
    wrong = "a smoothing of 1 is accepted"
    tests = ["test_losses.py"]               # who should see it: these run first, then the others

The tree itself is never changed: it is copied to a temporary folder, and the file is restored there
after each fault; a test that has seen it must pass again then. A fault in csrc/ builds the
extension anew beside that copy, which needs the extra `dev`. The tests run with -x. The exit code
is 1 if a fault was not seen, or its line is not there any more: write it anew then.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST = 1800  # seconds of one run of tests; a fault may make a loop without an end
FAILED, INTERRUPTED = 1, 2  # pytest's exit codes for a test that fails, and a file that cannot load


class Outdated(ValueError):
    """A fault whose place in the code has changed."""


@dataclasses.dataclass(frozen=True)
class Fault:
    file: str
    old: str
    new: str
    wrong: str
    tests: list[str]

    @property
    def is_compiled(self) -> bool:
        return not self.file.startswith("pycnn/")

    def put_into(self, text: str) -> str:
        """The file's text with the fault; Outdated if it is not one certain place."""
        if text.count(self.old) != 1:
            raise Outdated(f"has {text.count(self.old)} times, not once: {self.old}")
        return text.replace(self.old, self.new)


def read_faults(names: list[str]) -> dict[str, Fault]:
    """By "ops 1", "ops 2" ..."""
    paths = [HERE / f"{name}.toml" for name in names] or sorted(HERE.glob("*.toml"))
    faults = {}
    for path in paths:
        for i, table in enumerate(tomllib.loads(path.read_text())["fault"], 1):
            fault = Fault(**table)
            for test in fault.tests:
                if not (ROOT / "tests" / test).is_file():
                    raise ValueError(f"{path.name}, fault {i}: there is no tests/{test}")
            faults[f"{path.stem} {i}"] = fault
    return faults


class Tree:
    """A copy of the checkout in which faults are made."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        left_out = shutil.ignore_patterns(".git", ".hypothesis", "__pycache__", "build", ".venv")
        shutil.copytree(ROOT, self.root, symlinks=True, ignore=left_out)
        self.built = folder / "built"
        self.made = folder / "build"

    def pytest(self, arguments: list[str]) -> tuple[int, str]:
        """(exit code, what it printed); FAILED if it did not end."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if self.built.exists():
            environment["PYTHONPATH"] = str(self.built)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, *arguments],
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return FAILED, f"FAILED {arguments[0]} - did not end"
        return done.returncode, done.stdout + done.stderr

    def build(self) -> None:
        """The extension of this tree, for its tests alone; the objects are kept."""
        options = ["--no-deps", "--no-build-isolation", "--quiet", f"--target={self.built}"]
        options.append(f"--config-settings=build-dir={self.made}")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "."],
            cwd=self.root,
            check=True,
        )

    def seen_by(self, fault: Fault, hinted: bool) -> str | None:
        """The test that saw the fault, or None; Outdated as `put_into`."""
        path = self.root / fault.file
        if not path.is_file():
            raise Outdated("is not there any more")
        before = path.read_text()
        path.write_text(fault.put_into(before))
        try:
            if fault.is_compiled:
                self.build()
            first = [f"tests/{test}" for test in fault.tests]
            found = self.first_failure(first)
            if found is None and not hinted:
                found = self.first_failure([f"--ignore={test}" for test in first])
            return found
        finally:
            path.write_text(before)
            if fault.is_compiled:
                shutil.rmtree(self.built, ignore_errors=True)

    def first_failure(self, arguments: list[str]) -> str | None:
        code, text = self.pytest(arguments)
        if code == 0:
            return None
        if code not in (FAILED, INTERRUPTED):
            raise RuntimeError(f"pytest {' '.join(arguments)} ended with {code}:\n{text}")
        line = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", text, re.MULTILINE)
        if line is None:
            raise RuntimeError(f"pytest {' '.join(arguments)} names no test:\n{text}")
        return line[1].removeprefix("tests/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("areas", nargs="*", help="names of the .toml files; by default all")
    parser.add_argument("--hinted", action="store_true", help="run the named test files only")
    options = parser.parse_args()
    faults = read_faults(options.areas)
    unseen = []
    with tempfile.TemporaryDirectory(prefix="pycnn-faults-") as folder:
        tree = Tree(Path(folder))
        for name, fault in faults.items():
            began = time.monotonic()
            try:
                test = tree.seen_by(fault, options.hinted)
                verdict, note = ("seen", test) if test else ("NOT SEEN", "no test fails")
                if test and tree.first_failure([f"tests/{test}"]) is not None:
                    verdict, note = "UNKNOWN", f"{test} fails without the fault, too"
            except Outdated as error:
                verdict, note = "OUTDATED", str(error)
            unseen += [name] if verdict != "seen" else []
            seconds = f"{time.monotonic() - began:.0f} s"
            print(f"{name:14}{verdict:10}{seconds:>6}  {fault.wrong}")
            print(f"{'':14}{fault.file}: {note}", flush=True)
    print(f"{len(faults) - len(unseen)} of {len(faults)} faults were seen.")
    if unseen:
        print(f"The others: {', '.join(unseen)}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
