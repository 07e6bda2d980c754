"""`python -m pycnn`, and what all commands say where pycnn refuses to be imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from train_command import ENVIRONMENT

import pycnn
from pycnn._runtime import startup

COMMANDS = ["pycnn", "pycnn.train", "pycnn.predict", "pycnn.onnx"]


def run(module, *arguments, stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**ENVIRONMENT, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_the_commands_are_those_that_there_are():
    folder = Path(pycnn.__file__).parent
    mains = {path.stem for path in folder.rglob("*.py") if "__main__" in path.read_text()}
    assert mains == {"__main__", "train", "predict"}
    assert set(startup.COMMANDS) == set(COMMANDS)


def test_without_arguments_it_says_what_there_is():
    result = run("pycnn")
    assert (result.returncode, result.stderr) == (0, "")
    first, *lines = result.stdout.splitlines()
    assert first.startswith(f"pycnn {pycnn.__version__}, _pycnn at ")
    assert any(line.startswith("threads: ") for line in lines)
    for command in COMMANDS[1:]:
        assert any(line.startswith(f"  python -m {command} ") for line in lines)


def test_version_and_help():
    result = run("pycnn", "--version")
    assert (result.returncode, result.stdout) == (0, f"pycnn {pycnn.__version__}\n")
    result = run("pycnn", "--help")
    assert result.returncode == 0
    for words in ("usage: python -m pycnn ", "--version", "pycnn.train", "pycnn.predict", "Exit"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--verison"], "unrecognized arguments: --verison"),
        (["tarin", "--quiet"], "unrecognized arguments: tarin --quiet"),
        (["--quiet", "train"], "unrecognized arguments: --quiet train"),
    ],
)
def test_a_usage_error_is_a_sentence(arguments, words):
    result = run("pycnn", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("python -m pycnn: ")
    assert words in line
    assert line.endswith("(see --help).")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["--help"]),
        ("train", ["--print-config", "--recipe", "fast"]),
        ("train", ["--frobnicate"]),
        ("train", ["--eval", "no"]),
        ("predict", []),
        ("predict", ["no", "no"]),
    ],
)
def test_a_command_runs_as_a_word_too(command, arguments):
    """`python -m pycnn train` is `python -m pycnn.train`."""
    as_word, alone = run("pycnn", command, *arguments), run(f"pycnn.{command}", *arguments)
    assert as_word.stdout + as_word.stderr
    for part in ("returncode", "stdout", "stderr"):
        assert getattr(as_word, part) == getattr(alone, part)


def test_a_wrong_environment_names_the_command_that_was_meant():
    for argument, name in (("train", "pycnn.train"), ("predict", "pycnn.predict"), ("x", "pycnn")):
        result = run("pycnn", argument, PYCNN_ISA="avx1024")
        assert result.returncode == 2
        assert result.stderr.startswith(f"{name}: PYCNN_ISA: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [[], ["--version"], ["--help"]])
def test_a_stdout_that_takes_nothing_is_a_sentence(arguments):
    with open("/dev/full", "w") as full:
        result = run("pycnn", *arguments, stdout=full)
    assert result.returncode == 1
    assert result.stderr == "pycnn: cannot write its lines: No space left on device.\n"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("PYCNN_ISA", "avx1024", f"this machine can run: {', '.join(pycnn.available_isas())}."),
        ("PYCNN_NUM_THREADS", "two", "expected a whole number of threads from 1 to 4096"),
        ("PYCNN_NUM_THREADS", "0", "expected a whole number of threads from 1 to 4096"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_environment_is_a_usage_error(command, variable, value, words):
    result = run(command, "--help", **{variable: value})
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{command}: {variable}")
    assert f"'{value}'" in line
    assert words in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_of_other_sources_is_a_sentence(command, tmp_path):
    (tmp_path / "_pycnn.py").write_text("source_hash = 'another'\n")
    if not (Path(pycnn.__file__).parent.parent / "csrc").is_dir():
        pytest.skip("only a checkout, with csrc beside pycnn, can tell a stale module")
    result = run(command, PYTHONPATH=f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{command}: the installed _pycnn")
    assert "type: pip install " in line


@pytest.mark.parametrize(
    "code",
    [
        ["-c", "import pycnn"],
        ["-m", "pycnn.recipes"],  # no command
    ],
)
def test_a_program_of_its_own_gets_the_exception(code):
    result = subprocess.run(
        [sys.executable, *code],
        env={**ENVIRONMENT, "PYCNN_ISA": "avx1024"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ImportError: PYCNN_ISA: 'avx1024'" in result.stderr
