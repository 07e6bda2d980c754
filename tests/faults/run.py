"""Do the tests see a small fault? Puts faults into a copy of the tree one at a time, and tells.

    python tests/faults/run.py                   # all faults, an hour or two
    python tests/faults/run.py ops optim         # those of ops.toml and optim.toml
    python tests/faults/run.py --hinted          # only the test files that each fault names
    python tests/faults/run.py kernels:3,7-9     # some faults of kernels.toml by their numbers
    python tests/faults/run.py --keep FOLDER     # keeps its copy and objects for the next run

A fault is a table in one of the .toml files of this folder:

    [[fault]]
    file = "pycnn/losses.py"
    old = "0 <= label_smoothing < 1"         # must occur exactly once in the file
    new = "0 <= label_smoothing <= 1"
    wrong = "a smoothing of 1 is accepted"
    tests = ["test_losses.py"]               # who should see it: these run first, then the others

The tree itself is never changed: it is copied to a temporary folder, and the file is restored there
after each fault; a test that has seen it must pass again then. The tests run with -x. The exit
code is 1 if a fault was not seen, or its line is not there any more: write it anew then.

Faults in csrc/ need the extra `dev` and Ninja. The copy is built once, with all its flags; a fault
then compiles the objects that hold it, and they are put back afterwards. CMake is left out of
that, so the hash in the extension is that of the tree without the fault, which the tests see.
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


def numbers_of(picked: str) -> set[int]:
    """3,7-9 -> {3, 7, 8, 9}."""
    ranges = [part.partition("-") for part in picked.split(",") if part]
    return {i for low, _, high in ranges for i in range(int(low), int(high or low) + 1)}


def read_faults(names: list[str]) -> dict[str, Fault]:
    """By "ops 1", "ops 2" ...; a name is ops, or ops:1,2."""
    faults = {}
    for name in names or sorted(path.stem for path in HERE.glob("*.toml")):
        area, _, picked = name.partition(":")
        path, chosen = HERE / f"{area}.toml", numbers_of(picked)
        for i, table in enumerate(tomllib.loads(path.read_text())["fault"], 1):
            if chosen and i not in chosen:
                continue
            fault = Fault(**table)
            for test in fault.tests:
                if not (ROOT / "tests" / test).is_file():
                    raise ValueError(f"{path.name}, fault {i}: there is no tests/{test}")
            faults[f"{path.stem} {i}"] = fault
    return faults


class Tree:
    """A copy of the checkout in which faults are made."""

    def __init__(self, folder: Path, compiles: bool) -> None:
        self.root = folder / "tree"
        left_out = shutil.ignore_patterns(".git", ".hypothesis", "__pycache__", "build", ".venv")
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(ROOT, self.root, symlinks=True, ignore=left_out)
        self.built = folder / "built"  # what the tests import
        self.made = folder / "build"
        self.objects = folder / "objects"  # those without a fault
        shutil.rmtree(self.built, ignore_errors=True)
        if compiles:
            self.build()
            self.keep_objects()

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
        """The extension of this tree, for its tests alone."""
        options = ["--no-deps", "--no-build-isolation", "--quiet", f"--target={self.built}"]
        options.append(f"--config-settings=build-dir={self.made}")
        options.append("--config-settings=cmake.args=-GNinja")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "."],
            cwd=self.root,
            check=True,
        )
        shutil.rmtree(self.built / "pycnn")  # the tests import that of the tree

    def outputs(self) -> list[Path]:
        """What a build makes: objects, precompiled headers and the extension."""
        kinds = (".o", ".gch", ".pch", ".so")
        return [path for path in self.made.rglob("*") if path.suffix in kinds]

    def keep_objects(self) -> None:
        shutil.rmtree(self.objects, ignore_errors=True)
        for path in self.outputs():
            kept = self.objects / path.relative_to(self.made)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept)

    def restore_objects(self) -> None:
        for path in self.outputs():
            kept = self.objects / path.relative_to(self.made)
            if path.stat().st_mtime_ns != kept.stat().st_mtime_ns:
                shutil.copy2(kept, path)
        self.use_extension()

    def use_extension(self) -> None:
        for path in self.made.glob("_pycnn.*"):
            shutil.copy2(path, self.built)

    def compile(self) -> None:
        """The objects of a changed file, and the extension; OSError if it does not compile."""
        rules = "without_cmake.ninja"  # of another name: Ninja does not make it anew
        shutil.copy(self.made / "build.ninja", self.made / rules)
        command = ["ninja", "-f", rules, "_pycnn"]
        done = subprocess.run(command, cwd=self.made, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"does not compile:\n{done.stdout}")
        self.use_extension()

    def seen_by(self, fault: Fault, hinted: bool) -> str | None:
        """The test that saw the fault, or None; Outdated as `put_into`."""
        path = self.root / fault.file
        if not path.is_file():
            raise Outdated("is not there any more")
        before, times = path.read_text(), path.stat()
        path.write_text(fault.put_into(before))
        try:
            if fault.is_compiled:
                try:
                    self.compile()
                finally:
                    path.write_text(before)
                    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            first = [f"tests/{test}" for test in fault.tests]
            found = self.first_failure(first)
            if found is None and not hinted:
                found = self.first_failure([f"--ignore={test}" for test in first])
            return found
        finally:
            path.write_text(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if fault.is_compiled:
                self.restore_objects()

    def first_failure(self, arguments: list[str]) -> str | None:
        code, text = self.pytest(arguments)
        if code == 0:
            return None
        if code < 0:  # a signal: what faulthandler wrote names the test
            at = re.search(r'File ".*/tests/(test_\w+\.py)", line \d+ in (test_\w+)', text)
            return f"{at[1]}::{at[2]}" if at else arguments[0].removeprefix("tests/")
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
    parser.add_argument("--keep", metavar="FOLDER", help="make the copy here, and leave it")
    options = parser.parse_args()
    faults = read_faults(options.areas)
    if options.keep:
        return run(faults, Path(options.keep).resolve(), options.hinted)
    with tempfile.TemporaryDirectory(prefix="pycnn-faults-") as folder:
        return run(faults, Path(folder), options.hinted)


def run(faults: dict[str, Fault], folder: Path, hinted: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    tree = Tree(folder, any(fault.is_compiled for fault in faults.values()))
    unseen = []
    for name, fault in faults.items():
        began = time.monotonic()
        try:
            test = tree.seen_by(fault, hinted)
            verdict, note = ("seen", test) if test else ("NOT SEEN", "no test fails")
            if test and tree.first_failure([f"tests/{test}"]) is not None:
                verdict, note = "UNKNOWN", f"{test} fails without the fault, too"
        except Outdated as error:
            verdict, note = "OUTDATED", str(error)
        except OSError as error:
            verdict, note = "BROKEN", str(error)
        unseen += [name] if verdict != "seen" else []
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"{name:16}{verdict:10}{seconds:>6}  {fault.wrong}")
        print(f"{'':16}{fault.file}: {note}", flush=True)
    print(f"{len(faults) - len(unseen)} of {len(faults)} faults were seen.")
    if unseen:
        print(f"The others: {', '.join(unseen)}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
